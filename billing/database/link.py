"""A connection for the billing cycle that outlives the database: ADBC, one transaction a piece of work, and back-off.

Rules. ``Link.run`` is the only way to the database: the work it is given is one transaction, which is committed when
the work returns. Where the connection is lost, even in the middle of COMMIT, the same work is run again on a new one;
so every work of the cycle looks first whether it was done already. A connection lost while reading surfaces as an error
of Arrow; the connection is probed to tell it from a mistake of ours. What the database refuses on a connection that is
well is an error at once.

Does not know: what the work is.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

import adbc_driver_manager
import pyarrow as pa

from billing.database.adbc import connect, do, rows, sentence_of
from billing.database.session import IDLE_BILLING_S
from billing.refusals import Unavailable

T = TypeVar("T")

#: How long a database that is away is waited for, unless the caller says otherwise.
RECONNECT_LIMIT_S: Final = 120.0
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 2.0

#: jit: compiling costs more than these queries. Parallel: every core has a worker of ours already.
_SESSION: Final = (
    "SET jit = off",
    "SET work_mem = '64MB'",
    "SET max_parallel_workers_per_gather = 0",
)


class CycleStoreError(Unavailable):
    """The database refused, and nothing of the transaction is kept. The message is for people."""


class DatabaseAway(CycleStoreError):
    """The database did not come back within the limit."""


class Link:
    """A session that is opened when it is first needed and again after it was lost. Not for several threads."""

    def __init__(self, dsn: str, reconnect_limit_s: float = RECONNECT_LIMIT_S) -> None:
        self._dsn = dsn
        self._limit_s = reconnect_limit_s
        self._opened: Any = None

    def run(self, work: Callable[[Any], T]) -> T:
        """Run ``work`` with a connection in one READ COMMITTED transaction and commit; any exception rolls back.

        Raises:
            CycleStoreError: the database refused; DatabaseAway: it was away for too long; whatever ``work`` raises.
        """
        deadline, pause_s = 0.0, _FIRST_PAUSE_S
        while True:
            try:
                return self._once(work)
            except (adbc_driver_manager.Error, pa.ArrowException, OSError) as error:
                if self._is_well():
                    if not isinstance(error, adbc_driver_manager.Error):
                        raise
                    raise CycleStoreError(f"the database refused: {sentence_of(error)}") from error
                self.close()
                deadline = deadline or time.monotonic() + self._limit_s  # from the loss on
                if time.monotonic() + pause_s > deadline:
                    raise DatabaseAway(f"the database is away: {sentence_of(error)}") from error
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def close(self) -> None:
        """Give the session up; what was not committed is rolled back."""
        if self._opened is not None:
            with suppress(adbc_driver_manager.Error):
                self._opened.close()
            self._opened = None

    def _once(self, work: Callable[[Any], T]) -> T:
        if self._opened is None:
            self._opened = _open(self._dsn)
        try:
            result = work(self._opened)
            self._opened.commit()
        except adbc_driver_manager.Error:
            raise
        except BaseException:
            with suppress(adbc_driver_manager.Error):
                self._opened.rollback()
            raise
        return result

    def _is_well(self) -> bool:
        if self._opened is None:
            return False
        try:
            self._opened.rollback()
            rows(self._opened, "SELECT 1")
            self._opened.rollback()
        except adbc_driver_manager.Error:
            return False
        return True


def _open(dsn: str) -> Any:
    opened = connect(dsn, name="kopeck-bill", idle_transaction_s=IDLE_BILLING_S)
    try:
        for statement in _SESSION:
            do(opened, statement)
        opened.commit()
    except BaseException:
        opened.close()
        raise
    return opened
