"""gateway.journal: what people search, on the embedded journal server."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import journal as journal_module
from gateway.documents import Document, attempt_terms, cut_to_millisecond, fold, payment_terms
from gateway.journal import Journal
from gateway.journal_clauses import MAX_PAGE
from gateway.journal_cursors import Position, format_cursor, parse_cursor
from gateway.journal_search import Filter, JournalAway, JournalError, Page, SearchTerm, search_terms
from gateway.journal_windows import TooSlow
from tests.gateway.journal_plans import Plan, explain_attempts, explain_payments

DAY = datetime(2026, 11, 23, tzinfo=UTC)
NAMES = ("Ёлкина Анна Петровна", "Иванов Пётр", "Smith O'Hara", "Анненков Лев", "")
STATES = ("posted", "posted", "posted", "refused", "reversed")


def payment(number: int, **changed: Any) -> Document:
    """One of a series of payments, a minute apart, in a shape that documents give them."""
    at = DAY + timedelta(minutes=number)
    document: Document = {
        "_id": 100_000 + number,
        "version": 1,
        "partner": ("osmp-demo", "cyber-demo")[number % 2],
        "partner_name": "Терминалы",
        "key": str(5_000_000_000 + number * 7919),
        "account": str(79_161_000_000 + number * 104_729),
        "account_name": NAMES[number % len(NAMES)],
        "amount": 10_000 + number * 50,
        "currency": "RUB",
        "state": STATES[number % len(STATES)],
        "reason": "ok",
        "created_at": at,
        "updated_at": at,
        "timeline": [{"seq": 1, "event": "accept", "reply": "<response/>"}],
        "transfers": [],
        **changed,
    }
    document["terms"] = payment_terms(document)
    return document


def attempt(number: int, **changed: Any) -> Document:
    document: Document = {
        "_id": number,
        "at": DAY + timedelta(minutes=number),
        "partner": "osmp-demo",
        "kind": ("call", "conflict", "malformed")[number % 3],
        "op": "pay",
        "reason": ("ok", "conflict", "bad_request")[number % 3],
        "code": "0",
        "detail": "",
        "key": str(900 + number // 2),
        "account": "79161234567",
        "amount": 100,
        "payment_id": 100_000 + number % 5,
        "remote_ip": "203.0.113.7",
        "request": "",
        **changed,
    }
    document["terms"] = attempt_terms(document)
    return document


def wanted(text: str = "", days: int = 1, **more: Any) -> Filter:
    return Filter(DAY, DAY + timedelta(days=days), text, **more)


def with_journal(uri: str, name: str, story: Callable[[Journal], Awaitable[Any]]) -> Any:
    """Run a story on an empty journal."""

    async def told() -> Any:
        journal = Journal(uri, name)
        try:
            await journal.ensure_indexes()
            return await story(journal)
        finally:
            journal.close()

    return asyncio.run(told())


@pytest.fixture(autouse=True)
def time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page's time is a rule of its own, with tests of its own; the machine of the others may be slow."""
    monkeypatch.setattr(journal_module, "PAGE_BUDGET_S", 60.0)


def ids(page: Page) -> list[int]:
    return [row["_id"] for row in page.rows]


# -- writing -----------------------------------------------------------------------------------------------------------


def test_a_document_is_replaced_by_a_higher_version_only(journal_uri: str, journal_name: str) -> None:
    async def story(journal: Journal) -> list[Any]:
        seen = []
        for version, state in ((1, "held"), (3, "reversed"), (2, "posted"), (3, "again")):
            written = await journal.put_payments([payment(0, version=version, state=state)])
            stored = await journal.payment(100_000)
            assert stored is not None
            seen.append(((written.inserted, written.replaced, written.stale), stored["version"], stored["state"]))
        return seen

    assert with_journal(journal_uri, journal_name, story) == [
        ((1, 0, 0), 1, "held"),
        ((0, 1, 0), 3, "reversed"),
        ((0, 0, 1), 3, "reversed"),
        ((0, 0, 1), 3, "reversed"),
    ]


def test_a_rebuild_replaces_the_same_version_and_never_a_newer_one(journal_uri: str, journal_name: str) -> None:
    async def story(journal: Journal) -> list[str]:
        await journal.put_payments([payment(0, version=2, state="old words"), payment(1, version=3, state="newer")])
        await journal.put_payments(
            [payment(0, version=2, state="new words"), payment(1, version=2, state="late")], refresh=True
        )
        stored = await journal.payments_by_id([100_000, 100_001, 5])
        return [stored[100_000]["state"], stored[100_001]["state"]]

    assert with_journal(journal_uri, journal_name, story) == ["new words", "newer"]


def test_new_known_and_stale_documents_may_come_in_one_batch(journal_uri: str, journal_name: str) -> None:
    async def story(journal: Journal) -> tuple[Any, list[int]]:
        await journal.put_payments([payment(0), payment(1, version=5)])
        batch = [payment(0, version=2), payment(1, version=4), payment(2), payment(3, version=2)]
        written = await journal.put_payments(batch)
        stored = await journal.payments_by_id([100_000 + n for n in range(4)])
        return written, [stored[100_000 + n]["version"] for n in range(4)]

    written, versions = with_journal(journal_uri, journal_name, story)
    assert versions == [2, 5, 1, 2]
    assert (written.inserted + written.replaced, written.stale) == (3, 1)


def test_a_document_that_mongodb_cannot_hold_is_named(journal_uri: str, journal_name: str) -> None:
    async def story(journal: Journal) -> tuple[int, ...]:
        with pytest.raises(JournalError) as refused:
            await journal.put_payments([payment(0), payment(1, note="x" * (17 * 1024 * 1024))])
        return refused.value.ids

    assert with_journal(journal_uri, journal_name, story) == (100_001,)


def test_what_was_stored_comes_back_equal(journal_uri: str, journal_name: str) -> None:
    document = payment(0, extras={"phone": "+7", "a.b": "c"}, amount=10**15, partner_time=None)

    async def story(journal: Journal) -> Document | None:
        await journal.put_payments([dict(document)])
        return await journal.payment(100_000)

    assert with_journal(journal_uri, journal_name, story) == document


# -- searching ---------------------------------------------------------------------------------------------------------


def test_any_id_account_fragment_key_sum_or_name_finds_the_payment(journal_uri: str, journal_name: str) -> None:
    documents = [payment(number) for number in range(50)]
    target = payment(60, account="79265550102", key="RCPT-2026/77", amount=123_456, account_name="Щукина Ольга")
    texts = [
        str(target["_id"]), "79265550102", "5550102", "26555", "5501", "+7 (926) 555-01-02", "8 926 555 01 02",
        "RCPT-2026/77", "rcpt-20", "6/77", "1234.56", "1234,56", "1 234,56 ₽", "1234.56 руб", "щукина", "ЩУК",
        "Ольга Щукина", "щук оль 5501", "cyber-demo щук", "osmp-demo щук",
    ]  # fmt: skip

    async def story(journal: Journal) -> dict[str, list[int]]:
        await journal.put_payments([*documents, target])
        return {text: ids(await journal.search_payments(wanted(text))) for text in texts}

    found = with_journal(journal_uri, journal_name, story)
    assert found.pop("cyber-demo щук") == []
    assert found == {text: [target["_id"]] for text in texts if text in found}


def test_a_beginning_of_three_letters_and_a_short_word_are_found(journal_uri: str, journal_name: str) -> None:
    async def story(journal: Journal) -> tuple[list[int], list[int], int]:
        await journal.put_payments([payment(number) for number in range(30)])
        await journal.put_payments([payment(40, account_name="Ли Анна")])
        return (
            ids(await journal.search_payments(wanted("анн"))),
            ids(await journal.search_payments(wanted("ли"))),
            await journal.count_payments(),
        )

    beginning, short, count = with_journal(journal_uri, journal_name, story)
    assert beginning == [100_040] + [100_000 + n for n in range(29, -1, -1) if n % 5 in (0, 3)]
    assert short == [100_040]
    assert count == 31


def test_text_that_matches_nothing_finds_nothing_whatever_it_holds(journal_uri: str, journal_name: str) -> None:
    async def story(journal: Journal) -> list[list[int]]:
        await journal.put_payments([payment(number) for number in range(5)])
        texts = [
            ".*",
            "^",
            "(",
            "$ne",
            "[7]",
            "\\",
            "{}",
            "7" * 60,
            "%",
            "'; DROP TABLE payments",
            "💳",
            "a\x00b",
        ]
        return [ids(await journal.search_payments(wanted(text))) for text in texts]

    assert all(found == [] for found in with_journal(journal_uri, journal_name, story))


def test_an_exact_id_or_key_comes_first_whatever_its_date(journal_uri: str, journal_name: str) -> None:
    old = payment(0, created_at=DAY - timedelta(days=400), key="4477")
    other = payment(1, account="79164477000")

    async def story(journal: Journal) -> tuple[Page, Page, Page]:
        await journal.put_payments([old, other])
        by_key = await journal.search_payments(wanted("4477"))
        by_id = await journal.search_payments(wanted(str(old["_id"])))
        elsewhere = await journal.search_payments(wanted("4477", states=("refused",)))
        return by_key, by_id, elsewhere

    by_key, by_id, elsewhere = with_journal(journal_uri, journal_name, story)
    assert (ids(by_key), by_key.exact) == ([old["_id"], other["_id"]], 1)
    assert (ids(by_id), by_id.exact) == ([old["_id"]], 1)
    assert (ids(elsewhere), elsewhere.exact) == ([], 0)


def matching(documents: list[Document], filter_: Filter) -> list[int]:
    """The judge: the same filter in plain Python, without text."""
    found = [
        d
        for d in documents
        if filter_.start <= d["created_at"] < filter_.end
        and (not filter_.states or d["state"] in filter_.states)
        and (not filter_.partners or d["partner"] in filter_.partners)
        and (filter_.min_minor is None or d["amount"] >= filter_.min_minor)
        and (filter_.max_minor is None or d["amount"] <= filter_.max_minor)
    ]
    return [d["_id"] for d in sorted(found, key=lambda d: (d["created_at"], d["_id"]), reverse=True)]


FILTERS: list[dict[str, Any]] = [
    {},
    {"days": 2},
    {"states": ("posted",)},
    {"states": ("posted", "refused")},
    {"partners": ("osmp-demo",)},
    {"partners": ("osmp-demo", "cyber-demo"), "states": ("reversed",)},
    {"partners": ("nobody",)},
    {"min_minor": 11_000},
    {"max_minor": 11_000},
    {"min_minor": 11_000, "max_minor": 12_000, "states": ("posted",)},
    {"min_minor": 11_000, "max_minor": 11_000},
    {"min_minor": 11_000, "max_minor": 11_000, "partners": ("osmp-demo",), "states": ("posted",)},
]


def test_filters_pages_and_export_agree_with_plain_python(journal_uri: str, journal_name: str) -> None:
    # Twenty of one instant, so that pages break inside it; some a day later.
    documents = [payment(n, created_at=DAY + timedelta(minutes=n // 20, days=n // 90)) for n in range(120)]

    async def story(journal: Journal) -> list[Any]:
        await journal.put_payments([dict(document) for document in documents])
        outcomes = []
        for more in FILTERS:
            filter_ = wanted(**more)
            forward, backward = await walked(journal, filter_)
            exported = [row["_id"] async for rows in journal.export_payments(filter_) for row in rows]
            outcomes.append((filter_, forward, backward, exported))
        return outcomes

    for filter_, forward, backward, exported in with_journal(journal_uri, journal_name, story):
        expected = matching(documents, filter_)
        assert forward == expected
        assert backward == expected
        assert exported == expected


async def walked(journal: Journal, filter_: Filter) -> tuple[list[int], list[int]]:
    """All ids page by page to the end, and again from the last page back to the first."""
    page = await journal.search_payments(filter_, limit=7)
    assert page.previous is None
    pages = [page]
    while page.next:
        page = await journal.search_payments(filter_, page.next, limit=7)
        pages.append(page)
    forward = [found for page in pages for found in ids(page)]
    backward = ids(page)
    while page.previous:
        page = await journal.search_payments(filter_, page.previous, limit=7)
        backward = ids(page) + backward
    return forward, backward


def test_a_page_that_runs_out_of_time_says_how_far_it_came_and_goes_on_from_there(
    journal_uri: str, journal_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "PAGE_BUDGET_S", 0.0)  # one window a page
    documents = [payment(n, created_at=DAY + timedelta(minutes=n * 7)) for n in range(200)]

    async def story(journal: Journal) -> tuple[list[int], list[int], list[Page]]:
        await journal.put_payments([dict(document) for document in documents])
        journal._now = lambda: DAY + timedelta(days=1)
        filter_ = wanted(states=("reversed", "refused"), min_minor=12_000)
        pages = [await journal.search_payments(filter_, limit=5)]
        while pages[-1].next:
            pages.append(await journal.search_payments(filter_, pages[-1].next, limit=5))
        back, page = [ids(pages[-1])], pages[-1]
        while page.previous:
            page = await journal.search_payments(filter_, page.previous, limit=5)
            back.insert(0, ids(page))
        return [found for page in pages for found in ids(page)], [found for some in back for found in some], pages

    forward, backward, pages = with_journal(journal_uri, journal_name, story)
    expected = matching(documents, wanted(states=("reversed", "refused"), min_minor=12_000))
    assert forward == expected
    assert backward == expected
    short = [page for page in pages if page.reached is not None]
    assert short
    for page in short:
        assert len(page.rows) < 5
        assert page.next is not None
        assert all(row["created_at"] >= page.reached for row in page.rows)


def test_hours_that_are_counted_give_the_same_pages(journal_uri: str, journal_name: str) -> None:
    rush = [payment(n, created_at=DAY + timedelta(hours=10, milliseconds=n)) for n in range(400)]
    night = [payment(500 + n, created_at=DAY + timedelta(days=n // 4, hours=n % 3)) for n in range(40)]
    documents = rush + night
    asked: list[tuple[datetime, datetime]] = []

    class Counted:
        async def hours(
            self, start: datetime, end: datetime, newest_first: bool, most: int, *of: Sequence[str]
        ) -> list[tuple[datetime, int]]:
            assert of == ((), ())
            asked.append((start, end))
            counts: dict[datetime, int] = {}
            for document in documents:
                hour = document["created_at"].replace(minute=0, second=0, microsecond=0)
                if start < hour + timedelta(hours=1) and hour < end:
                    counts[hour] = counts.get(hour, 0) + 1
            return sorted(counts.items(), reverse=newest_first)[: min(most, 3)]

        async def minutes(self, hour: datetime) -> list[tuple[datetime, int]]:
            return [(DAY + timedelta(hours=10), 400)] if hour == DAY + timedelta(hours=10) else []

        async def seconds(self, minute: datetime) -> list[tuple[datetime, int]]:
            return [(minute, 400)]

    hours = Counted()

    async def story(journal: Journal) -> tuple[list[int], list[int]]:
        await journal.put_payments([dict(document) for document in documents])
        filter_ = wanted(days=12)
        forward, after = [], None
        while True:
            page = await journal.search_payments(filter_, after, 50, hours)
            forward += ids(page)
            after = page.next
            if after is None:
                break
        exported = [row["_id"] async for rows in journal.export_payments(filter_, hours) for row in rows]
        return forward, exported

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.journal_windows.HOURS_AT_ONCE", 3)
        forward, exported = with_journal(journal_uri, journal_name, story)
    assert forward == matching(documents, wanted(days=12))
    assert exported == forward
    assert len(asked) > 2


def test_a_window_that_the_server_gives_up_is_cut(journal_uri: str, journal_name: str) -> None:
    """The server refuses every window that holds more than ten documents, as if each had run out of time."""

    async def story(journal: Journal) -> tuple[list[int], int]:
        await journal.put_payments([payment(number) for number in range(100)])
        plain, refused = journal._window, 0

        async def window(*arguments: Any) -> list[Document]:
            nonlocal refused
            rows = await plain(*arguments[:-1], 0)
            if len(rows) > 10:
                refused += 1
                raise TooSlow
            return rows

        journal._window = window  # type: ignore[method-assign]
        return [row["_id"] async for rows in journal.export_payments(wanted()) for row in rows], refused

    exported, refused = with_journal(journal_uri, journal_name, story)
    assert exported == [100_099 - n for n in range(100)]
    assert refused > 0


def test_lists_leave_out_what_only_a_payments_own_page_shows(journal_uri: str, journal_name: str) -> None:
    async def story(journal: Journal) -> tuple[Document, Document | None]:
        await journal.put_payments([payment(0)])
        return (await journal.search_payments(wanted())).rows[0], await journal.payment(100_000)

    row, whole = with_journal(journal_uri, journal_name, story)
    assert whole is not None
    assert whole.keys() - row.keys() == {"terms", "timeline", "transfers"}


def test_attempts_are_listed_filtered_and_found_by_payment(journal_uri: str, journal_name: str) -> None:
    async def story(journal: Journal) -> tuple[Page, Page, list[Document], Document | None]:
        await journal.put_attempts([attempt(number) for number in range(30)])
        await journal.put_attempts([attempt(3, detail="changed")])
        conflicts = await journal.search_attempts(wanted(kinds=("conflict",)), limit=4)
        second = await journal.search_attempts(wanted(kinds=("conflict",)), conflicts.next, limit=4)
        named = await journal.attempts_of_payment(100_002, "osmp-demo", "903")
        return conflicts, second, named, await journal.attempt(3)

    conflicts, second, named, third = with_journal(journal_uri, journal_name, story)
    assert ids(conflicts) + ids(second) == [28, 25, 22, 19, 16, 13, 10, 7]
    assert [row["_id"] for row in named] == [27, 22, 17, 12, 7, 6, 2]
    assert third is not None
    assert third["detail"] == ""


# -- every query by an index -------------------------------------------------------------------------------------------

#: (filter, the index its list walks, documents looked at for each one found at most)
INDEXED: list[tuple[dict[str, Any], str, int]] = [
    ({}, "by_time", 1),
    ({"states": ("refused",)}, "by_state", 1),
    ({"states": ("refused", "reversed")}, "by_state", 1),
    ({"partners": ("osmp-demo",)}, "by_partner", 1),
    ({"partners": ("osmp-demo",), "states": ("refused",)}, "by_state", 2),
    ({"min_minor": 11_000, "max_minor": 11_000}, "by_amount", 1),
    ({"min_minor": 10_000, "max_minor": 13_000}, "by_time", 3),
    ({"text": "100.50"}, "by_terms", 1),
    ({"text": "7916100"}, "by_terms", 1),
    ({"text": "79161000000"}, "by_terms", 1),
    ({"text": "250"}, "by_terms", 1),
    ({"text": "100050"}, "by_terms", 1),
    ({"text": "ёлкина анна"}, "by_terms", 1),
    ({"text": "ёлкина", "states": ("posted",), "min_minor": 1}, "by_terms", 2),
]


@pytest.mark.parametrize(("more", "index", "ratio"), INDEXED, ids=[str(more) for more, _, _ in INDEXED])
def test_every_query_of_the_payments_page_is_served_by_an_index(
    journal_uri: str, journal_name: str, more: dict[str, Any], index: str, ratio: int
) -> None:
    async def story(journal: Journal) -> tuple[list[Plan], list[Plan], int]:
        # Two days beside the one that is asked for: an index that ignored the range would look at them too.
        days = [payment(n, created_at=DAY + timedelta(days=n % 3 - 1, minutes=n)) for n in range(90)]
        await journal.put_payments(days)
        filter_ = wanted(**more)
        count = len((await journal.search_payments(filter_, limit=500)).rows)
        page = await journal.search_payments(filter_, limit=2)
        return await explain_payments(journal, filter_), await explain_payments(journal, filter_, page.next), count

    first, later, count = with_journal(journal_uri, journal_name, story)
    queries = [plan.query for plan in first]
    assert {"list", "one"} <= set(queries)
    assert ("exact" in queries) == bool(more.get("text"))
    for plan in [*first, *later]:
        assert "IXSCAN" in plan.stages, plan
        assert "COLLSCAN" not in plan.stages, plan
        assert len(plan.indexes) == 1, plan
    for plan in first:
        if plan.query == "list":
            assert plan.indexes == {index}
            assert plan.examined <= max(10, count) * ratio  # a run of digits may stand in other numbers too


@pytest.mark.parametrize(
    ("more", "index"),
    [({}, "by_time"), ({"kinds": ("conflict",)}, "by_kind"), ({"text": "79161"}, "by_terms"),
     ({"kinds": ("conflict", "malformed"), "reasons": ("conflict",)}, "by_kind")],
)  # fmt: skip
def test_every_query_of_the_attempts_page_is_served_by_an_index(
    journal_uri: str, journal_name: str, more: dict[str, Any], index: str
) -> None:
    async def story(journal: Journal) -> list[Plan]:
        await journal.put_attempts([attempt(number) for number in range(30)])
        return await explain_attempts(journal, wanted(**more))

    plans = with_journal(journal_uri, journal_name, story)
    assert [plan.query for plan in plans if plan.query != "list"] == ["of payment", "of payment"]
    assert all("IXSCAN" in plan.stages and "COLLSCAN" not in plan.stages for plan in plans)
    assert plans[0].indexes == {index}


def test_a_query_without_an_index_is_told_apart(journal_uri: str, journal_name: str) -> None:
    """The test of the tests above: they would see a collection scan."""

    async def story(journal: Journal) -> list[Plan]:
        await journal.put_payments([payment(0)])
        await journal._db.payments.drop_indexes()
        return await explain_payments(journal, wanted(states=("posted",)))

    plans = {plan.query: plan for plan in with_journal(journal_uri, journal_name, story)}
    assert "COLLSCAN" in plans["list"].stages
    assert not plans["list"].indexes


# -- what a person types -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", []),
        ("   ", []),
        ("1234.5", [SearchTerm(("1234.50",))]),
        ("250 руб.", [SearchTerm(("250.00",))]),
        ("12 345 678,90", [SearchTerm(("12345678.90",))]),
        ("250", [SearchTerm(("250", "250.00"))]),
        ("2500", [SearchTerm(("2500", "2500.00"))]),
        ("916 123", [SearchTerm(("6123", "916123", "916123.00"), "916123")]),
        ("+7 916 123-45-67", [SearchTerm(("4567", "9161234567", "9161234567.00"), "9161234567")]),
        ("8 (916) 123 45 67", [SearchTerm(("4567", "9161234567", "9161234567.00"), "9161234567")]),
        ("AB-77/12", [SearchTerm(("7/12", "ab-", "ab-77/12"), "ab-77/12")]),
        ("Ёж  Пётр", [SearchTerm(("еж",)), SearchTerm(("петр", "пет"), "петр")]),
        ("Анн", [SearchTerm(("анн",))]),
        ("я", [SearchTerm(("я",))]),
        ("+", [SearchTerm(("+",))]),
    ],
)
def test_typed_text_becomes_terms(text: str, terms: list[SearchTerm]) -> None:
    assert search_terms(text) == terms


@pytest.mark.parametrize(
    "make",
    [
        lambda: wanted("x" * 101),
        lambda: wanted("a b c d e f g"),
        lambda: Filter(DAY, DAY),
        lambda: Filter(datetime(2026, 11, 23), DAY),  # noqa: DTZ001 - that is what is refused
        lambda: wanted(min_minor=5, max_minor=4),
        lambda: wanted(min_minor=-1),
        lambda: wanted(max_minor=2**63),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused_with_a_sentence(make: Callable[[], Filter]) -> None:
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        make()


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "?" * 8,
        "bm9uc2Vuc2U",
        "ключ",
        "=" * 9,
        "bjE",
        "A" * 5000,
        "bi0x",
        "bjk5OTk5OTk5OTk5OTk5OS4x",
        # n253402300799999.1 and its p: the last millisecond of the year 9999, where a date cannot grow any more
        "bjI1MzQwMjMwMDc5OTk5OS4x",
        "cDI1MzQwMjMwMDc5OTk5OS4x",
    ],
)
def test_a_page_address_that_is_not_ours_is_refused(journal_uri: str, journal_name: str, cursor: str) -> None:
    async def story(journal: Journal) -> None:
        with pytest.raises(ValueError, match="damaged"):
            await journal.search_payments(wanted(), cursor)

    with_journal(journal_uri, journal_name, story)


@given(st.text())
def test_any_page_address_is_a_position_or_refused(cursor: str) -> None:
    with contextlib.suppress(ValueError):
        position = parse_cursor(cursor)
        assert parse_cursor(format_cursor(position)) == position


@given(
    st.sampled_from("np"),
    st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds are naive
    st.integers(0, 2**63 - 1),
)
def test_a_row_is_found_again_by_its_cursor(direction: str, at: datetime, row_id: int) -> None:
    position = parse_cursor(format_cursor(Position(direction == "n", at, row_id)))
    assert (position.is_forward, position.at, position.id) == (direction == "n", cut_to_millisecond(at), row_id)


@given(st.text(max_size=120))
def test_any_text_is_terms_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        for term in search_terms(text):
            assert term.values
            assert all(value and value == fold(value) and " " not in value for value in term.values)


@pytest.mark.parametrize("limit", [0, -1, MAX_PAGE + 1])
def test_a_page_has_a_limit(journal_uri: str, journal_name: str, limit: int) -> None:
    async def story(journal: Journal) -> None:
        with pytest.raises(ValueError, match="a page has"):
            await journal.search_payments(wanted(), limit=limit)

    with_journal(journal_uri, journal_name, story)


def test_a_journal_that_is_away_says_so() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

        async def story() -> None:
            journal = Journal(f"mongodb://127.0.0.1:{port}/?directConnection=true", "nowhere")
            for call in (
                journal.put_payments([payment(0)]),
                journal.search_payments(wanted("1")),
            ):
                with pytest.raises(JournalAway, match="cannot be reached"):
                    await call
            journal.close()

        asyncio.run(story())
