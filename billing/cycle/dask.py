"""Shards on a Dask cluster: workers on other machines, which connect to the database by themselves.

Rules. The one module that knows Dask, which is an optional dependency (``pip install 'kopeck[dask]'``). A task is a
plain function of plain values; what crosses is the run's number, a shard's number and the address of the database as
that worker shall use it. A worker that is lost has its shard done by another: the scheduler sees to it, and the
database has rolled back what it had begun. A worker's threads each have a connection and the run's prices of their own.

Does not know: what a shard is.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from typing import Any, Final

from distributed import Client, Future, wait

from billing.cycle.shard import ShardDone, ShardJob, ShardWorker
from billing.cycle.workers import WorkersLost

#: How often a task may lose its worker.
_RETRIES: Final = 10
_CONNECT_TIMEOUT_S: Final = 15
#: How often it is asked whether to stop.
_LOOK_S: Final = 1

_own = threading.local()


def run_shards(
    job: ShardJob, shards: Sequence[int], address: str, stopping: Callable[[], bool] = lambda: False
) -> Iterator[ShardDone]:
    """Do shards on the cluster of a scheduler, and yield each as it is done, until ``stopping`` says so.

    Raises:
        WorkersLost: no scheduler answers at this address, or it is gone before the end.
    """
    try:
        client = Client(address, timeout=_CONNECT_TIMEOUT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise WorkersLost(f"no Dask scheduler answers at {address}: {error}") from error
    with client, client.as_current():
        tasks = [client.submit(do_shard, job, number, pure=False, retries=_RETRIES) for number in shards]
        numbers = {task.key: number for task, number in zip(tasks, shards, strict=True)}
        while tasks and not stopping():
            try:
                found = wait(tasks, timeout=_LOOK_S, return_when="FIRST_COMPLETED")
            except TimeoutError:
                continue
            except CancelledError as error:
                raise WorkersLost(f"the Dask scheduler at {address} is gone") from error
            for task in found.done:
                yield _result(task, numbers[task.key])
            tasks = list(found.not_done)
        client.cancel(tasks)  # those under way end in the database all the same


def _result(task: Future, shard_no: int) -> ShardDone:
    error = task.exception()
    if error is not None:
        return ShardDone(shard_no, "failed", why=f"on the cluster: {type(error).__name__}: {error}")
    done: ShardDone = task.result()
    return done


def do_shard(job: ShardJob, shard_no: int) -> ShardDone:
    """The task: do a shard with what this thread has prepared for the run."""
    worker: Any = getattr(_own, "worker", None)
    if worker is None or worker.job != job:
        if worker is not None:
            worker.close()
        worker = _own.worker = ShardWorker(job)
    done: ShardDone = worker.do(shard_no)
    return done
