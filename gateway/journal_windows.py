"""A list read window by window: each a stretch of time so short that a server reads it at once.

Rules. A server that walks an index in order stops at the page's last row; the embedded one reads and sorts whatever a
query may find: 100 microseconds a document, so a month is never asked for at once. Windows follow each other without a
gap from the end where a page begins, and grow while they are quick and find too little. Where the number of documents
of each hour is known (`Hours`), a window is measured in documents, so that it is as short in a rush as it is long at
night; elsewhere it is measured in time. A page that has used up its time says how far it came.

Does not know: MongoDB, filters, what the documents are. Time is an argument.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from gateway.documents import Document, cut_to_millisecond
from gateway.journal_cursors import MILLISECOND
from gateway.journal_search import Hours, JournalBusy

#: Hours asked for at once.
HOURS_AT_ONCE: Final = 400
HOUR: Final = timedelta(hours=1)
#: The first window: documents where they are counted, else time.
FIRST_DOCUMENTS: Final = 120
FIRST_WIDTH: Final = timedelta(minutes=1)
#: What a window should take, and by how much the next one may grow or shrink for it.
TARGET_S: Final = 0.04
GROW_MOST: Final = 6.0
SHRINK_MOST: Final = 0.1

#: (first instant, end, rows wanted at most, 0: all) -> rows in order.
Read = Callable[[datetime, datetime, int], Awaitable[list[Document]]]
Clock = Callable[[], float]


class TooSlow(Exception):
    """The server gave this window up for its time; a shorter one may do."""


@dataclass(frozen=True, slots=True)
class Span:
    """What is read: [start, end), newest first or oldest first. now: nothing lies after it, or None."""

    start: datetime
    end: datetime
    is_forward: bool = True
    now: datetime | None = None


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows in order, and where reading stopped: None at the end of the span or once there were enough."""

    rows: list[Document]
    reached: datetime | None


@dataclass(slots=True)
class _Course:
    """Where the next window ends. Positions move from the span's beginning to its far end."""

    span: Span
    hours: Hours | None
    _known: list[tuple[datetime, int]] = field(default_factory=list)
    _is_complete: bool = False

    async def advance(self, at: datetime, step: float) -> datetime:
        """The far side of a window at ``at`` that holds about ``step`` documents, or ``step`` seconds."""
        if self.hours is None:
            return self._bounded(at, timedelta(seconds=step))
        left = step
        while True:
            hour, count = await self._next_hour(at)
            if hour is None:
                return self.span.start if self.span.is_forward else self.span.end
            end = hour + HOUR
            if self.span.now is not None and hour < self.span.now < end:
                end = self.span.now  # the present hour's documents lie in the part of it that has passed
            near = min(at, end) if self.span.is_forward else max(at, hour)
            whole = near - hour if self.span.is_forward else max(end - near, MILLISECOND)
            documents = count * (whole / (end - hour))
            if documents > left:
                return self._bounded(near, whole * (left / documents))
            left -= documents
            at = self._bounded(near, whole)
            if left < step / 4 or at in (self.span.start, self.span.end):
                return at

    async def _next_hour(self, at: datetime) -> tuple[datetime | None, int]:
        """The next hour that has documents beyond ``at``."""
        assert self.hours is not None
        while True:
            while self._known:
                hour, count = self._known[0]
                if hour < at if self.span.is_forward else hour + HOUR > at:
                    return hour, count
                self._known.pop(0)
            if self._is_complete:
                return None, 0
            span = (self.span.start, at) if self.span.is_forward else (at, self.span.end)
            self._known = list(await self.hours(*span, self.span.is_forward, HOURS_AT_ONCE))
            self._is_complete = len(self._known) < HOURS_AT_ONCE

    def _bounded(self, at: datetime, width: timedelta) -> datetime:
        """``at`` moved on by ``width``, a millisecond at least, within the span."""
        width = max(width, MILLISECOND)
        if self.span.is_forward:
            return max(cut_to_millisecond(at - width), self.span.start)
        return min(cut_to_millisecond(at + width), self.span.end)


async def windows(
    read: Read, span: Span, hours: Hours | None, clock: Clock
) -> AsyncIterator[tuple[list[Document], datetime]]:
    """(rows in order, far side) of one window after the other, to the end of the span. No limit but time's.

    Raises:
        JournalBusy: even a window of a millisecond took too long.
    """
    async for rows, far in _windows(read, span, hours, clock, 0):
        yield rows, far


async def read_page(read: Read, span: Span, most: int, budget_s: float, hours: Hours | None, clock: Clock) -> Rows:
    """Up to ``most`` rows; stops early when ``budget_s`` is used up, after one window at least."""
    rows: list[Document] = []
    until = clock() + budget_s
    last = span.start if span.is_forward else span.end
    async for found, far in _windows(read, span, hours, clock, most):
        rows += found
        if len(rows) >= most:
            return Rows(rows[:most], None)
        if far == last:
            break
        if clock() >= until:
            return Rows(rows, far)
    return Rows(rows, None)


async def _windows(
    read: Read, span: Span, hours: Hours | None, clock: Clock, most: int
) -> AsyncIterator[tuple[list[Document], datetime]]:
    course = _Course(span, hours)
    at, last = (span.end, span.start) if span.is_forward else (span.start, span.end)
    step = float(FIRST_DOCUMENTS) if hours else FIRST_WIDTH.total_seconds()
    is_first = True
    while at != last:
        far = await course.advance(at, step)
        if is_first and hours is None and span.is_forward and span.now is not None and span.now < at:
            far = max(cut_to_millisecond(span.now - FIRST_WIDTH), last)  # what lies in the future costs nothing
        is_first = False
        began = clock()
        start, end = (far, at) if span.is_forward else (at, far)
        try:
            rows = await read(start, end, most)
        except TooSlow as error:
            if end - start <= MILLISECOND:
                raise JournalBusy("the journal's server is too slow for the least that can be asked of it") from error
            step *= SHRINK_MOST
            continue
        yield rows, far
        took = max(clock() - began, 1e-4)
        step *= min(max(TARGET_S / took, SHRINK_MOST), GROW_MOST)
        at = far


def merged(found: Sequence[list[Document]], time: str, is_forward: bool) -> list[Document]:
    """Rows of several leads in one order, each row once."""
    if len(found) == 1:
        return found[0]
    rows = {row["_id"]: row for some in found for row in some}
    return sorted(rows.values(), key=lambda row: (row[time], row["_id"]), reverse=is_forward)
