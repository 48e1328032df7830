"""gateway.journal_windows: no gap, no overlap, no row twice, and few questions, from either end."""

import asyncio
import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import journal_windows
from gateway.documents import Document
from gateway.journal_search import JournalBusy
from gateway.journal_windows import HOUR, MINUTE, SECOND, Counts, Span, TooSlow, read_page, windows

DAY = datetime(2026, 11, 23, tzinfo=UTC)
COST_S = 0.0001


class Server:
    """Documents in order, a clock that every document read moves on, and what was asked."""

    def __init__(self, instants: Sequence[datetime], is_forward: bool, most_at_once: int = 10**9) -> None:
        self.documents = [{"_id": number, "at": at} for number, at in enumerate(sorted(instants))]
        self.is_forward = is_forward
        self.most_at_once = most_at_once
        self.now_s = 0.0
        self.asked: list[tuple[datetime, datetime]] = []

    def clock(self) -> float:
        return self.now_s

    async def read(self, start: datetime, end: datetime, most: int) -> list[Document]:
        found = [document for document in self.documents if start <= document["at"] < end]
        self.now_s += 0.002 + COST_S * len(found)
        if len(found) > self.most_at_once and end - start > timedelta(milliseconds=1):
            raise TooSlow
        self.asked.append((start, end))
        found.sort(key=lambda document: (document["at"], document["_id"]), reverse=self.is_forward)
        return found[:most] if most else found

    async def hours(
        self, start: datetime, end: datetime, newest_first: bool, most: int, *of: Sequence[str]
    ) -> list[tuple[datetime, int]]:
        return sorted(self._counted(HOUR, start, end).items(), reverse=newest_first)[: min(most, 5)]

    async def minutes(self, hour: datetime) -> list[tuple[datetime, int]]:
        return sorted(self._counted(MINUTE, hour, hour + HOUR).items())

    async def seconds(self, minute: datetime) -> list[tuple[datetime, int]]:
        return sorted(self._counted(SECOND, minute, minute + MINUTE).items())

    def _counted(self, width: timedelta, start: datetime, end: datetime) -> dict[datetime, int]:
        counts: dict[datetime, int] = {}
        for document in self.documents:
            begin = DAY + (document["at"] - DAY) // width * width
            if begin < end and begin + width > start:
                counts[begin] = counts.get(begin, 0) + 1
        return counts


instants = st.lists(
    st.integers(0, 3 * 24 * 3600 * 1000).map(lambda ms: DAY + timedelta(milliseconds=ms)), max_size=60
) | st.lists(st.integers(0, 500).map(lambda ms: DAY + timedelta(hours=30, milliseconds=ms)), max_size=60)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(instants, st.booleans(), st.booleans(), st.sampled_from([40, 10**9]), st.integers(-2, 100))
def test_windows_tile_the_span_and_give_each_row_once_in_order(
    at: list[datetime], is_forward: bool, is_counted: bool, most_at_once: int, now_hours: int
) -> None:
    server = Server(at, is_forward, most_at_once)
    span = Span(DAY, DAY + timedelta(days=4), is_forward, DAY + timedelta(hours=now_hours, minutes=10))

    async def story() -> list[int]:
        counts = Counts(server) if is_counted else None
        return [row["_id"] async for rows, _ in windows(server.read, span, counts, server.clock) for row in rows]

    seen = asyncio.run(story())
    expected = [document["_id"] for document in server.documents]
    assert seen == (expected[::-1] if is_forward else expected)
    asked = sorted(server.asked)
    assert (asked[0][0], asked[-1][1]) == (span.start, span.end)
    assert all(first[1] == second[0] for first, second in itertools.pairwise(asked))
    assert len(asked) < 400


@pytest.fixture
def as_it_is(few_hours_at_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()


@pytest.fixture(autouse=True)
def few_hours_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_windows, "HOURS_AT_ONCE", 5)
    monkeypatch.setattr(journal_windows, "SECONDS_FROM", 30)
    monkeypatch.setattr(journal_windows, "FIRST_DOCUMENTS", 12)


@pytest.mark.usefixtures("as_it_is")
def test_a_page_of_a_busy_month_reads_little_more_than_it_shows() -> None:
    """100,000 documents in 98 seconds after a quiet month, as the trial of a provider had them."""
    rush = [DAY + timedelta(seconds=98 * number / 100_000) for number in range(100_000)]
    server = Server([DAY - timedelta(days=20, hours=number) for number in range(50)] + rush, True)
    span = Span(DAY - timedelta(days=30), DAY + timedelta(days=1), True, DAY + timedelta(minutes=3))
    rows = asyncio.run(read_page(server.read, span, 51, 0.12, Counts(server), server.clock))
    assert [row["_id"] for row in rows.rows] == [100_049 - number for number in range(51)]
    assert rows.reached is None
    assert server.now_s < 0.5


def test_a_server_that_is_slow_for_the_least_ends_the_page_and_not_the_person() -> None:
    """Rows until noon; before that every question takes too long, however short."""
    noon = DAY + timedelta(hours=12)

    class Slow(Server):
        async def read(self, start: datetime, end: datetime, most: int) -> list[Document]:
            if start < noon:
                self.now_s += 1.0
                raise TooSlow
            return await super().read(start, end, most)

    server = Slow([DAY + timedelta(minutes=number) for number in range(1_000)], True)
    span = Span(DAY, DAY + timedelta(days=1), True, DAY + timedelta(hours=17))
    rows = asyncio.run(read_page(server.read, span, 900, 60.0, Counts(server), server.clock))
    assert rows.reached is not None
    assert noon <= rows.reached < noon + timedelta(hours=2)
    assert len(rows.rows) > 100
    span = Span(DAY, noon, True, noon)
    with pytest.raises(JournalBusy, match="too slow"):
        asyncio.run(read_page(server.read, span, 900, 60.0, Counts(server), server.clock))


def test_a_page_without_time_stops_after_one_window_and_says_where() -> None:
    server = Server([DAY + timedelta(minutes=number) for number in range(600)], True)
    span = Span(DAY, DAY + timedelta(days=1), True, DAY + timedelta(hours=11))
    rows = asyncio.run(read_page(server.read, span, 1_000, 0.0, Counts(server), server.clock))
    [(start, end)] = server.asked
    assert (rows.reached, end) == (start, span.end)
    assert 0 < len(rows.rows) < 600
