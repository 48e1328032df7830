"""``kopeck customer``: customers, the tree they form, who pays, and the legal entities that sell to them.

Rules. Status 2 for what cannot be, with nothing changed. Repeating a command changes nothing twice. What changed is on
the audit record, from what to what, in the same transaction.

Does not know: the rules (billing.customers.customers), files of customers (billing.customers.importer).
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import IO, Any, TypeVar

import click

from billing.customers.customers import add_account as add_to_customer
from billing.customers.customers import (
    add_customer,
    close_customer,
    edit_customer,
    move_customer,
    recordable,
)
from billing.customers.importer import import_customers
from billing.customers.legal_entities import set_entity
from billing.customers.legal_entities_store import list_entities as all_of_them
from billing.customers.records import BilledAccount, Customer, FurtherAccount, LegalEntity, NewCustomer
from billing.customers.rules import changed, merge_texts
from billing.customers.store import accounts_of, find_customer, list_customers, lock_customer
from billing.database.cursors import Cursor
from billing.database.locks import hold_customer_tree
from billing.files.tables import Loaded
from billing.orders.store import list_orders
from kopeck.cli.context import CHARSET, AliasedOption, Context, pass_context, show_table, shown_name, shown_time
from kopeck.cli.importing import run_import
from kopeck.cli.output import AS_JSON, ORDER_HEADINGS, order_json, order_row, show_json, suspended_words
from ratingcore.money import format_minor
from web.access.actors import Actor
from web.access.audit import record_as
from web.access.rights import Right

T = TypeVar("T")

PAYS = click.option("--parent-pays/--pays-himself", default=False, help="Who gets the invoices: the parent, or he.")


class Texts(click.ParamType):  # type: ignore[type-arg]
    """``name=text``."""

    name = "name=text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Text to a pair."""
        if isinstance(value, tuple):
            return value
        name, sign, text = str(value).partition("=")
        if not sign:
            self.fail(f"{value!r} is not name=text", param, ctx)
        return name.strip(), text.strip()


CONTACT = click.option("--contact", "contacts", type=Texts(), multiple=True, help="person, email, phone or address.")
DETAIL = click.option("--detail", "details", type=Texts(), multiple=True, help="inn or kpp of a company.")


async def recorded(cur: Cursor, who: Actor, number: str, action: str, work: Callable[[Cursor], Awaitable[T]]) -> T:
    """Change a customer, and put what changed on the audit record. Other changes of it wait."""
    if action != "customer_changed":  # the tree stays as it is, so an import may be under way
        await hold_customer_tree(cur)
    await lock_customer(cur, number)
    before = await recordable(cur, number)
    done = await work(cur)
    changes = changed(before, await recordable(cur, number))
    if changes:
        await record_as(cur, who, action, "customer", number, changes)
    return done


def _change(context: Context, number: str, action: str, work: Callable[[Cursor], Awaitable[T]]) -> T:
    return context.act(Right.CUSTOMERS_CHANGE, lambda cur, who: recorded(cur, who, number, action, work))


@click.group()
def customer() -> None:
    """Customers: who buys, who pays, and where invoices go. docs/orders.md walks through a whole life."""


@customer.command()
@click.argument("number")
@click.option("--name", default="", help="Name for people and invoices.")
@click.option("--group", default="", help="Customer group: prices and dunning go by it.")
@click.option("--parent", default="", metavar="NUMBER", help="The parent customer.")
@PAYS
@click.option("--language", "--lang", cls=AliasedOption, default="ru", show_default=True, help="Of invoices: ru or en.")
@CONTACT
@DETAIL
@click.option(
    "--account", default="", metavar="NUMBER", help="Its number; else the customer's. One of nobody's is taken."
)
@click.option("--kind", default="subscriber", show_default=True, help="subscriber, or prepaid: may never owe.")
@click.option("--currency", default="RUB", show_default=True)
@click.option("--zone", default="Europe/Moscow", show_default=True, help="Where its days begin (IANA).")
@click.option("--legal-entity", default="main", show_default=True, help="Who sells to it.")
@click.option("--due-days", type=int, default=14, show_default=True, help="From an invoice's date to its due date.")
@pass_context
def add(context: Context, /, **facts: Any) -> None:
    """Add a customer and its account; the very same customer again is nothing new."""
    new = NewCustomer(**{**facts, "contacts": dict(facts["contacts"]), "details": dict(facts["details"])})

    is_new = _change(context, new.number, "customer_added", lambda cur: add_customer(cur, new))
    click.echo(f"customer {new.number} {'is added' if is_new else 'was there already, just so'}")


@customer.command()
@click.argument("number")
@AS_JSON
@pass_context
def show(context: Context, number: str, as_json: bool) -> None:
    """Show a customer, its accounts, children and orders."""

    async def work(cur: Cursor) -> Any:
        found = await find_customer(cur, number)
        children = await list_customers(cur, parent=number, limit=1_000)
        return found, await accounts_of(cur, found.id), children, await list_orders(cur, customer=number, limit=1_000)

    found, accounts, children, orders = context.in_transaction(work)
    if as_json:
        parts = {
            "accounts": [_account_json(one) for one in accounts],
            "children": [one.facts.number for one in children],
            "orders": [order_json(one) for one in orders],
        }
        show_json(_customer_json(found) | parts)
        return
    _tell(found)
    if children:
        click.echo(f"children: {', '.join(one.facts.number for one in children)}")
    show_table(_ACCOUNT_HEADINGS, [_account_row(one) for one in accounts], right=("balance", "due days"))
    show_table(ORDER_HEADINGS, [order_row(one) for one in orders], right=("quantity",))


def _tell(found: Customer) -> None:
    facts = found.facts
    click.echo(f"{facts.number}  {facts.name or '(no name)'}")
    click.echo(
        f"{_state(found)}, group {facts.group or '-'}, language {facts.language}, since {shown_time(found.created_at)}"
    )
    if facts.parent:
        click.echo(f"child of {facts.parent}, {'who pays' if facts.parent_pays else 'pays himself'}")
    for name, text in [*facts.contacts.items(), *facts.details.items()]:
        click.echo(f"{name}: {text}")


def _state(one: Customer | BilledAccount) -> str:
    """The state, and why services are suspended."""
    return ", ".join([one.state, *map(suspended_words, one.suspended)])


def _customer_json(found: Customer) -> dict[str, Any]:
    facts = asdict(found.facts)
    for name in ("account", "kind", "currency", "zone", "legal_entity", "due_days"):
        del facts[name]  # they are the account's
    return facts | {"state": found.state, "suspended": found.suspended, "created_at": found.created_at}


_ACCOUNT_HEADINGS = ("account", "kind", "state", "balance", "currency", "paid by", "zone", "sold by", "due days")


def _account_row(one: BilledAccount) -> tuple[str, ...]:
    balance, paid_by = format_minor(one.balance_minor), "itself" if one.payer_id == one.id else one.payer
    return (
        *(one.number, one.kind, _state(one), balance, one.currency),
        *(paid_by, one.zone, one.legal_entity, str(one.due_days)),
    )


def _account_json(one: BilledAccount) -> dict[str, Any]:
    return {name: value for name, value in asdict(one).items() if name not in ("id", "payer_id")}


@customer.command("list")
@click.option("--group", help="Only of this group.")
@click.option("--parent", metavar="NUMBER", help="Only children of this customer.")
@click.option("--state", type=click.Choice(["active", "closed"]))
@click.option("--after", default="", metavar="NUMBER", help="From the one after this number.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True)
@AS_JSON
@pass_context
def list_(context: Context, /, as_json: bool, **wanted: Any) -> None:
    """List customers in order of their numbers."""
    found = context.in_transaction(lambda cur: list_customers(cur, **wanted))
    if as_json:
        show_json([_customer_json(one) for one in found])
        return
    show_table(
        ("customer", "name", "group", "parent", "pays", "account", "state"),
        [
            (
                *(one.facts.number, one.facts.name, one.facts.group or "-", one.facts.parent or "-"),
                *("parent" if one.facts.parent_pays else "himself", one.facts.account, _state(one)),
            )
            for one in found
        ],
    )


@customer.command()
@click.argument("number")
@click.option("--name")
@click.option("--group")
@click.option("--language", "--lang", cls=AliasedOption)
@CONTACT
@DETAIL
@click.option("--zone", help="Of all its accounts, for orders to come; those there are keep theirs.")
@click.option("--legal-entity", help="Who sells to it from the next invoice on, on all its accounts.")
@click.option("--due-days", type=int, help="Of all its accounts.")
@pass_context
def edit(context: Context, /, number: str, **given: Any) -> None:
    """Change facts of a customer; what is not named stays. `--contact email=` takes the email away."""
    changes = {name: value for name, value in given.items() if value not in (None, ())}
    for name in ("contacts", "details"):
        if name in changes:
            changes[name] = dict(changes[name])
    if not changes:
        raise click.UsageError("say what to change")

    _change(context, number, "customer_changed", lambda cur: edit_customer(cur, number, changes))
    click.echo(f"customer {number} is changed")


@customer.command()
@click.argument("number")
@click.option("--parent", metavar="NUMBER", help="The new parent.")
@click.option("--no-parent", is_flag=True, help="Take the parent away.")
@PAYS
@pass_context
def move(context: Context, number: str, parent: str | None, no_parent: bool, parent_pays: bool) -> None:
    """Give a customer a parent, another one or none, and say who pays.

    Future invoices go to who pays then, with what is not billed yet; invoices there are stay where they are.
    """
    if bool(parent) == no_parent:
        raise click.UsageError("say --parent NUMBER or --no-parent")

    async def work(cur: Cursor, who: Actor) -> None:
        to = (number, parent or "", parent_pays, who.name)
        await recorded(cur, who, number, "customer_moved", lambda cur: move_customer(cur, *to))

    context.act(Right.CUSTOMERS_CHANGE, work)
    where = (
        f"is a child of {parent}, {'who pays' if parent_pays else 'and pays himself'}"
        if parent
        else "is nobody's child"
    )
    click.echo(f"customer {number} {where}")


@customer.command()
@click.argument("number")
@pass_context
def close(context: Context, number: str) -> None:
    """Close a customer and its accounts for good: when all is billed and paid and no child is left."""

    async def work(cur: Cursor, who: Actor) -> bool:
        return await recorded(cur, who, number, "customer_closed", lambda cur: close_customer(cur, number))

    click.echo(f"customer {number} is closed{'' if context.act(Right.CUSTOMERS_CHANGE, work) else ' already'}")


@customer.group()
def account() -> None:
    """Further accounts of a customer, such as one in another currency."""


@account.command("add")
@click.argument("number")
@click.argument("account_number", metavar="ACCOUNT")
@click.option("--kind", default="", help="subscriber, or prepaid: may never owe.")
@click.option("--currency", default="", metavar="RUB")
@click.option("--zone", default="", help="Where its days begin (IANA).")
@click.option("--legal-entity", default="", help="Who sells to it.")
@click.option("--due-days", type=int, help="From an invoice's date to its due date.")
@pass_context
def add_account(context: Context, /, number: str, account_number: str, **named: Any) -> None:
    """Give customer NUMBER another account, opened now or one of nobody's; the very same again is nothing new.

    What is not named is as on its first account. A parent that pays for the customer pays for it too, in its currency.
    """
    further = FurtherAccount(account_number, **named)

    is_new = _change(context, number, "customer_account_added", lambda cur: add_to_customer(cur, number, further))
    click.echo(f"account {account_number} of {number} {'is added' if is_new else 'was there already, just so'}")


@customer.group()
def entity() -> None:
    """Legal entities: who sells, what invoices show of them, and how invoices are numbered."""


@entity.command("list")
@AS_JSON
@pass_context
def list_entities(context: Context, as_json: bool) -> None:
    """List legal entities."""
    found = context.in_transaction(lambda cur: all_of_them(cur))
    if as_json:
        show_json([asdict(one) for one in found])
        return
    show_table(
        ("entity", "name", "invoices", "credit notes", "details"),
        [
            (one.number, one.name, one.prefixes["invoice"], one.prefixes["credit_note"], _joined(one.details))
            for one in found
        ],
    )


def _joined(texts: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={text}" for name, text in texts.items()) or "-"


@entity.command("set")
@click.argument("number")
@click.option("--name")
@click.option("--detail", "details", type=Texts(), multiple=True, help="inn, kpp, address, bank, bik, account ...")
@click.option("--invoice-prefix", help="Before the numbers of invoices; stays once a number was given.")
@click.option("--credit-note-prefix", help="Before the numbers of credit notes.")
@pass_context
def set_(
    context: Context,
    number: str,
    name: str | None,
    details: Sequence[tuple[str, str]],
    invoice_prefix: str | None,
    credit_note_prefix: str | None,
) -> None:
    """Make a legal entity, or change what is named of one. `--detail kpp=` takes the KPP away."""
    given = {"invoice": invoice_prefix, "credit_note": credit_note_prefix}
    prefixes = {kind: prefix for kind, prefix in given.items() if prefix is not None}

    async def work(cur: Cursor, who: Actor) -> None:
        nobody = LegalEntity(number, "", {}, {})
        before = {one.number: one for one in await all_of_them(cur)}.get(number, nobody)
        merged = merge_texts(before.details, dict(details))
        await set_entity(cur, LegalEntity(number, before.name if name is None else name, merged, prefixes))
        after = {one.number: one for one in await all_of_them(cur)}[number]
        changes = changed(_entity_texts(before), _entity_texts(after))
        if changes:
            await record_as(cur, who, "legal_entity_set", "legal_entity", number, changes)

    context.act(Right.CUSTOMERS_CHANGE, work)
    click.echo(f"legal entity {number} is set")


def _entity_texts(entity: LegalEntity) -> dict[str, str]:
    prefixes = {f"{kind}_prefix": prefix for kind, prefix in entity.prefixes.items()}
    return {"name": entity.name, **entity.details, **prefixes}


@customer.command("import")
@click.argument("file", type=click.File("rb"))
@click.option("--skip-bad", is_flag=True, help="Load the good lines although others are bad.")
@click.option("--dry-run", is_flag=True, help="Look at everything and keep nothing.")
@click.option("--rejects", type=click.File("w", encoding="utf-8"), help="Write every bad line's reason to this file.")
@CHARSET
@AS_JSON
@pass_context
def import_(
    context: Context,
    file: IO[bytes],
    skip_bad: bool,
    dry_run: bool,
    rejects: IO[str] | None,
    charset: str,
    as_json: bool,
) -> None:
    """Add many customers from a CSV file (- reads standard input).

    Columns by name, separated by comma, semicolon or tab: number, and any of name, group, parent, parent_pays,
    language, person, email, phone, address, inn, kpp, account, kind, currency, zone, legal_entity, due_days.
    Any bad line, and nothing is loaded, unless --skip-bad. The very same customer again is nothing new.
    """

    def load(who: Actor) -> Callable[..., Loaded]:
        return partial(import_customers, actor=who.name, file_name=shown_name(file))

    run_import(context, Right.CUSTOMERS_CHANGE, file, load, "customers", skip_bad, dry_run, rejects, as_json, charset)
