"""A month of the whole base out of PostgreSQL, to be rated again: catalogues, ranges of accounts, their orders, usage.

Rules. Nothing is written. A range of accounts is read in one transaction; other ranges are read at other moments. All
orders that began before the month's end are read, also those settled since, as they stand today: ends, suspensions and
prices of orders are those known now. An account stands for its payer here: what its own orders come to, whoever pays.
Reading is by binary COPY, which takes no parameters, so integers are written into the statements.

Does not know: what the month comes to.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from billing.calendar import NEVER, local_midnight
from billing.catalogue.store import Source
from billing.charging.records import NO_FLOOR, NONE, Orders, Payers, Range, ShardInput, Suspensions
from billing.cycle.plan import cut_shards
from billing.database.adbc import columns, rows
from billing.database.arrays import int_array
from billing.database.cursors import ColumnConnection
from billing.database.link import CycleStoreError
from billing.refusals import Refusal
from ratingcore.arrays import Indices, Ints

_MICROSECONDS: Final = 1_000_000
#: Sampled events from which ranges of about equally much usage are cut.
_SAMPLE: Final = 200_000

_NEWEST: Final = """
    SELECT DISTINCT ON (v.catalogue_id) v.catalogue_id, v.id, c.name, v.version, v.main_file, v.sha256
    FROM catalogue_versions v JOIN catalogues c ON c.id = v.catalogue_id
    ORDER BY v.catalogue_id, v.version DESC
"""

_FILES: Final = "SELECT name, content FROM catalogue_files WHERE version_id = $1"

_ACCOUNTS: Final = """
    SELECT account_id, count(*) AS orders_count FROM orders
    WHERE starts_at < to_timestamp({until_s}) GROUP BY account_id ORDER BY account_id
"""

#: Storage of the months that count, in rows; -1 where the server has not counted yet.
_USAGE_SIZE: Final = """
    SELECT coalesce(sum(c.reltuples), 0)::bigint, bool_or(c.reltuples < 0)
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'usage_events'::regclass
"""

_USAGE_SAMPLE: Final = """
    SELECT account_id FROM usage_events TABLESAMPLE SYSTEM ({percent})
    WHERE counts_at >= to_timestamp({from_s}) AND counts_at < to_timestamp({until_s})
"""

_ORDERS: Final = """
    SELECT o.id, o.account_id, o.terms_id, o.quantity, o.starts_at, o.ends_at, o.trial_until, o.minimum_minor,
           o.price_minor, array_to_json(o.codes)::text AS codes, p.currency,
           CASE WHEN c.customer_group IN ({groups}) THEN c.customer_group ELSE '' END AS customer_group,
           CASE WHEN c.number IN ({customers}) THEN c.number ELSE '' END AS customer
    FROM orders o JOIN accounts p ON p.id = o.payer_account_id
    LEFT JOIN billing_accounts b ON b.account_id = o.account_id LEFT JOIN customers c ON c.id = b.customer_id
    WHERE o.account_id BETWEEN {first} AND {last} AND o.starts_at < to_timestamp({until_s})
    ORDER BY o.account_id, o.id
"""

_SUSPENSIONS: Final = """
    SELECT s.order_id, s.from_at, s.until_at
    FROM orders o JOIN order_suspensions s ON s.order_id = o.id
    WHERE o.account_id BETWEEN {first} AND {last} AND o.starts_at < to_timestamp({until_s})
    ORDER BY s.order_id, s.from_at
"""

_BUYERS: Final = """
    SELECT b.account_id, CASE WHEN c.customer_group IN ({groups}) THEN c.customer_group ELSE '' END AS customer_group,
           CASE WHEN c.number IN ({customers}) THEN c.number ELSE '' END AS customer
    FROM billing_accounts b JOIN customers c ON c.id = b.customer_id
    WHERE b.account_id BETWEEN {first} AND {last} AND (c.customer_group IN ({groups}) OR c.number IN ({customers}))
    ORDER BY b.account_id
"""

_NUMBERS: Final = "SELECT id, number FROM accounts WHERE id = ANY ($1::text::bigint[])"


class MonthError(Refusal):
    """What was asked for is not there or makes no sense. The message is for people."""

    default_code = "month_refused"


@dataclass(frozen=True, slots=True)
class CalendarMonth:
    """A calendar month: its first day and the first day after it."""

    first: date
    following: date

    @property
    def label(self) -> str:
        return f"{self.first:%Y-%m}"

    def bounds_s(self, zone: str) -> tuple[int, int]:
        """[from, until) in UTC seconds, where the month begins and ends in a zone."""
        return local_midnight(self.first, zone), local_midnight(self.following, zone)


@dataclass(frozen=True, slots=True)
class NewestCatalogue:
    """The newest version of a catalogue, or a draft in its place (version 0)."""

    catalogue_id: int
    name: str
    version: int
    source: Source


@dataclass(frozen=True, slots=True)
class NamedBuyers:
    """Groups and customers that catalogues name; others are nobody in particular."""

    groups: frozenset[str]
    customers: frozenset[str]


def month_of(text: str) -> CalendarMonth:
    """The month of a text such as 2026-10.

    Raises:
        MonthError: it is none.

    >>> month_of("2026-12").following
    datetime.date(2027, 1, 1)
    """
    year, _, month = text.partition("-")
    if not (len(text) == 7 and text.isascii() and year.isdigit() and month.isdigit() and 1 <= int(month) <= 12):
        raise MonthError(f"a period is a month such as 2026-10, not {text[:20]!r}")
    if not 1990 <= int(year) <= 2090:
        raise MonthError(f"there are no periods of the year {year}")
    first = date(int(year), int(month), 1)
    return CalendarMonth(first, (first + timedelta(days=31)).replace(day=1))


def newest_catalogues(opened: ColumnConnection) -> list[NewestCatalogue]:
    """The newest version of every catalogue.

    Raises:
        CycleStoreError: one of them is not what was saved.
    """
    found = []
    for catalogue_id, version_id, name, version, main_file, sha256 in rows(opened, _NEWEST):
        files = {file: bytes(content) for file, content in rows(opened, _FILES, (version_id,))}
        source = Source(main_file, files)
        if source.sha256 != sha256:
            raise CycleStoreError(f"catalogue {name} version {version} is not what was saved: restore it")
        found.append(NewestCatalogue(int(catalogue_id), str(name), int(version), source))
    return found


def ranges_of_orders(opened: ColumnConnection, until_s: int, accounts: int) -> list[Range]:
    """Ranges of about so many accounts that have orders from before ``until_s``."""
    found = columns(opened, _ACCOUNTS.format(until_s=until_s))
    first, last = cut_shards(_ints(found, "account_id"), _ints(found, "orders_count"), accounts)
    return [Range(*pair) for pair in zip(first.tolist(), last.tolist(), strict=True)]


def ranges_of_usage(opened: ColumnConnection, from_s: int, until_s: int, events: int) -> list[Range]:
    """Ranges of accounts with about so many events each, which together hold every account there is."""
    ((total, unknown),) = rows(opened, _USAGE_SIZE)
    percent = 100.0 if unknown or total <= _SAMPLE else 100.0 * _SAMPLE / total
    sampled = columns(opened, _USAGE_SAMPLE.format(percent=f"{percent:.6f}", from_s=from_s, until_s=until_s))
    accounts = np.sort(_ints(sampled, "account_id"))
    step = max(1, int(events * percent / 100.0))
    begins = np.unique(accounts[step::step])
    cuts = [-NEVER, *begins.tolist(), NEVER]
    return [Range(low, high - 1) for low, high in pairwise(cuts)]


def read_orders(
    opened: ColumnConnection, accounts: Range, until_s: int, following: date, named: NamedBuyers
) -> ShardInput:
    """Orders of a range of accounts that began before ``until_s``, as if none of them had ever been billed."""
    known = {"first": accounts.first, "last": accounts.last, "until_s": until_s}
    found = columns(opened, _ORDERS.format_map(known | _words_of(named)))
    account = _ints(found, "account_id")
    codes, texts = _coded(found["codes"])
    buyer, buyers = _buyers_of(found)
    size = found.num_rows
    never_done = np.full(size, NONE, np.int64)
    orders = Orders(
        order_id=_ints(found, "id"),
        account_id=account,
        payer_account_id=account,
        terms_id=_ints(found, "terms_id").astype(np.int32),
        quantity=_ints(found, "quantity"),
        starts_s=_seconds(found, "starts_at", NEVER),
        ends_s=_seconds(found, "ends_at", NEVER),
        trial_until_s=_seconds(found, "trial_until", 0),
        minimum_minor=_ints(found, "minimum_minor"),
        price_minor=_ints(found, "price_minor", NONE),
        codes=codes + np.int32(1),
        buyer=buyer,
        advance_done_s=never_done,
        arrears_done_s=never_done,
        once_done=np.zeros(size, np.uint8),
    )
    payers, currencies = _payers_of(found, account)
    paused = columns(opened, _SUSPENSIONS.format_map(known))
    return ShardInput(
        following,
        orders,
        payers,
        currencies,
        ((), *(tuple(json.loads(text)) for text in texts)),
        buyers,
        suspensions=Suspensions(
            _ints(paused, "order_id"), _seconds(paused, "from_at", 0), _seconds(paused, "until_at", NEVER)
        ),
    )


def read_buyers(opened: ColumnConnection, accounts: Range, named: NamedBuyers) -> dict[int, tuple[str, str]]:
    """(group, number) of the accounts in a range whose customers a catalogue names, alone or by their group."""
    if not named.groups and not named.customers:
        return {}
    known = {"first": accounts.first, "last": accounts.last}
    found = columns(opened, _BUYERS.format_map(known | _words_of(named))).to_pydict()
    pairs = zip(found["customer_group"], found["customer"], strict=True)
    return dict(zip(found["account_id"], pairs, strict=True))


def numbers_of(opened: ColumnConnection, account_ids: Sequence[int]) -> Mapping[int, str]:
    """Numbers of accounts by id."""
    return {int(one): str(number) for one, number in rows(opened, _NUMBERS, (int_array(account_ids),))}


def _words_of(named: NamedBuyers) -> dict[str, str]:
    return {"groups": _literals(named.groups), "customers": _literals(named.customers)}


def _literals(words: Iterable[str]) -> str:
    """Words for IN; an apostrophe is doubled, and nothing else is special."""
    return ", ".join("'" + word.replace("'", "''") + "'" for word in sorted(words)) or "NULL"


def _payers_of(found: pa.Table, account: Ints) -> tuple[Payers, tuple[str, ...]]:
    """Every account as its own payer, in the currency that its newest order is paid in."""
    currency, currencies = _coded(found["currency"])
    last = np.flatnonzero(np.append(np.diff(account) != 0, True)) if len(account) else np.zeros(0, np.int64)
    size = len(last)
    none = np.zeros(size, np.int32)
    floors = np.full(size, NO_FLOOR, np.int64)
    return Payers(account[last], currency[last], none, none, np.zeros(size, np.int64), floors), currencies


def _buyers_of(found: pa.Table) -> tuple[Indices, tuple[tuple[str, str], ...]]:
    """The buyer of every order; 0 is nobody in particular."""
    (group, groups), (customer, customers) = _coded(found["customer_group"]), _coded(found["customer"])
    distinct, inverse = np.unique(group.astype(np.int64) * max(1, len(customers)) + customer, return_inverse=True)
    pairs = [
        (groups[one // max(1, len(customers))], customers[one % max(1, len(customers))]) for one in distinct.tolist()
    ]
    buyers = (("", ""), *(pair for pair in pairs if pair != ("", "")))
    codes = np.array([buyers.index(pair) for pair in pairs], np.int32)
    return (codes[inverse] if len(pairs) else np.zeros(0, np.int32)), buyers


def _coded(column: pa.ChunkedArray) -> tuple[Indices, tuple[str, ...]]:
    """A column of text as codes and words; NULL is code -1."""
    found = column.combine_chunks().dictionary_encode()
    return np.asarray(pc.fill_null(found.indices, -1)).astype(np.int32), tuple(found.dictionary.to_pylist())


def _ints(table: pa.Table, name: str, missing: int = 0) -> Ints:
    """A column of integers or instants (microseconds) as int64; ``missing`` stands for NULL."""
    return np.asarray(pc.fill_null(table[name].combine_chunks().cast(pa.int64()), missing))


def _seconds(table: pa.Table, name: str, missing: int) -> Ints:
    """A column of instants as UTC seconds; ``missing`` stands for NULL."""
    seconds = np.floor_divide(_ints(table, name), _MICROSECONDS)
    if not table[name].null_count:
        return seconds
    is_null = np.asarray(table[name].combine_chunks().is_null().cast(pa.uint8())).astype(bool)
    return np.where(is_null, missing, seconds)
