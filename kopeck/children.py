"""Child processes that must not outlive us.

Rules. A child leads its own session, so the terminal's Ctrl-C reaches the supervisor alone and the order of stopping
stays ours. On Linux the kernel signals a child when the thread that started it dies (PR_SET_PDEATHSIG), so children
are started from the main thread. What a ``kill -9`` of everything still leaves behind is found by its folder, never
by its name alone, and ended before a new start.

Does not know: what the children do.
"""

import ctypes
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def spawn(
    argv: Sequence[str],
    *,
    death_signal: signal.Signals,
    user: pwd.struct_passwd | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    output: IO[bytes] | int | None = None,
    descriptors: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a child that gets ``death_signal`` when this process dies.

    user: whom to run it as (root only). descriptors: open files of ours that it gets too.
    """
    return subprocess.Popen(
        list(argv),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output is not None else None,
        cwd=cwd,
        env=dict(env) if env is not None else None,
        pass_fds=descriptors,
        start_new_session=True,
        preexec_fn=_die_with_parent(death_signal),
        user=user.pw_uid if user else None,
        group=user.pw_gid if user else None,
        extra_groups=[] if user else None,
    )


def stop(process: subprocess.Popen[bytes], sig: signal.Signals, grace_s: float) -> int:
    """Ask the child to end with ``sig``; after ``grace_s`` kill it. Returns its exit status."""
    if process.poll() is None:
        process.send_signal(sig)
    try:
        return process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def end_orphans(belongs: Callable[[psutil.Process], bool], sig: signal.Signals, grace_s: float) -> list[int]:
    """End every process that ``belongs`` and return their ids. For what a killed predecessor left behind."""
    found = [process for process in psutil.process_iter() if process.pid != os.getpid() and _safely(belongs, process)]
    for process in found:
        _signal(process, sig)
    _, alive = psutil.wait_procs(found, timeout=grace_s)
    for process in alive:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=grace_s)
    return [process.pid for process in found]


def _safely(belongs: Callable[[psutil.Process], bool], process: psutil.Process) -> bool:
    """A process that is gone or not ours to look into is not the one we look for."""
    try:
        return belongs(process)
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return False


def _signal(process: psutil.Process, sig: signal.Signals) -> None:
    try:
        process.send_signal(sig)
    except psutil.NoSuchProcess:
        return  # it ended by itself meanwhile, which is what was wanted


def die_with_parent(death_signal: signal.Signals, parent: int) -> None:
    """Of a child, about itself: get ``death_signal`` when ``parent``, which started it, dies. Linux only."""
    if _libc is None:
        return
    _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    if os.getppid() != parent:  # it died before that
        os._exit(1)


def _die_with_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    libc = _libc
    if libc is None:
        return None
    parent = os.getpid()

    def in_child() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # it died between fork and prctl
            os._exit(1)

    return in_child
