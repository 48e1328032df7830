"""Many orders from a CSV file, in columns and in one transaction.

Rules. A line means what ``kopeck order add`` with the same words means, under the same rules (billing.orders.rules, and
read_order for the terms). A number acts once: the first line of a number counts, the very same order again is nothing
new, another under the same number is a bad line; an end that changed since is no difference. Imported orders have no
event each, a million rows would say "imported"; the first event of such an order is the first thing people do.

Does not know: the command line.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from typing import IO, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from billing.calendar import NEVER
from billing.catalogue.model import Buyer, Catalogue
from billing.database.adbc import import_connection
from billing.database.cursors import ColumnConnection
from billing.files.tables import (
    BadLine,
    Coded,
    How,
    Ints,
    Loaded,
    Problems,
    Steps,
    TablePart,
    Target,
    coded,
    distinct_rows,
    each,
    flags,
    load_file,
    numbers,
    unprintable,
    whole_number,
    yes_or_no,
)
from billing.orders.import_store import (
    add_orders,
    catalogue_names,
    prepare,
    read_accounts,
    read_newest,
    set_aside_known,
)
from billing.orders.reading import read_order
from billing.orders.records import MAX_NOTE, MAX_NUMBER, OrderingAccount, WantedOrder
from billing.orders.rules import (
    NO_PRICE,
    NO_TRIAL,
    Numbers,
    OrderError,
    OrderOffer,
    local_date,
    offer_of,
    parse_instant,
    problem_with_terms,
    problems_with_numbers,
    unknown_code,
)
from billing.orders.terms import WantedTerms
from ratingcore.bands import zone_of
from ratingcore.money import parse_minor

COLUMNS: Final = (
    *("number", "account", "catalogue", "plan", "item", "kind", "quantity", "starts", "ends", "trial_until", "period"),
    *("anchor_day", "anchor_month", "anchor_date", "zone", "in_advance", "proration", "minimum", "price", "codes"),
    "note",
)
NEEDED: Final = ("number", "account", "starts")


@dataclass(slots=True)
class _Load:
    """One import under way: its connection, the catalogues it met, and the terms."""

    opened: ColumnConnection
    names: list[str]
    catalogues: dict[str, Catalogue] = field(default_factory=dict)
    terms: dict[WantedTerms, int] = field(default_factory=dict)

    def catalogue(self, name: str) -> Catalogue:
        """The newest version of a catalogue. Raises OrderError."""
        if not name and len(self.names) > 1:
            raise OrderError(f"there are several catalogues, name one: {', '.join(self.names)[:300]}")
        name = name or (self.names[0] if self.names else "")
        if name not in self.names:
            raise OrderError(f"there is no catalogue {name[:40]!r}")
        if name not in self.catalogues:
            self.catalogues[name] = read_newest(self.opened, name)
        return self.catalogues[name]


def import_orders(dsn: str, source: IO[bytes], how: How) -> Loaded:
    """Load the orders of a file.

    Raises:
        ImportFileError: the file as a whole is wrong. ImportStoreError: the database refused. Nothing is kept then.
    """
    with import_connection(dsn) as opened:
        prepare(opened)
        load = _Load(opened, catalogue_names(opened))
        steps = Steps(
            lambda part: _judge(load, part), lambda: set_aside_known(opened, load.terms), lambda _: add_orders(opened)
        )
        return load_file(opened, source, Target(COLUMNS, NEEDED, "import_orders", "import_orders"), steps, how)


# ---- judging


@dataclass(frozen=True, slots=True)
class _Accounts:
    """Facts of the rows' accounts: numbers row by row, words by distinct values."""

    account_id: Ints
    payer_account_id: Ints
    words: Coded[OrderingAccount | None]


def _judge(load: _Load, part: TablePart) -> tuple[pa.Table, list[BadLine]]:
    """Rows for the staging table, and lines that are no order."""
    texts, problems = part.texts, Problems()
    text = {name: coded(texts[name]) for name in COLUMNS if name not in ("number", "account", "note")}
    accounts = _accounts(load, texts["account"], problems)
    zone = _zones(accounts, text["zone"], problems)
    at = {name: _instants(text[name], zone, problems, name) for name in ("starts", "ends", "trial_until")}
    terms = _terms(load, text, accounts, zone, at["starts"], problems)
    has_price = each([text["price"]], bool, False, problems, "")
    offers, offer_of_row = _offers(load, terms, accounts, has_price)
    numbers_of = _numbers(text, at, offer_of_row, problems)
    for row, reason in problems_with_numbers(offers, numbers_of).items():
        problems.found.setdefault(row, reason)
    _judge_texts(load, texts, text, problems)
    staged = pa.table(
        {
            "line": part.lines,
            "number": texts["number"],
            "account_id": accounts.account_id,
            "payer_account_id": accounts.payer_account_id,
            "terms": np.array([load.terms.get(wanted, -1) if wanted else -1 for wanted in terms.values], np.int64)[
                terms.codes
            ],
            "quantity": numbers_of.quantity,
            "starts_s": numbers_of.starts_s,
            "ends_s": pa.array(numbers_of.ends_s, mask=numbers_of.ends_s == NEVER),
            "trial_until_s": pa.array(numbers_of.trial_until_s, mask=numbers_of.trial_until_s == NO_TRIAL),
            "minimum_minor": numbers_of.minimum_minor,
            "price_minor": pa.array(numbers_of.price_minor, mask=numbers_of.price_minor == NO_PRICE),
            "codes": _joined_codes(text["codes"]),
            "note": texts["note"],
        }
    )
    good = problems.good(len(part.lines))
    return (staged if good.all() else staged.filter(pa.array(good))), problems.lines(part)


def _accounts(load: _Load, texts: pa.Array, problems: Problems) -> _Accounts:
    named = coded(texts)
    known = read_accounts(load.opened, pa.array(named.values, pa.string()))
    places = np.asarray(known.column("place"))
    ids = {}
    for name in ("account_id", "payer_account_id"):
        ids[name] = np.zeros(len(named.values), np.int64)
        ids[name][places] = np.asarray(known.column(name))
    unknown = np.flatnonzero(ids["account_id"] == 0).tolist()
    strangers = {place: f"no customer has an account {named.values[place][:40]!r}" for place in unknown}
    problems.add_coded(named.codes, strangers)
    # Customers differ, what is known of them hardly does.
    said = [coded(_flat(known, name)) for name in ("currency", "payer_currency", "zone", "customer_group")]
    states = [coded(_flat(known, name)) for name in ("state", "account_state")]
    customer = _named_customers(load, _flat(known, "customer"))
    kinds, firsts = distinct_rows([*said, customer, *states])
    words: list[OrderingAccount | None] = [None]
    for row in firsts.tolist():
        words.append(OrderingAccount(0, 0, *(column.at(row) for column in [*said, customer, *states])))
    kind = np.zeros(len(named.values), np.int64)
    kind[places] = kinds + 1
    codes = kind[named.codes]
    problems.add_coded(
        codes, {code: account.problem for code, account in enumerate(words) if account and account.problem}
    )
    return _Accounts(ids["account_id"][named.codes], ids["payer_account_id"][named.codes], Coded(codes, words))


def _flat(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name).combine_chunks()
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _named_customers(load: _Load, customers: pa.Array) -> Coded[str]:
    """Customers as far as price lists name them; the others are one empty name."""
    for name in load.names:
        with suppress(OrderError):  # told where a line names it
            load.catalogue(name)
    named = {price.customer for catalogue in load.catalogues.values() for price in catalogue.prices} - {""}
    is_named = pc.is_in(customers, value_set=pa.array(sorted(named), pa.string()))
    return coded(pc.if_else(is_named, customers, ""))


def _zones(accounts: _Accounts, given: Coded[str], problems: Problems) -> Coded[str]:
    def zone(text: str, account: OrderingAccount | None) -> str:
        name = text or (account.zone if account else "UTC")
        zone_of(name)
        return name

    return each([given, accounts.words], zone, "UTC", problems, "zone")


def _instants(texts: Coded[str], zones: Coded[str], problems: Problems, what: str) -> Coded[int]:
    none = {"starts": 0, "ends": NEVER, "trial_until": NO_TRIAL}[what]

    def instant(text: str, zone: str) -> int:
        return parse_instant(text, zone) if text or what == "starts" else none

    return each([texts, zones], instant, none, problems, {"starts": "start", "ends": "end"}.get(what, "trial"))


_TERMS_TEXTS: Final = (
    *("catalogue", "plan", "item", "kind", "period", "anchor_day", "anchor_month", "anchor_date", "in_advance"),
    "proration",
)


def _terms(
    load: _Load,
    text: dict[str, Coded[str]],
    accounts: _Accounts,
    zone: Coded[str],
    starts: Coded[int],
    problems: Problems,
) -> Coded[WantedTerms | None]:
    """Terms of the rows, which the load keeps; each is judged by itself."""
    days = each([starts, zone], local_date, date.min, Problems(), "")

    def terms(day: date, zone: str, facts: OrderingAccount | None, *said: str) -> WantedTerms | None:
        if facts is None:
            return None
        catalogue, plan, item, kind, period, anchor_day, anchor_month, anchor_date, in_advance, proration = said
        wanted = WantedOrder(
            "",
            plan=plan,
            item=item,
            kind=kind or "recurring",
            period=period or "month",
            starts=day.isoformat(),
            zone=zone,
            anchor_day=whole_number(anchor_day, 0) if anchor_day else None,
            anchor_month=whole_number(anchor_month, 0) if anchor_month else None,
            anchor_date=anchor_date,
            in_advance=yes_or_no(in_advance),
            proration=proration or "day",
        )
        found = read_order(wanted, facts, load.catalogue(catalogue).name).terms
        problem = problem_with_terms(found)
        if problem:
            raise OrderError(problem)
        load.terms.setdefault(found, len(load.terms))
        return found

    return each([days, zone, accounts.words, *(text[name] for name in _TERMS_TEXTS)], terms, None, problems, "")


def _offers(
    load: _Load, terms: Coded[WantedTerms | None], accounts: _Accounts, has_price: Coded[bool]
) -> tuple[list[OrderOffer], Ints]:
    """What each row's terms buy its buyer; rows without terms are bad already."""

    def offer(wanted: WantedTerms | None, account: OrderingAccount | None, is_priced: bool) -> OrderOffer:
        if wanted is None or account is None:
            return OrderOffer(None)
        buyer = Buyer(wanted.currency, wanted.plan, account.group, account.customer)
        return offer_of(load.catalogue(wanted.catalogue), wanted, buyer, is_priced)

    found = each([_by_value(terms), accounts.words, has_price], offer, OrderOffer(None), Problems(), "")
    return list(found.values), found.codes


def _by_value(terms: Coded[WantedTerms | None]) -> Coded[WantedTerms | None]:
    """The same column with equal values under one code: starts on many days may be under the same terms."""
    places: dict[WantedTerms | None, int] = {}
    codes = np.array([places.setdefault(wanted, len(places)) for wanted in terms.values], np.int64)
    return Coded(codes[terms.codes], list(places))


def _numbers(text: dict[str, Coded[str]], at: dict[str, Coded[int]], offers: Ints, problems: Problems) -> Numbers:
    def money(none: int) -> Callable[[str], int]:
        return lambda said: parse_minor(said) if said else none

    return Numbers(
        offers,
        flags(each([text["kind"]], lambda kind: kind == "one_time", False, problems, "")),
        numbers(each([text["quantity"]], lambda said: whole_number(said, 1), 1, problems, "quantity")),
        numbers(at["starts"]),
        numbers(at["ends"]),
        numbers(at["trial_until"]),
        numbers(each([text["minimum"]], money(0), 0, problems, "minimum")),
        numbers(each([text["price"]], money(NO_PRICE), NO_PRICE, problems, "price")),
    )


def _judge_texts(load: _Load, texts: Any, text: dict[str, Coded[str]], problems: Problems) -> None:
    problems.add(pc.equal(texts["number"], ""), "the order's number is missing")
    problems.add(unprintable(texts["number"], MAX_NUMBER), f"the number must be 1 to {MAX_NUMBER} printable characters")
    problems.add(unprintable(texts["note"], MAX_NOTE), f"the note must be printable and at most {MAX_NOTE} characters")

    def check(said: str, catalogue: str) -> bool:
        found = load.catalogue(catalogue)
        code = unknown_code(found, said.split())
        if code is not None:
            raise OrderError(f"no promotion of catalogue {found.name} has the code {code[:40]!r}")
        return True

    each([text["codes"], text["catalogue"]], check, False, problems, "")


def _joined_codes(texts: Coded[str]) -> pa.Array:
    """Codes once each, a blank between them."""
    joined = [" ".join(dict.fromkeys(said.split())) for said in texts.values]
    return pa.array(joined, pa.string()).take(pa.array(texts.codes))
