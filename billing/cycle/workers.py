"""Shards on processes of this machine.

Rules. Each process has a connection of its own and is handed one shard at a time. One that dies is noticed at once: its
shard is handed to another process, which takes its place; the database rolled back what it had begun. When too many die
(MAX_DEATHS) the cause is no accident, and the run stops. Asked to stop, processes finish the shards they are at. A
process whose parent dies ends after its shard.

Does not know: what a shard is.
"""

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Final

from billing.cycle.shard import ShardDone, ShardJob, ShardWorker

#: Processes that may die in one run before it is given up.
MAX_DEATHS: Final = 20
_JOIN_S: Final = 10.0


class WorkersLost(Exception):
    """Nobody is left to do shards. The message is for people."""


@dataclass
class _Process:
    """A process, our end of its pipe, and the shard it is at (None: idle)."""

    process: BaseProcess
    pipe: Connection
    shard_no: int | None = None


def run_shards(
    job: ShardJob, shards: Sequence[int], processes: int, stopping: Callable[[], bool] = lambda: False
) -> Iterator[ShardDone]:
    """Do shards, and yield each as it is done; after ``stopping`` says so only those under way.

    Raises:
        WorkersLost: more than MAX_DEATHS processes died.
    """
    due = deque(shards)
    crew: list[_Process] = []
    deaths = 0
    try:
        while (due and not stopping()) or any(one.shard_no is not None for one in crew):
            if not stopping():
                _hand_out(job, due, crew, processes)
            for one in _ready(crew):
                done = _receive(one)
                if done is not None:
                    yield done
                    continue
                crew.remove(one)
                deaths += 1
                if deaths > MAX_DEATHS:
                    raise WorkersLost(f"{deaths} workers died one after another, the last at shard {one.shard_no}")
                if one.shard_no is not None:
                    due.appendleft(one.shard_no)
    finally:
        _dismiss(crew)


def _hand_out(job: ShardJob, due: deque[int], crew: list[_Process], processes: int) -> None:
    while len(crew) < min(processes, len(crew) + len(due)):
        crew.append(_start(job))
    for one in crew:
        if one.shard_no is None and due:
            one.shard_no = due.popleft()
            try:
                one.pipe.send(one.shard_no)
            except OSError:  # it has died: its end of the pipe says so when it is read
                continue


def _start(job: ShardJob) -> _Process:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(job, theirs), daemon=True, name="kopeck-bill")
    process.start()
    theirs.close()
    return _Process(process, ours)


def _ready(crew: list[_Process]) -> list[_Process]:
    """Those with an answer or with nobody at the other end; waits a little for the first."""
    found = wait([one.pipe for one in crew], timeout=0.5)
    return [one for one in crew if one.pipe in found]


def _receive(one: _Process) -> ShardDone | None:
    """The answer of a process, None where it died."""
    try:
        done: ShardDone = one.pipe.recv()
    except (EOFError, OSError):
        one.pipe.close()
        one.process.join(_JOIN_S)
        return None
    one.shard_no = None
    return done


def _dismiss(crew: list[_Process]) -> None:
    for one in crew:
        one.pipe.close()
    for one in crew:
        if one.shard_no is None:
            one.process.join(_JOIN_S)
        if one.process.is_alive():  # at a shard still, when the run is given up: the database rolls it back
            one.process.kill()
            one.process.join()


def _work(job: ShardJob, pipe: Connection) -> None:
    """A process: shards in, what became of them out, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches us all; the parent decides what becomes of it
    worker = ShardWorker(job)
    try:
        while True:
            pipe.send(worker.do(pipe.recv()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    finally:
        worker.close()
