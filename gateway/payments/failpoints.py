"""Named places where a process can be told to die or to stop, so that tests do it at the worst instants.

Rules. Armed only by the setting `gateway.failpoints` ("name", "name:nth" or "name:nth:stop"); costs one dictionary
look-up otherwise.
"""

import os
import signal
from collections.abc import Iterable
from typing import Final

#: Every failpoint there is; arming another name is an error.
NAMES: Final = frozenset({"after_write_before_commit", "after_commit_before_reply"})

_armed: dict[str, tuple[int, signal.Signals]] = {}


def arm(specs: Iterable[str]) -> None:
    """Arm failpoints for this process: ``name`` dies at the first hit, ``name:3`` at the third.

    ``name:3:stop`` stops there, as a process that is paused, until it gets SIGCONT.

    Raises:
        ValueError: an unknown name or a count that is not a positive number.
    """
    for spec in specs:
        name, _, rest = spec.partition(":")
        nth, _, manner = rest.partition(":")
        if name not in NAMES:
            raise ValueError(f"unknown failpoint {name!r}; there are: {', '.join(sorted(NAMES))}")
        if nth and (not nth.isdigit() or int(nth) < 1):
            raise ValueError(f"failpoint {spec!r}: the count must be a positive number")
        if manner not in ("", "stop"):
            raise ValueError(f"failpoint {spec!r}: after the count there may stand `stop`")
        _armed[name] = (int(nth or 1), signal.SIGSTOP if manner else signal.SIGKILL)


def hit(name: str) -> None:
    """Die here, as by a power cut, or stop, when armed and due."""
    if name not in _armed:
        return
    left, how = _armed[name]
    _armed[name] = (left - 1, how)
    if left <= 1:
        del _armed[name]
        os.kill(os.getpid(), how)
