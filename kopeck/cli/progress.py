"""Progress of a long command, on standard error: a bar with a total on a terminal, a line now and then elsewhere.

Does not know: what is done.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

#: How often a line is written where nobody watches a bar.
LINE_EVERY_S = 10.0

#: (done so far in units of the total, what to say)
Report = Callable[[int, str], None]


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Report]:
    """Tell how far a command is. total: of the units in which it reports; None: not known.

    The text that it reports with is shown as it is; the share of the total is added.
    """

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(what, total)
        return
    parts = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[said]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*parts, console=console) as bar:
        task = bar.add_task(what, total=total, said="starting")
        yield lambda done, said: bar.update(task, completed=done, said=said)


def size_of(file: IO[bytes]) -> int | None:
    """Bytes of an open file, None for a pipe; its position is left as it is."""
    if not file.seekable():
        return None
    here = file.tell()
    size = file.seek(0, 2)
    file.seek(here)
    return size


def _lines(what: str, total: int | None) -> Report:
    next_at = time.monotonic() + LINE_EVERY_S

    def report(done: int, said: str) -> None:
        nonlocal next_at
        now = time.monotonic()
        if now < next_at:
            return
        next_at = now + LINE_EVERY_S
        share = f", {min(100, 100 * done // total)} %" if total else ""
        click.echo(f"{what}: {said}{share}", err=True)

    return report
