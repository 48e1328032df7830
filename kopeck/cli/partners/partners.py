"""``kopeck partner``: connect, limit, re-key and pause partners.

Rules. A change is a new version of the contract; gateways take it within gateway.contracts_poll_s, without a restart.
Key material is read from files or standard input, never from the command line, where others could see it.

Does not know: what the fields of a contract mean; `kopeck partner fields` asks the adapters.
"""

import json
import secrets
from copy import deepcopy
from datetime import UTC, datetime
from typing import IO, Any

import click
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from adapters.protocols import cautions, contract_from_json, describe_fields
from billing.database.cursors import Cursor
from gateway.partners import keys
from gateway.partners.contracts import add_partner, list_partners, set_partner_state
from gateway.partners.key_material import generated_password
from gateway.partners.keys import KeyWarning, key_warnings, list_keys, warning_sentences
from gateway.partners.records import ContractError
from kopeck.cli.context import INSTANT, Context, pass_context, show_table, shown_name, shown_time
from ratingcore.money import format_minor
from web.access.actors import Actor
from web.access.approval_kinds import CONTRACT, approval_kinds
from web.access.approval_store import Approval
from web.access.approvals import request_or_act
from web.access.audit import changed_facts, record_as
from web.access.rights import Right

Pairs = tuple[str, ...]


@click.group()
def partner() -> None:
    """Partners: their contracts and keys."""


@partner.command("list")
@pass_context
def list_(context: Context) -> None:
    """List partners with protocol, state and clearing balance."""
    rows = context.in_transaction(list_partners)
    show_table(
        ("code", "name", "state", "protocol", "version", "clearing balance"),
        [
            (row.code, row.name, row.state, row.protocol, str(row.version), format_minor(row.clearing_balance))
            for row in rows
        ],
        right=("version", "clearing balance"),
    )


@partner.command()
@click.argument("code")
@pass_context
def show(context: Context, code: str) -> None:
    """Show a partner's contract (as JSON that `set --file` takes) and keys."""

    async def work(cur: Cursor) -> tuple[Any, list[Any], list[KeyWarning]]:
        passphrase = context.settings.gateway.key_passphrase
        return await _row(cur, code), await list_keys(cur, code), await key_warnings(cur, code, passphrase=passphrase)

    row, keys, warnings = context.in_transaction(work)
    click.echo(f"{row.code}: {row.name}, {row.state}, contract version {row.version}")
    click.echo(json.dumps(row.body, ensure_ascii=False, indent=2, sort_keys=True))
    show_table(
        ("key", "purpose", "valid from", "valid to", "by"),
        [(str(key[0]), key[1], shown_time(key[2]), shown_time(key[3]), key[4]) for key in keys],
        right=("key",),
    )
    for sentence in warning_sentences(warnings):
        click.echo(sentence)


@partner.command()
@click.argument("protocol", required=False)
def fields(protocol: str | None) -> None:
    """Explain the fields of a contract; with PROTOCOL those of its dialect too."""
    try:
        notes = describe_fields(protocol)
    except ValueError as error:
        raise ContractError(str(error)) from error
    show_table(("field", "type", "default", "meaning"), [tuple(note) for note in notes])


@partner.command()
@click.argument("code")
@click.option("--name", required=True, help="Name for people.")
@click.option("--protocol", help="Protocol the partner speaks.")
@click.option("--file", "file", type=click.File("rb"), help="Contract as JSON.")
@click.option("--set", "pairs", multiple=True, metavar="FIELD=VALUE", help="A field of the contract; value as JSON.")
@pass_context
def add(context: Context, code: str, name: str, protocol: str | None, file: IO[bytes] | None, pairs: Pairs) -> None:
    """Connect a partner; its address is /pay/CODE.

    For example: kopeck partner add qiwi --name QIWI --protocol osmp --set max_minor=1500000
    """
    body = _from_file(file) if file else {}
    if protocol:
        body["protocol"] = protocol
    if "protocol" not in body:
        raise click.UsageError("say --protocol, or give a contract with --file")
    body = _changed(body, pairs, ())

    async def work(cur: Cursor, who: Actor) -> None:
        await add_partner(cur, code, name, body, who.name)
        changes = changed_facts({}, {"name": name, **body})
        await record_as(cur, who, "partner_added", "partner", code, changes, protocol=body["protocol"])

    context.act(Right.PARTNERS_CHANGE, work)
    _caution(code, body)
    click.echo(f"partner {code} is connected at /pay/{code}; give it keys with `kopeck partner key add {code}`")


@partner.command("set")
@click.argument("code")
@click.option("--file", "file", type=click.File("rb"), help="The whole contract as JSON, in place of the present one.")
@click.option("--unset", multiple=True, metavar="FIELD", help="Go back to a field's default.")
@click.option("--why", default="by the command", help="The reason, for a second person and the record.")
@click.argument("pairs", nargs=-1, metavar="[FIELD=VALUE]...")
@pass_context
def set_(context: Context, code: str, file: IO[bytes] | None, unset: Pairs, pairs: Pairs, why: str) -> None:
    """Change a partner's contract: a new version with these fields.

    Values are JSON, or plain text. For example: kopeck partner set qiwi max_minor=500000 dialect.cancel=prv_txn
    """
    if not (file or pairs or unset):
        raise click.UsageError("say what to change: FIELD=VALUE, --unset FIELD or --file")
    whole = _from_file(file) if file else None

    async def work(cur: Cursor, who: Actor) -> tuple[dict[str, Any], int, bool] | Approval:
        row = await _row(cur, code)
        body = _changed(row.body if whole is None else whole, pairs, unset)
        if body == row.body:
            return body, row.version, False
        arguments = {"code": code, "body": body, "version": row.version}
        kinds = approval_kinds(context.settings.billing.second_person_above_minor)
        key = f"{code}-{row.version}-{secrets.token_hex(8)}"
        outcome = await request_or_act(cur, kinds, CONTRACT, arguments, who, key=key, why=why, now=datetime.now(UTC))
        return outcome.approval or (body, outcome.result["version"], True)

    done = context.act(Right.PARTNERS_CHANGE, work)
    if isinstance(done, Approval):
        click.echo(f"request {done.id} waits for a second person: kopeck --as LOGIN approval approve {done.id}")
        return
    body, version, is_new = done
    _caution(code, body)
    click.echo(f"partner {code} has contract version {version}{'' if is_new else ', as before'}")


@partner.command()
@click.argument("code")
@pass_context
def pause(context: Context, code: str) -> None:
    """Answer a partner's every call with its protocol's temporary code."""
    _set_state(context, code, "paused")


@partner.command()
@click.argument("code")
@pass_context
def resume(context: Context, code: str) -> None:
    """Serve a paused partner again."""
    _set_state(context, code, "active")


@partner.group()
def key() -> None:
    """Keys of a partner; two may be valid at once while one is replaced."""


@key.command("add")
@click.argument("code")
@click.option(
    "--purpose",
    required=True,
    type=click.Choice(["verify", "sign", "basic", "secret"]),
    help="verify: the partner's public key; sign: our private key; basic: user:password; secret: a shared secret.",
)
@click.option("--file", "file", type=click.File("rb"), help="File with the material (PEM, or one line); - reads stdin.")
@click.option(
    "--generate",
    is_flag=True,
    help="Make it here and print what the partner needs: of sign the public key, of basic CODE:password, the secret.",
)
@click.option("--bits", type=click.Choice(["1024", "2048", "3072", "4096"]), default="2048", help="With --generate.")
@click.option("--shared", is_flag=True, help="Take a verify key that another partner has too; know what you do.")
@click.option("--from", "valid_from", type=INSTANT, help="Valid from; else from now.")
@click.option("--to", "valid_to", type=INSTANT, help="Valid until; else without end.")
@pass_context
def add_key(
    context: Context,
    code: str,
    purpose: str,
    file: IO[bytes] | None,
    generate: bool,
    bits: str,
    shared: bool,
    valid_from: datetime | None,
    valid_to: datetime | None,
) -> None:
    """Add a key beside those there are."""
    if generate == bool(file):
        raise click.UsageError("give either --file or --generate")
    if generate and purpose == "verify":
        raise click.UsageError("--generate makes what is ours to choose: it goes with --purpose sign, basic or secret")
    material, public = _made(purpose, code, int(bits)) if generate else (_text(file), "")

    async def work(cur: Cursor, who: Actor) -> tuple[int, list[KeyWarning]]:
        key_id = await keys.add_key(
            cur,
            code,
            purpose,
            material,
            who.name,
            passphrase=context.settings.gateway.key_passphrase,
            needs_passphrase=bool(context.settings.database.dsn),
            valid_from=valid_from,
            valid_to=valid_to,
            shared=shared,
        )
        await record_as(cur, who, "partner_key_added", "partner", code, key=key_id, purpose=purpose)
        return key_id, await key_warnings(cur, code, key_id, passphrase=context.settings.gateway.key_passphrase)

    key_id, warnings = context.act(Right.PARTNERS_CHANGE, work)
    click.echo(f"key {key_id} of partner {code} is added", err=bool(public))
    for sentence in warning_sentences(warnings):
        click.echo(sentence, err=True)
    if public:
        click.echo(public, nl=False)


@key.command("retire")
@click.argument("key_id", type=int)
@click.option("--at", type=INSTANT, help="When it ends; else now.")
@pass_context
def retire_key(context: Context, key_id: int, at: datetime | None) -> None:
    """End a key's validity."""
    moment = at or datetime.now(UTC)

    async def work(cur: Cursor, who: Actor) -> None:
        code = await keys.retire_key(cur, key_id, moment)
        await record_as(cur, who, "partner_key_retired", "partner", code, key=key_id, at=moment.isoformat())

    context.act(Right.PARTNERS_CHANGE, work)
    click.echo(f"key {key_id} ends at {shown_time(moment)}")


def _caution(code: str, body: dict[str, Any]) -> None:
    """Say what the contract allows that few mean; it has been stored, so it is one."""
    for sentence in cautions(contract_from_json(0, code, 1, body, True)):
        click.echo(f"warning: {sentence}", err=True)


def _set_state(context: Context, code: str, state: str) -> None:
    async def work(cur: Cursor, who: Actor) -> None:
        before = (await _row(cur, code)).state
        await set_partner_state(cur, code, state)
        action = "partner_paused" if state == "paused" else "partner_resumed"
        await record_as(cur, who, action, "partner", code, changed_facts({"state": before}, {"state": state}))

    context.act(Right.PARTNERS_CHANGE, work)
    click.echo(f"partner {code} is {state}")


async def _row(cur: Cursor, code: str) -> Any:
    for row in await list_partners(cur):
        if row.code == code:
            return row
    raise ContractError(f"there is no partner {code[:40]!r}")


def _from_file(file: IO[bytes]) -> dict[str, Any]:
    try:
        body = json.loads(file.read())
    except ValueError as error:
        raise click.UsageError(f"{shown_name(file)} is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise click.UsageError(f"{shown_name(file)}: a contract must be a JSON object of fields")
    return body


def _changed(body: dict[str, Any], pairs: Pairs, unset: Pairs) -> dict[str, Any]:
    """The body with fields set and unset; ``dialect.x`` names a field of the dialect."""
    changed = deepcopy(body)
    for name in unset:
        section, _, field = name.rpartition(".")
        (changed.get(section, {}) if section else changed).pop(field, None)
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise click.UsageError(f"{pair[:60]!r} is not FIELD=VALUE")
        section, _, field = name.rpartition(".")
        place = changed.setdefault(section, {}) if section else changed
        if not isinstance(place, dict):
            raise click.UsageError(f"{section} is not an object of fields")
        place[field] = _json_or_text(text)
    return changed


def _json_or_text(text: str) -> Any:
    """``500000``, ``true``, ``["a"]`` as JSON; anything else is the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _text(file: IO[bytes] | None) -> str:
    assert file is not None
    try:
        return file.read().decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{shown_name(file)} is not text; a binary (DER) key? PEM is wanted") from error


def _made(purpose: str, code: str, bits: int) -> tuple[str, str]:
    """New material, and what of it the partner is told."""
    if purpose == "sign":
        return _generated(bits)
    material = f"{code}:{generated_password()}" if purpose == "basic" else generated_password()
    return material, material + "\n"


def _generated(bits: int) -> tuple[str, str]:
    """A new private key and its public half, both PEM."""
    private = rsa.generate_private_key(public_exponent=65_537, key_size=bits)
    return (
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
        private.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode(),
    )
