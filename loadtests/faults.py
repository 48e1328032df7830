"""What goes wrong on the way, at stated points of the run: processes killed, databases stopped and killed.

Every fault is done to a real process by a signal, as the kernel, an operator or a power cut would do it; the product
has to notice and recover by itself (`kopeck run` starts again what ended). After each fault the run goes on for a
while before the next, so that each is met by a system that has recovered.

Does not know: what is sent meanwhile, what the damage was; the auditor finds that out.
"""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import psutil

from loadtests.stand import Stand, StandError

GATEWAY_KILLED: Final = "gateway killed"
POSTGRES_KILLED: Final = "PostgreSQL killed"
JOURNAL_STOPPED: Final = "journal server stopped"
JOURNAL_KILLED: Final = "journal server killed"

BACK_TIMEOUT_S: Final = 60.0
#: Undisturbed load between two faults, at least.
GAP_S: Final = 1.5


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault to come. after: the share of the stories that have been told by then; strike returns when it is over."""

    after: float
    name: str
    strike: Callable[[Stand], None]


@dataclass(frozen=True, slots=True)
class Struck:
    """A fault that happened, with the machine's clock before it and once everything was healthy again."""

    name: str
    at: float
    over_at: float


def schedule(pause_s: float) -> list[Fault]:
    """The faults of a run, in order. pause_s: how long the journal server stands still."""
    return [
        Fault(0.12, GATEWAY_KILLED, lambda stand: kill(stand, lambda: stand.gateway(0))),
        Fault(0.26, JOURNAL_STOPPED, lambda stand: _stop_for(stand.journal(), pause_s)),
        Fault(0.44, POSTGRES_KILLED, lambda stand: kill(stand, stand.postgres)),
        Fault(0.58, JOURNAL_KILLED, lambda stand: kill(stand, stand.journal)),
        Fault(0.70, GATEWAY_KILLED, lambda stand: kill(stand, lambda: stand.gateway(1))),
        Fault(0.84, POSTGRES_KILLED, lambda stand: kill(stand, stand.postgres)),
    ]


def strike_when_due(stand: Stand, faults: Sequence[Fault], share_told: Callable[[], float]) -> Iterator[Struck]:
    """Do every fault when its share has been told; yields after each, once everything is healthy again.

    Raises:
        StandError: something did not come back within BACK_TIMEOUT_S.
    """
    for fault in faults:
        time.sleep(GAP_S)
        while share_told() < fault.after:
            time.sleep(0.02)
        at = time.time()
        fault.strike(stand)
        stand.wait_until(f"healthy again after: {fault.name}", stand.is_healthy, BACK_TIMEOUT_S)
        yield Struck(fault.name, at, time.time())


def kill(stand: Stand, find: Callable[[], psutil.Process]) -> None:
    """``kill -9`` of the process that ``find`` finds, and wait until another one has taken its place."""
    process = find()
    process.kill()
    stand.wait_until("replaced", lambda: _is_another(find, process.pid), BACK_TIMEOUT_S)


def _is_another(find: Callable[[], psutil.Process], pid: int) -> bool:
    try:
        return bool(find().pid != pid)
    except StandError:
        return False


def _stop_for(process: psutil.Process, seconds: float) -> None:
    """Stand still and go on: open connections stay, answers do not come."""
    process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    process.send_signal(signal.SIGCONT)
