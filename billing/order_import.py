"""Many orders from a CSV file, in columns and in one transaction.

Rules. A line means what ``kopeck order add`` with the same words means, under the same rules (order_rules, and
read_order for the terms). A number acts once: the first line of a number counts, the very same order again is nothing
new, another under the same number is a bad line; an end that changed since is no difference. Imported orders have no
event each: a million rows saying "imported" help nobody; the first event of such an order is the first thing people do.

Customers are not moved meanwhile (the lock of the tree). Rows go in by account, so that those of one payer lie
together when he is billed.

Does not know: the command line.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import astuple, dataclass, field
from datetime import date
from typing import IO, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from billing.catalogue import Buyer, Catalogue
from billing.catalogue_store import Source, catalogue_of
from billing.customers import LOCK_TREE
from billing.cycle_link import columns, do, rows
from billing.cycle_records import NEVER
from billing.import_columns import (
    BAD_TABLE,
    SESSION,
    BadLine,
    Coded,
    How,
    Ints,
    Loaded,
    Part,
    Problems,
    Steps,
    Target,
    coded,
    distinct_rows,
    each,
    flags,
    load_file,
    numbers,
    set_aside,
    stage,
    unprintable,
    whole_number,
    yes_or_no,
)
from billing.order_rules import (
    NO_PRICE,
    NO_TRIAL,
    Numbers,
    Offer,
    OrderError,
    Terms,
    local_date,
    offer_of,
    parse_instant,
    problem_with_terms,
    problems_with_numbers,
    unknown_code,
)
from billing.orders import MAX_NOTE, MAX_NUMBER, Facts, WantedOrder, read_order
from billing.usage_bulk import connection
from billing.zones import UNKNOWN_ZONE
from ratingcore.bands import zone_of
from ratingcore.money import parse_minor

COLUMNS: Final = (
    *("number", "account", "catalogue", "plan", "item", "kind", "quantity", "starts", "ends", "trial_until", "period"),
    *(
        "anchor_day",
        "anchor_month",
        "anchor_date",
        "zone",
        "in_advance",
        "proration",
        "minimum",
        "price",
        "codes",
        "note",
    ),
)
NEEDED: Final = ("number", "account", "starts")

_TABLES: Final = (
    BAD_TABLE,
    'CREATE TEMPORARY TABLE import_accounts (place bigint, number text COLLATE "C") ON COMMIT DROP',
    """CREATE TEMPORARY TABLE import_orders (
        line bigint, number text COLLATE "C", account_id bigint, payer_account_id bigint, terms bigint, quantity bigint,
        starts_s bigint, ends_s bigint, trial_until_s bigint, minimum_minor bigint, price_minor bigint, codes text,
        note text
    ) ON COMMIT DROP""",
    """CREATE TEMPORARY TABLE import_terms (
        place bigint, catalogue text, plan text, item text, currency text, kind text, interval_unit text,
        interval_count bigint, anchor_day bigint, anchor_month bigint, zone text, in_advance boolean, proration text,
        anchor_phase bigint
    ) ON COMMIT DROP""",
)

_FACTS: Final = """
    SELECT w.place, b.account_id, b.payer_account_id, a.currency, p.currency AS payer_currency, b.zone,
           c.customer_group, c.number AS customer, c.state, a.state AS account_state
    FROM import_accounts w
    JOIN accounts a ON a.number = w.number
    JOIN billing_accounts b ON b.account_id = a.id
    JOIN accounts p ON p.id = b.payer_account_id
    JOIN customers c ON c.id = b.customer_id
"""

_CATALOGUES: Final = "SELECT name FROM catalogues ORDER BY name"
_NEWEST: Final = """
    SELECT v.id, v.version, v.main_file, v.sha256 FROM catalogue_versions v JOIN catalogues c ON c.id = v.catalogue_id
    WHERE c.name = $1 ORDER BY v.version DESC LIMIT 1
"""
_FILES: Final = "SELECT name, content FROM catalogue_files WHERE version_id = $1"

_TERMS_COLUMNS: Final = """plan, item, currency, kind, interval_unit, interval_count, anchor_day, anchor_month, zone,
    in_advance, proration, anchor_phase"""

_ADD_TERMS: Final = f"""
    INSERT INTO order_terms (catalogue_id, {_TERMS_COLUMNS})
    SELECT c.id, {_TERMS_COLUMNS} FROM import_terms w JOIN catalogues c ON c.name = w.catalogue
    ON CONFLICT DO NOTHING
"""

_KNOWN_TERMS: Final = """
    SELECT w.place, t.id FROM import_terms w JOIN catalogues c ON c.name = w.catalogue
    JOIN order_terms t ON (t.catalogue_id, t.plan, t.item, t.currency, t.kind, t.interval_unit, t.interval_count,
                           t.anchor_day, t.anchor_month, t.zone, t.in_advance, t.proration, t.anchor_phase)
                        = (c.id, w.plan, w.item, w.currency, w.kind, w.interval_unit, w.interval_count,
                           w.anchor_day, w.anchor_month, w.zone, w.in_advance, w.proration, w.anchor_phase)
"""

#: Lines of a number that an earlier line has: the same (no reason) or not.
_LATER: Final = """
    WITH firsts AS (SELECT number, min(line) AS line FROM import_orders GROUP BY number HAVING count(*) > 1)
    SELECT s.line, CASE WHEN (s.account_id, s.terms, s.quantity, s.starts_s, s.ends_s, s.trial_until_s,
                              s.minimum_minor, s.price_minor, s.codes)
                             IS DISTINCT FROM (f.account_id, f.terms, f.quantity, f.starts_s, f.ends_s,
                              f.trial_until_s, f.minimum_minor, f.price_minor, f.codes)
                   THEN 'order ' || s.number || ' stands on line ' || f.line || ' already, and is not the same' END
    FROM firsts x
    JOIN import_orders f ON f.line = x.line
    JOIN import_orders s ON s.number = x.number AND s.line > x.line
"""

_STORED: Final = f"""
    WITH terms AS MATERIALIZED ({_KNOWN_TERMS})
    SELECT s.line, CASE WHEN (s.account_id, t.id, s.quantity, to_timestamp(s.starts_s), to_timestamp(s.trial_until_s),
                              s.minimum_minor, s.price_minor, string_to_array(nullif(s.codes, ''), ' '))
                             IS DISTINCT FROM (o.account_id, o.terms_id, o.quantity, o.starts_at, o.trial_until,
                              o.minimum_minor, o.price_minor, o.codes)
                   THEN 'there is an order ' || s.number || ' already, and it is not the same' END
    FROM import_orders s JOIN orders o ON o.number = s.number JOIN terms t ON t.place = s.terms
"""

_UNKNOWN_ZONES: Final = f"""
    WITH unknown AS MATERIALIZED (SELECT place, zone FROM import_terms WHERE zone_or_utc(zone) <> zone)
    SELECT s.line, 'zone: ' || {UNKNOWN_ZONE} FROM import_orders s JOIN unknown u ON u.place = s.terms
"""

_ADD: Final = f"""
    WITH terms AS MATERIALIZED ({_KNOWN_TERMS})
    INSERT INTO orders (number, account_id, payer_account_id, terms_id, quantity, starts_at, ends_at, trial_until,
                        minimum_minor, price_minor, codes, note)
    SELECT s.number, s.account_id, s.payer_account_id, t.id, s.quantity, to_timestamp(s.starts_s),
           to_timestamp(s.ends_s), to_timestamp(s.trial_until_s), s.minimum_minor, s.price_minor,
           string_to_array(nullif(s.codes, ''), ' '), s.note
    FROM import_orders s JOIN terms t ON t.place = s.terms
    ORDER BY s.account_id, s.line
"""


@dataclass(slots=True)
class _Load:
    """One import under way: its connection, the catalogues it met, and the terms."""

    opened: Any
    names: list[str]
    catalogues: dict[str, Catalogue] = field(default_factory=dict)
    terms: dict[Terms, int] = field(default_factory=dict)

    def catalogue(self, name: str) -> Catalogue:
        """The newest version of a catalogue. Raises OrderError."""
        if not name and len(self.names) > 1:
            raise OrderError(f"there are several catalogues, name one: {', '.join(self.names)[:300]}")
        name = name or (self.names[0] if self.names else "")
        if name not in self.names:
            raise OrderError(f"there is no catalogue {name[:40]!r}")
        if name not in self.catalogues:
            version_id, version, main_file, sha256 = rows(self.opened, _NEWEST, (name,))[0]
            source = Source(main_file, {file: bytes(held) for file, held in rows(self.opened, _FILES, (version_id,))})
            if source.sha256 != sha256:
                raise OrderError(f"catalogue {name} version {version} is not what was saved: restore it")
            self.catalogues[name] = catalogue_of(source)
        return self.catalogues[name]


def import_orders(dsn: str, source: IO[bytes], how: How) -> Loaded:
    """Load the orders of a file.

    Raises:
        ImportFileError: the file as a whole is wrong. UsageStoreError: the database refused. Nothing is kept then.
    """
    with connection(dsn) as opened:
        for statement in (*SESSION, LOCK_TREE, *_TABLES):
            do(opened, statement)
        load = _Load(opened, [row[0] for row in rows(opened, _CATALOGUES)])
        steps = Steps(lambda part: _judge(load, part), lambda: _check(load), lambda _found: do(opened, _ADD))
        return load_file(opened, source, Target(COLUMNS, NEEDED, "import_orders", "import_orders"), steps, how)


def _check(load: _Load) -> None:
    """Store the terms, and set aside lines that say nothing new or contradict."""
    fields = list(Terms.__slots__)
    columns_of = list(zip(*(astuple(one) for one in load.terms), strict=True)) or [()] * len(fields)
    data = {"place": list(load.terms.values())} | dict(zip(fields, columns_of, strict=True))
    if load.terms:
        stage(load.opened, "import_terms", pa.table(data))
    do(load.opened, _ADD_TERMS)
    do(load.opened, "ANALYZE import_orders")
    set_aside(load.opened, "import_orders", _LATER)
    set_aside(load.opened, "import_orders", _STORED)
    set_aside(load.opened, "import_orders", _UNKNOWN_ZONES)


# ---- judging


@dataclass(frozen=True, slots=True)
class _Accounts:
    """Facts of the rows' accounts: numbers row by row, words by distinct values."""

    account_id: Ints
    payer_account_id: Ints
    words: Coded[Facts | None]


def _judge(load: _Load, part: Part) -> tuple[pa.Table, list[BadLine]]:
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
            "terms": np.array([load.terms.get(one, -1) if one else -1 for one in terms.values], np.int64)[terms.codes],
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
    do(load.opened, "TRUNCATE import_accounts")
    wanted = {"place": np.arange(len(named.values)), "number": pa.array(named.values, pa.string())}
    stage(load.opened, "import_accounts", pa.table(wanted))
    do(load.opened, "ANALYZE import_accounts")
    found = columns(load.opened, _FACTS)
    places = np.asarray(found.column("place"))
    ids = {}
    for name in ("account_id", "payer_account_id"):
        ids[name] = np.zeros(len(named.values), np.int64)
        ids[name][places] = np.asarray(found.column(name))
    unknown = np.flatnonzero(ids["account_id"] == 0).tolist()
    strangers = {place: f"no customer has an account {named.values[place][:40]!r}" for place in unknown}
    problems.add_coded(named.codes, strangers)
    # Customers differ, what is known of them hardly does.
    said = [coded(_flat(found, name)) for name in ("currency", "payer_currency", "zone", "customer_group")]
    states = [coded(_flat(found, name)) for name in ("state", "account_state")]
    customer = _named_customers(load, _flat(found, "customer"))
    kinds, firsts = distinct_rows([*said, customer, *states])
    words: list[Facts | None] = [None]
    for row in firsts.tolist():
        words.append(Facts(0, 0, *(column.at(row) for column in [*said, customer, *states])))
    kind = np.zeros(len(named.values), np.int64)
    kind[places] = kinds + 1
    codes = kind[named.codes]
    problems.add_coded(codes, {code: one.problem for code, one in enumerate(words) if one and one.problem})
    return _Accounts(ids["account_id"][named.codes], ids["payer_account_id"][named.codes], Coded(codes, words))


def _flat(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name).combine_chunks()
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _named_customers(load: _Load, customers: pa.Array) -> Coded[str]:
    """Customers as far as price lists name them; the others are nobody in particular."""
    for name in load.names:
        with suppress(OrderError):  # told where a line names it
            load.catalogue(name)
    named = {one.customer for catalogue in load.catalogues.values() for one in catalogue.prices} - {""}
    is_named = pc.is_in(customers, value_set=pa.array(sorted(named), pa.string()))
    return coded(pc.if_else(is_named, customers, ""))


def _zones(accounts: _Accounts, given: Coded[str], problems: Problems) -> Coded[str]:
    def zone(text: str, facts: Facts | None) -> str:
        zone_of(text or (facts.zone if facts else "UTC"))
        return text or (facts.zone if facts else "UTC")

    return each([given, accounts.words], zone, "UTC", problems, "zone")


def _instants(texts: Coded[str], zones: Coded[str], problems: Problems, what: str) -> Coded[int]:
    none = {"starts": 0, "ends": NEVER, "trial_until": NO_TRIAL}[what]

    def instant(text: str, zone: str) -> int:
        return parse_instant(text, zone) if text or what == "starts" else none

    return each([texts, zones], instant, none, problems, {"starts": "start", "ends": "end"}.get(what, "trial"))


_TERMS_TEXTS: Final = (
    *(
        "catalogue",
        "plan",
        "item",
        "kind",
        "period",
        "anchor_day",
        "anchor_month",
        "anchor_date",
        "in_advance",
        "proration",
    ),
)


def _terms(
    load: _Load,
    text: dict[str, Coded[str]],
    accounts: _Accounts,
    zone: Coded[str],
    starts: Coded[int],
    problems: Problems,
) -> Coded[Terms | None]:
    """Terms of the rows, which the load keeps; each is judged by itself."""
    days = each([starts, zone], local_date, date.min, Problems(), "")

    def terms(day: date, zone: str, facts: Facts | None, *said: str) -> Terms | None:
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
    load: _Load, terms: Coded[Terms | None], accounts: _Accounts, has_price: Coded[bool]
) -> tuple[list[Offer], Ints]:
    """What each row's terms buy its buyer; rows without terms are bad already."""

    def offer(one: Terms | None, facts: Facts | None, is_priced: bool) -> Offer:
        if one is None or facts is None:
            return Offer(None)
        buyer = Buyer(one.currency, one.plan, facts.group, facts.customer)
        return offer_of(load.catalogue(one.catalogue), one, buyer, is_priced)

    found = each([_by_value(terms), accounts.words, has_price], offer, Offer(None), Problems(), "")
    return list(found.values), found.codes


def _by_value(terms: Coded[Terms | None]) -> Coded[Terms | None]:
    """The same column with equal values under one code: starts on many days may be under the same terms."""
    places: dict[Terms | None, int] = {}
    codes = np.array([places.setdefault(one, len(places)) for one in terms.values], np.int64)
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
