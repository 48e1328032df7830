"""Truth 2, the sums: each account's balance is what was credited less what was debited, over millions of transfers.

Rules. Transfers come as columns, a slice of ids at a time, and are added up here: eight bytes an account, no snapshot
longer than a slice. Then balances are read page by page, each page together with the transfers that are younger than
the walk. A transaction that was under way when the walk began may still commit a transfer with an older id; so whatever
differs is looked at again, its balance and all its transfers in one statement, and only what differs then is told.

Does not know: why an account differs.
"""

from functools import partial
from typing import Any, Final

import numpy as np

from billing.arrays import int_array
from billing.cycle_link import Link, columns, rows
from billing.verify_records import MAX_LISTED, Check, listed
from billing.verify_slices import Say, silent
from ratingcore.arrays import Ints
from ratingcore.money import format_minor

#: Transfers added up at once, accounts read at once, and accounts looked at again at once.
TRANSFERS: Final = 500_000
ACCOUNTS: Final = 100_000
AGAIN: Final = 500
#: How long a database that went away is waited for.
_RECONNECT_S: Final = 10.0

_LAST: Final = """
    SELECT coalesce((SELECT max(id) FROM transfers), 0), coalesce((SELECT max(id) FROM accounts), 0),
           coalesce((SELECT min(id) FROM transfers), 1)
"""

_ACCOUNTS: Final = "SELECT id::bigint FROM accounts WHERE id > {after} AND id <= {end} ORDER BY id LIMIT {limit}"

_TRANSFERS: Final = """
    SELECT debit_account_id::bigint AS debit, credit_account_id::bigint AS credit, amount_minor::bigint AS amount
    FROM transfers WHERE id > {after} AND id <= {last}
"""

_BALANCES: Final = """
    WITH younger AS (
        SELECT id, sum(delta)::bigint AS delta FROM (
            SELECT credit_account_id AS id, amount_minor AS delta FROM transfers WHERE id > {upto}
            UNION ALL
            SELECT debit_account_id, -amount_minor FROM transfers WHERE id > {upto}
        ) sides WHERE id > {after} AND id <= {last} GROUP BY id
    )
    SELECT a.id::bigint AS id, a.balance_minor::bigint AS balance, coalesce(y.delta, 0)::bigint AS younger
    FROM accounts a LEFT JOIN younger y USING (id)
    WHERE a.id > {after} AND a.id <= {last} ORDER BY a.id
"""

_AGAIN: Final = """
    SELECT * FROM (
        SELECT a.id, a.number, a.balance_minor::bigint AS balance,
               (coalesce((SELECT sum(amount_minor) FROM transfers WHERE credit_account_id = a.id), 0)
                - coalesce((SELECT sum(amount_minor) FROM transfers WHERE debit_account_id = a.id), 0))::bigint AS moved
        FROM accounts a WHERE a.id = ANY ($1::text::bigint[])
    ) a WHERE balance <> moved ORDER BY id
"""


def check_balances(dsn: str, say: Say = silent) -> Check:
    """Balances beside the sums of their transfers; examined: the accounts there were at the beginning.

    Raises:
        CycleStoreError: the database was away for too long, or refused.
    """
    link = Link(dsn, _RECONNECT_S)
    try:
        upto, end, first = (int(number) for number in link.run(lambda opened: rows(opened, _LAST))[0])
        ids = _account_ids(link, end)
        moved = _moved(link, ids, first - 1, upto, say)
        suspects = _suspects(link, ids, moved, upto, say)
        found = _again(link, suspects)
    finally:
        link.close()
    counted = [(*row, len(found)) for row in found]
    return listed(
        2,
        "each balance equals its transfers",
        len(ids),
        "accounts",
        counted[:MAX_LISTED],
        lambda row: f"account {row[1]} (id {row[0]}): balance {format_minor(row[2])}, transfers {format_minor(row[3])}",
    )


def _read(link: Link, statement: str) -> Any:
    return link.run(lambda opened: columns(opened, statement))


def _ints(table: Any, name: str) -> Ints:
    return np.asarray(table[name].combine_chunks())


def _account_ids(link: Link, end: int) -> Ints:
    """Ids of all accounts up to ``end``, ascending."""
    pages = [np.zeros(0, np.int64)]
    after = -(2**63)
    while True:
        page = _ints(_read(link, _ACCOUNTS.format(after=after, end=end, limit=ACCOUNTS)), "id")
        pages.append(page)
        if len(page) < ACCOUNTS:
            return np.concatenate(pages)
        after = int(page[-1])


def _moved(link: Link, ids: Ints, after: int, upto: int, say: Say) -> Ints:
    """What transfers with ids in (after, upto] moved of each account. Beyond 64 bits it wraps, and wraps back."""
    moved = np.zeros(len(ids), np.int64)
    begun = after
    while after < upto and len(ids):
        say("transfers", after - begun, upto - begun)
        last = min(after + TRANSFERS, upto)
        found = _read(link, _TRANSFERS.format(after=after, last=last))
        amounts = _ints(found, "amount")
        for side, sign in (("credit", 1), ("debit", -1)):
            accounts = _ints(found, side)
            places = np.minimum(ids.searchsorted(accounts), len(ids) - 1)
            known = ids[places] == accounts  # one that does not exist is told by another check
            np.add.at(moved, places[known], sign * amounts[known])
        after = last
    return moved


def _suspects(link: Link, ids: Ints, moved: Ints, upto: int, say: Say) -> list[int]:
    """Accounts whose balance differs at first sight."""
    suspects: list[int] = []
    for start in range(0, len(ids), ACCOUNTS):
        say("accounts", start, len(ids))
        page = ids[start : start + ACCOUNTS]
        found = _read(link, _BALANCES.format(upto=upto, after=int(page[0]) - 1, last=int(page[-1])))
        present = _ints(found, "id")
        places = np.minimum(page.searchsorted(present), len(page) - 1)
        known = page[places] == present  # one that was opened with a lower id meanwhile is examined the next time
        total = moved[start : start + ACCOUNTS][places] + _ints(found, "younger")
        differs = known & (total != _ints(found, "balance"))
        suspects += present[differs].tolist()
    return suspects


def _differing(suspects: list[int], opened: Any) -> list[tuple[Any, ...]]:
    return rows(opened, _AGAIN, (int_array(suspects),))


def _again(link: Link, suspects: list[int]) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for start in range(0, len(suspects), AGAIN):
        found += link.run(partial(_differing, suspects[start : start + AGAIN]))
    return found
