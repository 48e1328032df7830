"""The child process that does the work of jobs: ``python -m kopeck.work.child DESCRIPTOR``, started by a worker.

Rules. One job at a time, in the main thread, so that work may handle signals, start processes and run an event loop; a
second thread listens to the worker. A process is used again for the next job, which spares the imports, unless its work
failed or left much memory behind (kopeck.work.worker decides). When the socket closes, the worker is gone: the process
ends at once, whatever it is at, for its job is another's by then.

Does not know: the database of jobs.
"""

import asyncio
import inspect
import json
import logging
import os
import queue
import socket
import sys
import threading
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final, Literal

import psutil

from billing.refusals import Refusal, Unavailable
from billing.work.jobs.context import JobCancelled
from billing.work.jobs.records import MESSAGE_CHARS, RESULT_MAX_BYTES
from kopeck.logs import configure_logs
from kopeck.work import frames
from kopeck.work.context import ChildContext

log = logging.getLogger("kopeck.work")

_WORKER_IS_GONE: Final = 3


class _Link:
    """The socket to the worker."""

    def __init__(self, link: socket.socket) -> None:
        self._socket = link
        self._sending = threading.Lock()

    def send(self, frame: frames.ToWorker) -> None:
        try:
            with self._sending:
                self._socket.sendall(frames.encode(frame))
        except OSError:
            os._exit(_WORKER_IS_GONE)

    def receive(self) -> frames.ToChild:
        """The next frame; the process ends where there is none."""
        return frames.for_child(self._exactly(frames.length_of(self._exactly(frames.LENGTH.size))))

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            try:
                more = self._socket.recv(size - len(data))
            except OSError:
                more = b""
            if not more:
                os._exit(_WORKER_IS_GONE)
            data += more
        return bytes(data)


class _Process:
    """The jobs of this process, one after the other."""

    def __init__(self, link: _Link, setup: frames.Setup) -> None:
        self._link = link
        self._setup = setup
        self._runs: queue.SimpleQueue[frames.Run] = queue.SimpleQueue()
        self._context: ChildContext | None = None

    def listen(self) -> None:
        """Hear the worker, for ever. In a thread of its own."""
        while True:
            frame = self._link.receive()
            context = self._context
            if isinstance(frame, frames.Run):
                self._context = ChildContext(frame, self._setup, self._link.send)
                self._runs.put(frame)
            elif context is not None and isinstance(frame, frames.Stop):
                context.stop()
            elif context is not None and isinstance(frame, frames.Answer):
                context.answered(frame)

    def work(self) -> None:
        """Do jobs, for ever. In the main thread."""
        while True:
            run = self._runs.get()
            context = self._context
            assert context is not None
            self._link.send(ended(run, context))


def ended(run: frames.Run, context: ChildContext) -> frames.Ended:
    """Do one job to its end, whatever that is."""
    result: Mapping[str, Any] | None = None
    how: Literal["done", "cancelled", "refused", "error"] = "done"
    message = ""
    try:
        result = _call(run.place, context)
        context.flush()
    except JobCancelled as stopped:
        how, message = "cancelled", str(stopped)
    except Refusal as error:
        how, message = "refused", str(error)
    except Unavailable as error:
        how, message = "error", str(error)
    except (Exception, SystemExit) as error:
        log.exception("job_failed", extra={"job": run.job_id, "kind": run.kind})
        how, message = "error", f"internal error, please report it: {type(error).__name__} at {_place(error)}: {error}"
    if how != "done":
        context.flush_progress()
    text = ""
    if result is not None:
        try:
            text = json.dumps(result, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            how, message = "error", f"internal error, please report it: the result of {run.place} is no JSON: {error}"
    if len(text.encode()) > RESULT_MAX_BYTES:
        text = ""
        context.log(f"the summary is larger than {RESULT_MAX_BYTES} bytes and is not kept")
    message = message.replace("\0", "")[:MESSAGE_CHARS].encode("utf-8", "replace").decode()
    return frames.Ended(how, message, text, psutil.Process().memory_info().rss)


def _call(place: str, context: ChildContext) -> Mapping[str, Any] | None:
    module, _, function = place.partition(":")
    work = getattr(import_module(module), function)
    if inspect.iscoroutinefunction(work):
        result: Mapping[str, Any] | None = asyncio.run(work(context))
        return result
    return work(context)  # type: ignore[no-any-return]


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "?" if trace is None else f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"


def main() -> None:
    """Serve the worker whose socket was handed over, until it closes it."""
    link = _Link(socket.socket(fileno=int(sys.argv[1])))
    setup = link.receive()
    assert isinstance(setup, frames.Setup)
    configure_logs(setup.settings.log, "job")
    process = _Process(link, setup)
    threading.Thread(target=process.listen, name="worker", daemon=True).start()
    process.work()


if __name__ == "__main__":
    main()
