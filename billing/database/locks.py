"""Every lock of billing that is more than the rows a statement touches: by number, by name, in order.

Rules. A transaction takes these locks in the order of `Lock`, so no two transactions wait for each other. No other
module of billing calls PostgreSQL's functions for advisory locks. Names are stable: programs of two versions may work
on one database, and a lock is a number made of its name.

  no.  lock            who takes it                                           who waits
  1    USAGE_SOURCE    an import of usage, for its session: keys of a source  nobody: a second import is refused
  2    USAGE_VOID      who voids or corrects usage under a key                the same key again
  3    CATALOGUE       who loads a catalogue of a name                        others who load it
  4    CUSTOMER_TREE   who changes parents, payers or accounts of customers;  each other
                       imports of customers and of orders
  -    rows of customers, then of billing_accounts                            orders for a customer that is changed
  5    BILL_RUN        who plans a bill run                                   each other
  -    the row of usage_open: imports share it, a plan holds it alone         a plan for imports under way, later
                                                                              imports for the plan
  6    ORDER_CHANGES   changes of orders share it, a plan holds it alone      a plan for changes under way, later
                                                                              changes for the plan
  -    the row of bill_shards at work on a payer: changes share it            a change for the shard at work; a shard
                                                                              that has not begun for the change
  -    rows of orders, then of accounts by id                                 payments to these accounts, others

So a change that looked for a run before there was one is committed before shards are read, and a change that comes
later sees what the shard billed. The gateway has advisory locks of its own (gateway/payments/fence_store.py), and so
has the migration of a database (kopeck/databases/migrate.py): no transaction of theirs takes one of these.

Does not know: why anything is locked beyond that table. Functions take the caller's cursor or connection; all locks but
the first end with its transaction.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Any, Final

from billing.database.cursors import ColumnConnection, Cursor


class Lock(Enum):
    """Advisory locks in the order in which a transaction takes them, with their names. After a blank comes a key."""

    USAGE_SOURCE = "use"
    USAGE_VOID = "kopeck usage void "
    CATALOGUE = "kopeck catalogue "
    CUSTOMER_TREE = "kopeck customers"
    BILL_RUN = "kopeck bill run"
    ORDER_CHANGES = "kopeck orders change"

    @property
    def number(self) -> int:
        """Its place in the order, from 1."""
        return list(Lock).index(self) + 1


#: The first of two numbers of a source's lock; the other one is the source's id.
USAGE_SOURCE_SPACE: Final = int.from_bytes(Lock.USAGE_SOURCE.value.encode(), "big")

_TRY_SOURCE: Final = f"SELECT pg_try_advisory_lock({USAGE_SOURCE_SPACE}, $1::int)"

#: By aiopg: the name, with its key.
_HOLD: Final = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
_SHARE: Final = "SELECT pg_advisory_xact_lock_shared(hashtextextended(%s, 0))"
#: By ADBC, which reads no void.
_HOLD_BY_COLUMNS: Final = "SELECT pg_advisory_xact_lock(hashtextextended($1::text, 0))::text"

_SHARE_SHARD: Final = """
    SELECT FROM bill_shards s JOIN bill_runs r ON r.id = s.run_id
    WHERE r.state = 'running' AND s.state IN ('due', 'failed') AND EXISTS (
        SELECT FROM unnest(%s::bigint[]) AS payer WHERE payer BETWEEN s.first_account_id AND s.last_account_id)
    ORDER BY s.run_id, s.shard_no FOR SHARE OF s
"""


def try_usage_source(opened: ColumnConnection, source_id: int) -> bool:
    """Take a source for the rest of the session; False while another session has it."""
    return bool(_first(opened, _TRY_SOURCE, source_id))


async def hold_void_key(cur: Cursor, key: str) -> None:
    """Make the same key wait until the transaction ends."""
    await cur.execute(_HOLD, (Lock.USAGE_VOID.value + key,))


async def hold_catalogue(cur: Cursor, name: str) -> None:
    """Make others who would load a catalogue of this name wait until the transaction ends."""
    await cur.execute(_HOLD, (Lock.CATALOGUE.value + name,))


async def hold_customer_tree(cur: Cursor) -> None:
    """Make others who would change who is whose child, or who pays, wait until the transaction ends."""
    await cur.execute(_HOLD, (Lock.CUSTOMER_TREE.value,))


def hold_customer_tree_for_load(opened: ColumnConnection) -> None:
    """The same, for a load of columns."""
    _first(opened, _HOLD_BY_COLUMNS, Lock.CUSTOMER_TREE.value)


def hold_bill_runs(opened: ColumnConnection) -> None:
    """Make others who would plan a bill run wait until the transaction ends."""
    _first(opened, _HOLD_BY_COLUMNS, Lock.BILL_RUN.value)


def hold_order_changes(opened: ColumnConnection) -> None:
    """Wait for changes of orders under way, and make later ones wait until the transaction ends."""
    _first(opened, _HOLD_BY_COLUMNS, Lock.ORDER_CHANGES.value)


async def wait_for_billing(cur: Cursor, payers: Sequence[int]) -> None:
    """Wait for shards at work on these payers' accounts; those that have not begun wait for this transaction."""
    if payers:
        await cur.execute(_SHARE, (Lock.ORDER_CHANGES.value,))
        await cur.execute(_SHARE_SHARD, (list(payers),))


def _first(opened: ColumnConnection, statement: str, value: Any) -> Any:
    with opened.cursor() as cur:
        cur.execute(statement, (value,))
        return cur.fetchall()[0][0]
