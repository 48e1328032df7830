"""Demo data for a first look: two partners with test keys, subscribers with money, one person, a month's invoices.

Rules. Made once, on the first start of the embedded databases, in one transaction (but for the month that is billed,
kopeck.local.demo_billing); everything in it goes the ways a real installation goes (contracts, keys, transfers, a
billing run). The names are made up from common ones, the numbers are those of no operator's present subscribers by
intent only: do not call them. Secrets of the demo lie in ``data_dir/demo``, readable by the owner alone, and are worth
nothing elsewhere.

Does not know: how partners' protocols are decoded; requests are built by the adapters' client side.
"""

import itertools
import multiprocessing
import random
import secrets
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from adapters import cyberplat, osmp
from adapters.messages import Check, Keys, Pay
from adapters.protocols import contract_from_json
from billing.database.cursors import Cursor
from billing.ledger.account_store import create_accounts, system_account
from billing.ledger.accounts import NewAccount
from billing.ledger.transfer_store import post_transfers
from billing.ledger.transfers import Transfer
from gateway.partners.contracts import add_partner, list_partners
from gateway.partners.keys import add_key
from kopeck.databases.postgres import write_private
from kopeck.databases.transactions import in_transaction
from kopeck.local.store import add_opening_posting, subscriber_ids, unbilled_since
from kopeck.settings import Settings
from ratingcore.money import Minor
from web.access.rights import EVERYTHING
from web.access.users import add_user

ACTOR = "system:demo"
LOGIN = "admin"
CYBERPLAT, OSMP = "cyberplat-demo", "osmp-demo"
SUBSCRIBERS = 3_000
#: Every so many-th subscriber is inactive, so that a refusal can be tried.
INACTIVE_EVERY = 100
#: The subscriber the printed lines pay; always active.
FIRST_NUMBER = 79161234567

_SURNAMES = (
    "Иванов Смирнов Кузнецов Попов Васильев Петров Соколов Михайлов Новиков Фёдоров Морозов Волков "
    "Алексеев Лебедев Семёнов Егоров Павлов Козлов Степанов Николаев Орлов Андреев Макаров Никитин "
    "Захаров Зайцев Соловьёв Борисов Яковлев Григорьев Романов Воробьёв Сергеев Кузьмин Фролов "
    "Александров Дмитриев Королёв Гусев Киселёв"
)
_MEN = (
    "Александр Сергей Дмитрий Андрей Алексей Максим Евгений Иван Михаил Артём Николай Владимир Павел Роман Игорь Олег"
)
_WOMEN = (
    "Анна Мария Елена Ольга Наталья Екатерина Татьяна Ирина Юлия Светлана Дарья Анастасия Ксения Вера Полина Галина"
)
_FATHERS = (
    "Александрович Сергеевич Дмитриевич Андреевич Алексеевич Иванович Михайлович Николаевич Владимирович "
    "Павлович Олегович Петрович Викторович Борисович"
)


@dataclass(frozen=True, slots=True)
class _DemoSecrets:
    password: str
    osmp_password: str
    partner_key: rsa.RSAPrivateKey


def make_demo(settings: Settings, dsn: str) -> bool:
    """Fill an empty database, or finish what a killed start began; False when there was nothing to do.

    In a process of its own: what billing imports, and the threads that brings along, are no business of the process
    that keeps others alive.
    """
    if in_transaction(dsn, _is_complete):
        return False
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawning, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        pool.submit(_make, settings, dsn).result()
    return True


async def _is_complete(cur: Cursor) -> bool:
    return bool(await list_partners(cur)) and await unbilled_since(cur, ACTOR) is None


def _make(settings: Settings, dsn: str) -> None:
    from kopeck.local.demo_billing import (  # heavy: this process only
        PEOPLE,
        bill_month,
        month_before,
        open_for_business,
    )

    people = [(account.number, account.name) for account, _ in itertools.islice(_subscribers(), PEOPLE)]
    keys = _load_or_make_secrets(settings)

    async def fill(cur: Cursor) -> None:
        if not await list_partners(cur):
            await _fill(cur, keys, settings.gateway.key_passphrase)
            await open_for_business(cur, people, month_before(datetime.now(UTC)), ACTOR)

    in_transaction(dsn, fill)
    since = in_transaction(dsn, lambda cur: unbilled_since(cur, ACTOR))
    if since is not None:
        bill_month(dsn, _folder(settings), [number for number, _ in people], since, ACTOR)


def demo_lines(settings: Settings, now: datetime) -> list[str]:
    """What `kopeck run` prints for people: the login, and three requests with fresh ids that work as they stand."""
    if not _folder(settings).exists():
        return []
    keys = _load_or_make_secrets(settings)
    scheme = "https" if settings.gateway.tls_cert else "http"
    address = f"{scheme}://{_reachable(settings.gateway.host)}:{settings.gateway.port}/pay"
    curl = f"curl -sS{' -k' if settings.gateway.tls_cert else ''}"
    fresh = itertools.count(int(now.timestamp() * 1000))  # ids of 13 digits that no earlier start has used
    account, amount = str(FIRST_NUMBER), Minor(25_000)
    check = Check(account, amount=amount, key=str(next(fresh)))
    pay = Pay(str(next(fresh)), account, amount, partner_time=now)
    signed = Pay(str(next(fresh)), str(FIRST_NUMBER + 1), amount, service="1", partner_time=now)
    osmp_contract = contract_from_json(0, OSMP, 1, _OSMP_BODY, True)
    cyberplat_contract = contract_from_json(0, CYBERPLAT, 1, _CYBERPLAT_BODY, True)
    basic = f"-u {OSMP}:{keys.osmp_password}"
    return [
        f"{curl} {basic} '{address}/{OSMP}?{osmp.build(check, osmp_contract, Keys()).decode()}'",
        f"{curl} {basic} '{address}/{OSMP}?{osmp.build(pay, osmp_contract, Keys()).decode()}'",
        f"{curl} '{address}/{CYBERPLAT}?"
        f"{cyberplat.build(signed, cyberplat_contract, Keys(sign=keys.partner_key)).decode()}' | iconv -f cp1251",
    ]


def demo_password(settings: Settings) -> str:
    """The generated password of the demo's administrator; empty where there is no demo."""
    return _load_or_make_secrets(settings).password if _folder(settings).exists() else ""


_COMMON_BODY: dict[str, Any] = {
    "account_pattern": "7[0-9]{10}",
    "min_minor": 100,
    "max_minor": 1_500_000,
    "display": ["name"],
    "cancel_allowed": True,
}
_CYBERPLAT_BODY = _COMMON_BODY | {"protocol": "cyberplat", "services": ["1"]}
_OSMP_BODY = _COMMON_BODY | {"protocol": "osmp", "dialect": {"cancel": "prv_txn", "status": "txn_id"}}


async def _fill(cur: Cursor, keys: _DemoSecrets, passphrase: str) -> None:
    await _connect_partners(cur, keys, passphrase)
    await _open_accounts(cur)
    await _add_person(cur, keys.password)


async def _connect_partners(cur: Cursor, keys: _DemoSecrets, passphrase: str) -> None:
    await add_partner(cur, CYBERPLAT, "КиберПлат (демо)", _CYBERPLAT_BODY, ACTOR)
    await add_partner(cur, OSMP, "ОСМП (демо)", _OSMP_BODY, ACTOR)
    public = keys.partner_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    await add_key(cur, CYBERPLAT, "verify", public.decode(), ACTOR)
    await add_key(cur, CYBERPLAT, "sign", _pem(_new_key()), ACTOR, passphrase=passphrase)
    await add_key(cur, OSMP, "basic", f"{OSMP}:{keys.osmp_password}", ACTOR)


async def _open_accounts(cur: Cursor) -> None:
    """Subscribers, and what they brought along: one manual posting with a transfer each."""
    wanted = list(_subscribers())
    await create_accounts(cur, [account for account, _ in wanted])
    posting_id = await add_opening_posting(cur, ACTOR)
    adjustment = await system_account(cur, "adjustment", "", "RUB")
    ids = await subscriber_ids(cur)
    transfers = [
        Transfer("manual", posting_id, f"open-{ids[account.number]}", adjustment, ids[account.number], amount, "RUB")
        for account, amount in wanted
        if amount
    ]
    await post_transfers(cur, transfers)


def _subscribers() -> Iterator[tuple[NewAccount, Minor]]:
    """The same people at every first start: what a demo shows should not depend on luck."""
    chance = random.Random(2011)
    number = FIRST_NUMBER
    for index in range(SUBSCRIBERS):
        state = "inactive" if index % INACTIVE_EVERY == INACTIVE_EVERY - 1 else "active"
        opening = Minor(chance.choice((0, chance.randrange(100, 300_000))))
        yield NewAccount(str(number), name=_name(chance), state=state), opening
        number += 1 if index < 10 else chance.randrange(1, 2_000)


def _name(chance: random.Random) -> str:
    surname, father = chance.choice(_SURNAMES.split()), chance.choice(_FATHERS.split())
    if chance.random() < 0.5:
        return f"{surname} {chance.choice(_MEN.split())} {father}"
    return f"{surname}а {chance.choice(_WOMEN.split())} {father.removesuffix('ич')}на"


async def _add_person(cur: Cursor, password: str) -> None:
    await add_user(cur, LOGIN, password, "administrator", by=EVERYTHING, actor=ACTOR)


def _folder(settings: Settings) -> Path:
    return settings.data_path() / "demo"


def _load_or_make_secrets(settings: Settings) -> _DemoSecrets:
    """Written before the database is filled, so that a start killed in between finds the same ones."""
    folder = _folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    key_path = folder / "cyberplat-demo-private-key.pem"
    if not key_path.exists():
        write_private(key_path, _pem(_new_key()))
    key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError(f"{key_path} holds no RSA key: remove the folder {folder} and the database with it")
    return _DemoSecrets(_text(folder / "admin-password"), _text(folder / "osmp-demo-password"), key)


def _text(path: Path) -> str:
    if not path.exists():
        write_private(path, secrets.token_urlsafe(12) + "\n")
    return path.read_text("utf-8").strip()


def _new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65_537, key_size=2048)


def _pem(key: rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _reachable(host: str) -> str:
    """The address to type for a host that is listened on."""
    return "127.0.0.1" if host in ("", "0.0.0.0") else f"[{host}]" if ":" in host else host
