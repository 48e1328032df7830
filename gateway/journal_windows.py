"""A list read window by window: each a stretch of time so short that a server reads it at once.

Rules. A server that walks an index in order stops at the page's last row; the embedded one reads and sorts whatever a
query may find: 100 microseconds a document, so a month is never asked for at once. Windows follow each other without a
gap from the end where a page begins, and grow while they are quick and find too little. Where it is known how many
documents each hour has (`Hours`), and each minute of an hour or second of a minute that a window has to cut, a window
is measured in documents: it is as short in a rush as it is long at night. Elsewhere it is measured in time. A page that
has used up its time says how far it came.

Does not know: MongoDB, filters, what the documents are. Time is an argument.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from gateway.documents import Document, cut_to_millisecond
from gateway.journal_cursors import MILLISECOND
from gateway.journal_search import Hour, Hours, JournalBusy

#: Hours asked for at once.
HOURS_AT_ONCE: Final = 400
HOUR: Final = timedelta(hours=1)
MINUTE: Final = timedelta(minutes=1)
SECOND: Final = timedelta(seconds=1)
#: A minute with more documents is looked at by seconds.
SECONDS_FROM: Final = 1_000
#: The first window: documents where they are counted, else time.
FIRST_DOCUMENTS: Final = 120
FIRST_WIDTH: Final = timedelta(minutes=1)
#: What a window should take, and by how much the next one may grow or shrink for it.
TARGET_S: Final = 0.04
GROW_MOST: Final = 6.0
SHRINK_MOST: Final = 0.1
#: Windows given up one after the other, each a tenth of the one before: a server that is slow for all of them is busy.
TRIES: Final = 4

#: (first instant, end, rows wanted at most, 0: all) -> rows in order.
Read = Callable[[datetime, datetime, int], Awaitable[list[Document]]]
Clock = Callable[[], float]


class TooSlow(Exception):
    """The server gave this window up for its time; a shorter one may do."""


@dataclass(frozen=True, slots=True)
class Span:
    """What is read: [start, end), newest first or oldest first. now: nothing lies after it, or None.

    first: how many times wider than usual the first window is, where what is sought is rare.
    """

    start: datetime
    end: datetime
    is_forward: bool = True
    now: datetime | None = None
    first: float = 1.0


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows in order, and where reading stopped: None at the end of the span or once there were enough."""

    rows: list[Document]
    reached: datetime | None


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of time and about how many documents it has."""

    start: datetime
    width: timedelta
    documents: float

    @property
    def end(self) -> datetime:
        return self.start + self.width


@dataclass(slots=True)
class Counts:
    """Hours as one query's leads walk them: of these states and partners. Remembers what it was told."""

    source: Hours
    states: tuple[str, ...] = ()
    partners: tuple[str, ...] = ()
    _finer: dict[tuple[datetime, timedelta], Sequence[Hour]] = field(default_factory=dict)

    async def hours(self, span: "Span", at: datetime) -> Sequence[Hour]:
        """The next hours of the span from ``at`` on."""
        start, end = (span.start, at) if span.is_forward else (at, span.end)
        return await self.source.hours(start, end, span.is_forward, HOURS_AT_ONCE, self.states, self.partners)

    async def finer(self, part: Part) -> list[Part]:
        """The parts of an hour or of a busy minute that have any documents, in order, as if all states and partners
        were spread alike; empty where nothing finer is known."""
        if part.width < MINUTE or (part.width == MINUTE and part.documents < SECONDS_FROM):
            return []
        if (part.start, part.width) not in self._finer:
            ask = self.source.minutes if part.width == HOUR else self.source.seconds
            self._finer[part.start, part.width] = await ask(part.start)
        counted = self._finer[part.start, part.width]
        total = sum(payments for _, payments in counted)
        width = MINUTE if part.width == HOUR else SECOND
        return [Part(start, width, part.documents * payments / total) for start, payments in counted]


@dataclass(slots=True)
class _Course:
    """Where the next window ends. Positions move from the span's beginning to its far end."""

    span: Span
    counts: Counts | None
    _known: list[Hour] = field(default_factory=list)
    _index: int = 0
    _is_complete: bool = False

    async def advance(self, at: datetime, step: float) -> datetime:
        """The far side of a window at ``at`` that holds about ``step`` documents, or ``step`` seconds."""
        if self.counts is None:
            return self._bounded(at, timedelta(seconds=step))
        left = step
        while True:
            hour, count = await self._next_hour(self.counts, at)
            if hour is None:
                return self.span.start if self.span.is_forward else self.span.end
            whole = Part(hour, HOUR, float(count))
            if count > left:
                place, left = await self._cut(self.counts, whole, at, left)
                if left <= 0:
                    return min(max(place, self.span.start), self.span.end)
            else:
                left -= count
            at = max(hour, self.span.start) if self.span.is_forward else min(whole.end, self.span.end)
            if left < step / 4 or at in (self.span.start, self.span.end):
                return at

    async def _cut(self, counts: Counts, part: Part, at: datetime, left: float) -> tuple[datetime, float]:
        """(the place in ``part`` beyond ``at`` that about ``left`` documents lie before, how many are still left)."""
        finer = await counts.finer(part)
        if not finer:
            ahead = min(at, part.end) - part.start if self.span.is_forward else part.end - max(at, part.start)
            near = min(at, part.end) if self.span.is_forward else max(at, part.start)
            there = part.documents * (ahead / part.width)
            if there <= left:
                return (part.start if self.span.is_forward else part.end), left - there
            return self._bounded(near, ahead * (left / there)), 0.0
        for piece in reversed(finer) if self.span.is_forward else finer:
            ahead = min(at, piece.end) - piece.start if self.span.is_forward else piece.end - max(at, piece.start)
            if ahead <= timedelta(0):
                continue
            documents = piece.documents * (ahead / piece.width)
            if documents > left:
                return await self._cut(counts, piece, at, left)
            left -= documents
        return (part.start if self.span.is_forward else part.end), left

    async def _next_hour(self, counts: Counts, at: datetime) -> tuple[datetime | None, int]:
        """The next hour that has documents beyond ``at``."""
        while self._index and self._is_beyond(at, self._known[self._index - 1][0]):
            self._index -= 1  # a window that was too slow is asked for again, shorter
        while True:
            while self._index < len(self._known):
                hour, count = self._known[self._index]
                if self._is_beyond(at, hour):
                    return hour, count
                self._index += 1
            if self._is_complete:
                return None, 0
            more = await counts.hours(self.span, at)
            self._known += more[1:] if self._known and more and more[0][0] == self._known[-1][0] else more
            self._is_complete = len(more) < HOURS_AT_ONCE

    def _is_beyond(self, at: datetime, hour: datetime) -> bool:
        """Whether some of the hour still lies ahead of ``at``."""
        return hour < at if self.span.is_forward else hour + HOUR > at

    def _bounded(self, at: datetime, width: timedelta) -> datetime:
        """``at`` moved on by ``width``, a millisecond at least, within the span."""
        width = max(width, MILLISECOND)
        if self.span.is_forward:
            return max(cut_to_millisecond(at - width), self.span.start)
        return min(cut_to_millisecond(at + width), self.span.end)


async def windows(
    read: Read, span: Span, counts: Counts | None, clock: Clock
) -> AsyncIterator[tuple[list[Document], datetime]]:
    """(rows in order, far side) of one window after the other, to the end of the span. No limit but time's.

    Raises:
        JournalBusy: even a window of a millisecond took too long.
    """
    async for rows, far in _windows(read, span, counts, clock, 0):
        yield rows, far


async def read_page(read: Read, span: Span, most: int, budget_s: float, counts: Counts | None, clock: Clock) -> Rows:
    """Up to ``most`` rows; stops early when ``budget_s`` is used up, after one window at least."""
    rows: list[Document] = []
    until = clock() + budget_s
    last = span.start if span.is_forward else span.end
    far = span.end if span.is_forward else span.start
    begin = far
    try:
        async for found, far in _windows(read, span, counts, clock, most):
            rows += found
            if len(rows) >= most:
                return Rows(rows[:most], None)
            if far == last:
                break
            if clock() >= until:
                return Rows(rows, far)
    except JournalBusy:
        if far == begin:
            raise
        return Rows(rows, far)
    return Rows(rows, None)


async def _windows(
    read: Read, span: Span, counts: Counts | None, clock: Clock, most: int
) -> AsyncIterator[tuple[list[Document], datetime]]:
    course = _Course(span, counts)
    at, last = (span.end, span.start) if span.is_forward else (span.start, span.end)
    step = least = span.first * (FIRST_DOCUMENTS if counts else FIRST_WIDTH.total_seconds())
    is_first, tries = True, 0
    while at != last:
        far = await course.advance(at, step)
        if is_first and counts is None and span.is_forward and span.now is not None and span.now < at:
            far = max(cut_to_millisecond(span.now - FIRST_WIDTH), last)  # what lies in the future costs nothing
        is_first = False
        began = clock()
        start, end = (far, at) if span.is_forward else (at, far)
        try:
            rows = await read(start, end, most)
        except TooSlow as error:
            tries += 1
            if end - start <= MILLISECOND or tries >= TRIES:
                raise JournalBusy("the journal's server is too slow for the little that was asked of it") from error
            step *= SHRINK_MOST
            continue
        tries = 0
        yield rows, far
        took = max(clock() - began, 1e-4)
        # A slow answer to a short question is the machine's fault: asking for less makes only more questions.
        step = max(step * min(TARGET_S / took, GROW_MOST), min(step, least))
        at = far


def merged(found: Sequence[list[Document]], time: str, is_forward: bool) -> list[Document]:
    """Rows of several leads in one order, each row once."""
    if len(found) == 1:
        return found[0]
    rows = {row["_id"]: row for some in found for row in some}
    return sorted(rows.values(), key=lambda row: (row[time], row["_id"]), reverse=is_forward)
