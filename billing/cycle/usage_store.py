"""Usage of a shard out of PostgreSQL, in columns.

Rules. Events of most accounts are read as one range of the index and sifted here, which costs a quarter of looking each
account up; where only a few are due, they are looked up. Few events are late: an index of their own finds them. Reading
is by binary COPY, which takes no parameters, so ranges are written into the statements, integers alone.

Does not know: which usage is wanted, whose it is.
"""

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from billing.calendar import HORIZON_END_S
from billing.charging.records import (
    Range,
    UsageEvents,
    Windows,
)
from billing.cycle.columns import dictionary_in, ints, seconds
from billing.database.adbc import columns, do
from billing.database.arrays import int_array
from billing.database.cursors import ColumnConnection
from ratingcore.arrays import Ints

#: Below this share of a shard's accounts, events are looked up account by account.
_DENSE: Final = 0.25
#: Windows that begin before those of this share of the accounts are looked up too, not to read old months for all.
_EARLY: Final = 0.05

_MICROSECONDS: Final = 1_000_000
#: Bits for instants of a run's usage in microseconds: 50 days.
_INSTANT_BITS: Final = 42

EVENT_COLUMNS: Final = "e.account_id, e.item, e.at, e.counts_at, e.quantity_micro, e.duration_s, e.destination, e.id"

_EVENTS_OF_RANGE: Final = f"""
    SELECT {EVENT_COLUMNS} FROM usage_events e
    WHERE e.account_id BETWEEN {{first}} AND {{last}} AND e.counts_at = e.at
      AND e.counts_at >= to_timestamp({{from_s}}) AND e.counts_at < to_timestamp({{until_s}})
"""

_EVENTS_OF_WINDOWS: Final = f"""
    SELECT {EVENT_COLUMNS}
    FROM unnest('{{ids}}'::bigint[], '{{froms}}'::bigint[], '{{untils}}'::bigint[]) AS w (account_id, from_s, until_s)
    JOIN usage_events e ON e.account_id = w.account_id
     AND e.counts_at >= to_timestamp(w.from_s) AND e.counts_at < to_timestamp(w.until_s)
    WHERE e.counts_at = e.at AND e.counts_at >= to_timestamp({{from_s}}) AND e.counts_at < to_timestamp({{until_s}})
"""

_LATE_EVENTS: Final = f"""
    SELECT {EVENT_COLUMNS} FROM usage_events e
    WHERE {{accounts}} AND e.counts_at > e.at AND e.at >= to_timestamp({{from_s}})
      AND e.counts_at >= to_timestamp({{from_s}}) AND e.counts_at < to_timestamp({{until_s}})
"""

_VOIDS: Final = "SELECT usage_id FROM usage_voids WHERE account_id BETWEEN {first} AND {last}"


def wheres_of(column: str, accounts: Ints, near: Range) -> list[str]:
    """Conditions that find these accounts (ascending): by the range of the shard's payers, and the others by name."""
    low, high = np.searchsorted(accounts, [near.first, near.last + 1])
    outside = np.concatenate([accounts[:low], accounts[high:]])
    found = [f"{column} BETWEEN {accounts[low]} AND {accounts[high - 1]}"] if low < high else []
    if len(outside):
        found.append(f"{column} = ANY ('{int_array(outside.tolist())}'::bigint[])")
    return found


def read_usage(opened: ColumnConnection, near: Range, windows: Windows, until_s: int = HORIZON_END_S) -> UsageEvents:
    """Events within the windows, by account, time and id.

    Args:
        near: accounts of which most are wanted. until_s: late events that count from then on are not known yet.
    """
    if not len(windows.account_id):
        return UsageEvents()
    by_range = _by_range(near, windows)
    parts = [_late_of_windows(opened, near, windows, until_s)]
    if by_range.any():
        parts.append(_events_of_range(opened, windows, by_range))
    if not by_range.all():
        parts.append(_events_of_windows(opened, windows, ~by_range))
    low, high = int(windows.account_id.min()), int(windows.account_id.max())
    return events_of(without_void(opened, pa.concat_tables(parts).combine_chunks(), low, high))


def without_void(opened: ColumnConnection, found: pa.Table, first: int, last: int) -> pa.Table:
    """Events of a range of accounts that are not void. Voids are few, and mostly there are none."""
    if not found.num_rows:
        return found
    voids = ints(columns(opened, _VOIDS.format(first=first, last=last)), "usage_id")
    return found.filter(pa.array(~np.isin(ints(found, "id"), voids))).combine_chunks() if len(voids) else found


def read_usage_of_range(opened: ColumnConnection, first: int, last: int, from_s: int, until_s: int) -> UsageEvents:
    """Usage of [from_s, until_s) of all accounts of a range of ids, whoever buys what."""
    bounds = {"first": first, "last": last, "from_s": from_s, "until_s": until_s}
    late = _read_late(opened, f"e.account_id BETWEEN {first} AND {last}", from_s, HORIZON_END_S)
    late = late.filter(pa.array(seconds(late, "at") < until_s))
    every = pa.concat_tables([columns(opened, _EVENTS_OF_RANGE.format_map(bounds)), late]).combine_chunks()
    return events_of(without_void(opened, every, first, last))


def _late_of_windows(opened: ColumnConnection, near: Range, windows: Windows, until_s: int) -> pa.Table:
    """Those that came after their time was closed, and count later: few, by an index of their own."""
    wheres = wheres_of("e.account_id", np.unique(windows.account_id), near)
    from_s = int(windows.from_s.min())
    found = pa.concat_tables(_read_late(opened, where, from_s, until_s) for where in wheres)
    return _within(found.combine_chunks(), windows.account_id, windows.from_s, windows.until_s)


def _read_late(opened: ColumnConnection, accounts: str, from_s: int, until_s: int) -> pa.Table:
    # Nobody has told the planner that few events are late.
    do(opened, "SET LOCAL enable_seqscan = off")
    found = columns(opened, _LATE_EVENTS.format(accounts=accounts, from_s=from_s, until_s=until_s))
    do(opened, "SET LOCAL enable_seqscan = on")
    return found


def _by_range(near: Range, windows: Windows) -> Any:
    """Which windows are read by one range of accounts and time: the many that are alike, if they are many."""
    alike = (windows.account_id >= near.first) & (windows.account_id <= near.last)
    if not alike.any():
        return alike
    alike &= windows.from_s >= np.quantile(windows.from_s[alike], _EARLY, method="lower")
    ids = windows.account_id[alike]
    few = len(ids) < _DENSE * (int(ids.max()) - int(ids.min()) + 1)
    return np.zeros_like(alike) if few else alike


def _events_of_range(opened: ColumnConnection, windows: Windows, which: Any) -> pa.Table:
    ids, from_s, until_s = windows.account_id[which], windows.from_s[which], windows.until_s[which]
    bounds = {"first": ids.min(), "last": ids.max(), "from_s": from_s.min(), "until_s": until_s.max()}
    return _within(columns(opened, _EVENTS_OF_RANGE.format_map(bounds)), ids, from_s, until_s)


def _within(found: pa.Table, ids: Ints, from_s: Ints, until_s: Ints) -> pa.Table:
    """Those of the events that happened in one of these windows of their account."""
    if not found.num_rows:
        return found
    accounts, at_s = ints(found, "account_id"), seconds(found, "at")
    # Windows of an account do not overlap: the last one that begins at or before an event is the only one to look at.
    order = np.lexsort((from_s, ids))
    place = _last_not_after(ids[order], from_s[order], accounts, at_s)
    chosen = order[np.maximum(place, 0)]
    wanted = (place >= 0) & (ids[chosen] == accounts) & (at_s < until_s[chosen])
    return found if wanted.all() else found.filter(pa.array(wanted)).combine_chunks()


def _last_not_after(ids: Ints, from_s: Ints, accounts: Ints, at_s: Ints) -> Ints:
    """Per event the place of the last (id, from_s), which are sorted, not after (account, at_s); -1 for none."""
    if len(np.unique(ids)) == len(ids):
        place = np.searchsorted(ids, accounts, side="right") - 1
        return np.where((place >= 0) & (from_s[np.maximum(place, 0)] <= at_s), place, -1)
    keys = np.empty(len(ids) + len(accounts), dtype=[("id", np.int64), ("at", np.int64)])
    keys["id"], keys["at"] = np.concatenate([ids, accounts]), np.concatenate([from_s, at_s])
    is_event = np.arange(len(keys)) >= len(ids)
    order = np.lexsort((is_event, keys["at"], keys["id"]))
    counted = np.cumsum(~is_event[order]) - 1
    place = np.empty(len(keys), np.int64)
    place[order] = counted
    return place[len(ids) :]


def _events_of_windows(opened: ColumnConnection, windows: Windows, which: Any) -> pa.Table:
    ids, from_s, until_s = windows.account_id[which], windows.from_s[which], windows.until_s[which]
    bounds = {"from_s": from_s.min(), "until_s": until_s.max()}
    lists = {
        name: int_array(values.tolist()) for name, values in (("ids", ids), ("froms", from_s), ("untils", until_s))
    }
    return columns(opened, _EVENTS_OF_WINDOWS.format_map(bounds | lists))


def events_of(found: pa.Table) -> UsageEvents:
    """Rows of usage_events by account, time and id."""
    accounts, at, ids = ints(found, "account_id"), ints(found, "at"), ints(found, "id")
    order = _by_account_and_time(accounts, at, ids)
    items, names = dictionary_in(found, "item")
    destination = found["destination"].combine_chunks()
    has_any = pc.max(pc.binary_length(destination)).as_py()
    return UsageEvents(
        account_id=accounts[order],
        item=items[order],
        at_s=at[order] // _MICROSECONDS,
        counts_at_s=seconds(found, "counts_at")[order],
        quantity_micro=ints(found, "quantity_micro")[order],
        duration_s=ints(found, "duration_s")[order],
        id=ids[order],
        items=names,
        destination=destination.take(pa.array(order)) if has_any else None,
    )


def _by_account_and_time(accounts: Ints, at: Ints, ids: Ints) -> Ints:
    """The order of (account, at, id). The index gives a sorted run for each month, which one key merges at once."""
    if len(ids):
        account, instant = accounts - accounts.min(), at - at.min()
        if int(account.max()) < 1 << (62 - _INSTANT_BITS) and int(instant.max()) < 1 << _INSTANT_BITS:
            key = account << _INSTANT_BITS | instant
            order = np.argsort(key, kind="stable")
            sorted_key, sorted_ids = key[order], ids[order]
            if not ((sorted_key[1:] == sorted_key[:-1]) & (sorted_ids[1:] < sorted_ids[:-1])).any():
                return order
    return np.lexsort((ids, at, accounts))
