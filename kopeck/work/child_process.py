"""A worker's side of a child process: started, told, heard, ended.

Rules. The child and everything it started form one process group, so ending the child ends all of it. What the child
says waits in a short queue: a worker that cannot write to the database holds its child back.

Does not know: what is said.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Final

from kopeck import children
from kopeck.work import frames

#: Frames of a child that wait for its worker.
_WAITING: Final = 16


class ChildGone(Exception):
    """The process has ended or speaks nonsense; ``str()`` says how, for people."""


class ChildProcess:
    """One process that does one job at a time."""

    def __init__(self, process: subprocess.Popen[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._process = process
        self._reader = reader
        self._writer = writer
        self._inbox: asyncio.Queue[frames.ToWorker | ChildGone | None] = asyncio.Queue(_WAITING)
        self._listening = asyncio.create_task(self._listen())
        self.jobs = 0
        self.idle_since = time.monotonic()

    @classmethod
    async def start(cls, setup: frames.Setup) -> "ChildProcess":
        """Start a process. From the main thread: it is killed when the thread that starts it ends."""
        ours, theirs = socket.socketpair()
        try:
            argv = [sys.executable, "-m", "kopeck.work.child", str(theirs.fileno())]
            process = children.spawn(argv, death_signal=signal.SIGKILL, descriptors=[theirs.fileno()])
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours)
        child = cls(process, reader, writer)
        child.tell(setup)
        return child

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def tell(self, frame: frames.ToChild) -> None:
        """Send a frame. A child that is gone does not hear it; `hear` says so."""
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.write(frames.encode(frame))

    async def hear(self, timeout_s: float) -> frames.ToWorker | None:
        """The next frame; None when ``timeout_s`` passed, or after `nudge`.

        Raises:
            ChildGone: there is none and there will be none.
        """
        try:
            heard = await asyncio.wait_for(self._inbox.get(), max(0.0, timeout_s))
        except TimeoutError:
            return None
        if isinstance(heard, ChildGone):
            raise heard
        return heard

    def nudge(self) -> None:
        """Make `hear` return."""
        with contextlib.suppress(asyncio.QueueFull):
            self._inbox.put_nowait(None)

    async def end(self) -> None:
        """Kill the process and what it started, and wait until it is gone."""
        self._listening.cancel()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._writer.close()
        await asyncio.to_thread(self._process.wait)
        await asyncio.gather(self._listening, return_exceptions=True)

    async def _listen(self) -> None:
        try:
            while True:
                size = frames.length_of(await self._reader.readexactly(frames.LENGTH.size))
                await self._inbox.put(frames.for_worker(await self._reader.readexactly(size)))
        except (asyncio.IncompleteReadError, OSError):
            status = await asyncio.to_thread(self._process.wait)
            await self._inbox.put(ChildGone(_told(status)))
        except frames.FrameError as error:
            await self._inbox.put(ChildGone(f"its process speaks nonsense: {error}"))


def _told(status: int) -> str:
    if status >= 0:
        return f"its process ended with status {status}"
    with contextlib.suppress(ValueError):
        return f"its process was ended by {signal.Signals(-status).name}"
    return f"its process was ended by signal {-status}"
