"""One shard of a billing run from its claim to its commit: what every worker does, here or on another machine.

Rules. A shard is one transaction on one connection: claim, read, compute, write, post. One that is done already is
passed by, so doing a shard twice has one effect. A shard that raises is tried once more; then it is marked as failed
with the reason, and others go on. A shard whose row another session holds (one whose worker was killed a moment ago) is
waited for. A worker prepares the run's prices once.

Does not know: who hands out shards.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from billing.charging.bills import bill_shard
from billing.charging.due import find_due
from billing.charging.tariffs import Tariffs, prepare_tariffs
from billing.cycle.late_store import read_rest
from billing.cycle.posting import CycleRefused, approve_shard, post_shard
from billing.cycle.store import (
    Claim,
    ReadRequest,
    claim_shard,
    mark_failed,
    read_catalogues,
    read_shard,
    read_terms,
)
from billing.cycle.write_store import write_shard
from billing.database.away import DatabaseAway
from billing.database.cursors import ColumnConnection
from billing.database.link import RECONNECT_LIMIT_S, CycleStoreError, Link
from billing.orders.terms import OrderTerms

#: How often a shard that raises is tried.
_TRIES: Final = 2
#: How long a shard that another session holds is waited for.
HELD_LIMIT_S: Final = 60.0
_HELD_PAUSE_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class ShardJob:
    """What a worker is told, all of it plain values: it crosses processes and machines."""

    dsn: str
    run_id: int
    reconnect_limit_s: float = RECONNECT_LIMIT_S


@dataclass(frozen=True, slots=True)
class ShardDone:
    """What became of a shard. state: 'posted', 'drafted', 'failed', 'held' (another session has it) or 'away'.

    payers, invoices, lines, failures: of this shard, zero where it was done before. why: a sentence where it failed.
    seconds: by stage.
    """

    shard_no: int
    state: str
    payers: int = 0
    invoices: int = 0
    lines: int = 0
    failures: int = 0
    why: str = ""
    seconds: dict[str, float] = field(default_factory=dict)


class ShardWorker:
    """A connection and the prices of one run. Not for several threads."""

    def __init__(self, job: ShardJob) -> None:
        self.job: Final = job
        self.name: Final = f"{socket.gethostname()}:{os.getpid()}"
        self._link = Link(job.dsn, job.reconnect_limit_s)
        self._prepared: _Prepared | None = None

    def close(self) -> None:
        self._link.close()

    def do(self, shard_no: int) -> ShardDone:
        """Do a shard, or say why not; raises nothing but what ends a process."""
        deadline = time.monotonic() + HELD_LIMIT_S
        why = ""
        for _ in range(_TRIES):
            try:
                while (done := self._link.run(lambda opened: self._shard(opened, shard_no))).state == "held":
                    if time.monotonic() > deadline:
                        return done
                    time.sleep(_HELD_PAUSE_S)
                return done
            except DatabaseAway as error:
                return ShardDone(shard_no, "away", why=str(error))
            except CycleRefused as error:
                return ShardDone(shard_no, "refused", why=str(error))
            except CycleStoreError as error:
                why = str(error)
            except Exception as error:  # noqa: BLE001 - our own mistake in one shard must not stop the others
                why = f"{type(error).__name__}: {error}"
        return self._failed(shard_no, why)

    def _failed(self, shard_no: int, why: str) -> ShardDone:
        try:
            self._link.run(lambda opened: mark_failed(opened, self.job.run_id, shard_no, why, self.name))
        except CycleStoreError as error:
            why = f"{why}; and it could not be marked as failed: {error}"
        return ShardDone(shard_no, "failed", why=why)

    def _shard(self, opened: ColumnConnection, shard_no: int) -> ShardDone:
        claim = claim_shard(opened, self.job.run_id, shard_no)
        if claim is None:
            return ShardDone(shard_no, "held")
        if claim.run_state == "approving" and claim.state == "drafted":
            approve_shard(opened, claim.run_id, shard_no, self.name)
            return ShardDone(shard_no, "posted")
        if claim.run_state == "running" and claim.state in ("due", "failed"):
            return self._bill(opened, claim)
        if claim.state in ("posted", "drafted"):
            return ShardDone(shard_no, claim.state)
        raise CycleRefused(f"run {claim.run_id} is {claim.run_state}: nothing is billed in it any more")

    def _bill(self, opened: ColumnConnection, claim: Claim) -> ShardDone:
        seconds: dict[str, float] = {}
        with _timed(seconds, "prepare"):
            prepared = self._prepare(opened)
            tariffs = prepared.tariffs
        with _timed(seconds, "read"):
            shard = read_shard(opened, claim, prepared.wanted)
        with _timed(seconds, "due"):
            due = find_due(shard, tariffs)
        with _timed(seconds, "usage"):
            shard, due = read_rest(opened, claim, prepared.wanted, shard, tariffs, due)
        with _timed(seconds, "bill"):
            bill = bill_shard(shard, tariffs, due)
        with _timed(seconds, "write"):
            write_shard(opened, claim, shard, bill, self.name)
        if claim.kind == "post":
            with _timed(seconds, "post"):
                post_shard(opened, claim.run_id, claim.shard_no)
        of = bill.counts
        state = "posted" if claim.kind == "post" else "drafted"
        return ShardDone(claim.shard_no, state, of.payers, of.invoices, of.lines, len(bill.failures), "", seconds)

    def _prepare(self, opened: ColumnConnection) -> "_Prepared":
        """The run's prices, made once and again only where orders brought terms that are new since."""
        terms = read_terms(opened)
        if self._prepared is None or terms != self._prepared.terms:
            found = read_catalogues(opened, self.job.run_id)
            self._prepared = _prepared(terms, prepare_tariffs(found.readable, terms, found.unreadable))
        return self._prepared


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What shards of a run have in common."""

    terms: dict[int, OrderTerms]
    tariffs: Tariffs
    wanted: ReadRequest


def _prepared(terms: dict[int, OrderTerms], tariffs: Tariffs) -> _Prepared:
    wanted = ReadRequest(
        advance=frozenset(number for number, one in terms.items() if one.in_advance),
        once=frozenset(number for number, one in terms.items() if one.kind == "one_time"),
        groups=frozenset[str]().union(*(groups for groups, _ in tariffs.named.values())),
        customers=frozenset[str]().union(*(customers for _, customers in tariffs.named.values())),
    )
    return _Prepared(terms, tariffs, wanted)


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - begun
