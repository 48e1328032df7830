"""Named places where a process can be told to die, so that tests kill it at the worst instants.

Rules. Armed only by the setting `gateway.failpoints` ("name" or "name:nth"); costs one dictionary look-up otherwise.
"""

import os
import signal
from collections.abc import Iterable
from typing import Final

#: Every failpoint there is; arming another name is an error.
NAMES: Final = frozenset({"after_write_before_commit", "after_commit_before_reply"})

_armed: dict[str, int] = {}


def arm(specs: Iterable[str]) -> None:
    """Arm failpoints for this process: ``name`` dies at the first hit, ``name:3`` at the third.

    Raises:
        ValueError: an unknown name or a count that is not a positive number.
    """
    for spec in specs:
        name, _, nth = spec.partition(":")
        if name not in NAMES:
            raise ValueError(f"unknown failpoint {name!r}; there are: {', '.join(sorted(NAMES))}")
        if nth and (not nth.isdigit() or int(nth) < 1):
            raise ValueError(f"failpoint {spec!r}: the count must be a positive number")
        _armed[name] = int(nth or 1)


def hit(name: str) -> None:
    """Die here, as by a power cut, when armed and due."""
    if name not in _armed:
        return
    _armed[name] -= 1
    if _armed[name] <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
