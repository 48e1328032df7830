"""Work that only reads, range by range of accounts, on processes of this machine.

Rules. A worker is made once in each process and is handed one range at a time; with one process, or one range, all is
done in this one. Results come in any order. Nothing is written, so what is interrupted is simply asked for again.

Does not know: what the work is.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from billing.charging.records import Range
from billing.refusals import Unavailable

J = TypeVar("J")
T = TypeVar("T")

Work = Callable[[Range], T]


class WorkerDied(Unavailable):
    """A process ended in the midst of its work. The message is for people."""


def each_range(make: Callable[[J], Work[T]], job: J, ranges: Sequence[Range], processes: int = 0) -> Iterator[T]:
    """What the work says of every range, as it is done.

    Args:
        make: makes the work of a process from the job; both cross to other processes, so ``make`` is a plain function.
        processes: how many; 0: one a core.

    Raises:
        WorkerDied; whatever the work raises.
    """
    wanted = min(processes or os.cpu_count() or 1, len(ranges))
    if wanted <= 1:
        work = make(job)
        yield from (work(one) for one in ranges)
        return
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(wanted, mp_context=spawn, initializer=_begin, initargs=(make, job))
    try:
        yield from _results(pool, ranges, wanted)
    except BrokenProcessPool as error:
        raise WorkerDied(
            "a worker process died (killed, or out of memory); nothing was written: run it again"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _results(pool: ProcessPoolExecutor, ranges: Sequence[Range], processes: int) -> Iterator[Any]:
    """Ranges are handed out a few ahead, so that results never pile up here."""
    left = iter(ranges)
    under_way: set[Future[Any]] = set()
    while True:
        for one in left:
            under_way.add(pool.submit(_do, one))
            if len(under_way) > processes:
                break
        if not under_way:
            return
        done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
        for one_done in done:
            yield one_done.result()


_work: Work[Any] | None = None


def _begin(make: Callable[[Any], Work[Any]], job: Any) -> None:
    global _work  # the one thing a process of the pool has
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches us all; the parent ends us
    _work = make(job)


def _do(accounts: Range) -> Any:
    assert _work is not None  # the initializer made it
    return _work(accounts)
