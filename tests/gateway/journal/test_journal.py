"""gateway.journal.journal: what people search, on the embedded journal server."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.journal import journal as journal_module
from gateway.journal.documents import Document, attempt_terms, cut_to_millisecond, fold, payment_terms
from gateway.journal.journal import (
    MAX_PAGE,
    Filter,
    Journal,
    JournalAway,
    JournalBusy,
    JournalError,
    Page,
    Plan,
    SearchTerm,
    Totals,
    search_terms,
)

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


@pytest.mark.parametrize("is_small", [True, False], ids=["embedded server", "MongoDB"])
def test_both_forms_of_a_query_find_the_same(journal_uri: str, journal_name: str, is_small: bool) -> None:
    async def story(journal: Journal) -> tuple[list[int], int, bool]:
        await journal.put_payments([payment(number) for number in range(30)])
        found_out = await journal._is_small_server()
        journal._small_server = is_small
        return ids(await journal.search_payments(wanted("ан"))), await journal.count_payments(), found_out

    found, count, found_out = with_journal(journal_uri, journal_name, story)
    assert found == [100_000 + n for n in range(29, -1, -1) if n % 5 in (0, 3)]
    assert count == 30
    assert found_out is True


def test_an_empty_server_is_asked_again_once_it_has_indexes(journal_uri: str, journal_name: str) -> None:
    async def run() -> tuple[bool, bool]:
        journal = Journal(journal_uri, journal_name)
        before = await journal._is_small_server()
        await journal.ensure_indexes()
        after = await journal._is_small_server()
        journal.close()
        return before, after

    assert asyncio.run(run()) == (False, True)


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


def test_filters_pages_totals_and_export_agree_with_plain_python(journal_uri: str, journal_name: str) -> None:
    # Twenty of one instant, so that pages break inside it; some a day later.
    documents = [payment(n, created_at=DAY + timedelta(minutes=n // 20, days=n // 90)) for n in range(120)]

    async def story(journal: Journal) -> list[Any]:
        await journal.put_payments([dict(document) for document in documents])
        outcomes = []
        for more in FILTERS:
            filter_ = wanted(**more)
            forward, backward = await walked(journal, filter_)
            exported = [row["_id"] async for row in journal.export_payments(filter_)]
            totals = await journal.payment_totals(filter_)
            outcomes.append((filter_, forward, backward, exported, totals))
        return outcomes

    for filter_, forward, backward, exported, totals in with_journal(journal_uri, journal_name, story):
        expected = matching(documents, filter_)
        by_id = {document["_id"]: document for document in documents}
        assert forward == expected
        assert backward == expected
        assert exported == expected
        assert totals.count == len(expected)
        assert sum(line.amount for line in totals.sums) == sum(by_id[found]["amount"] for found in expected)
        assert {line.state for line in totals.sums} == {by_id[found]["state"] for found in expected}
        assert not totals.is_capped


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


def test_totals_of_too_many_payments_say_that_there_are_more(
    journal_uri: str, journal_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "MAX_TOTALLED", 10)

    async def story(journal: Journal) -> tuple[Totals, Totals]:
        await journal.put_payments([payment(number) for number in range(12)])
        return await journal.payment_totals(wanted()), await journal.payment_totals(wanted(max_minor=10_400))

    capped, whole = with_journal(journal_uri, journal_name, story)
    assert (capped.count, capped.is_capped) == (10, True)
    assert (whole.count, whole.is_capped) == (9, False)


def test_a_query_that_takes_too_long_is_given_up(
    journal_uri: str, journal_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(journal: Journal) -> None:
        await journal.put_payments([payment(number) for number in range(1_000)])
        monkeypatch.setattr(journal_module, "QUERY_TIMEOUT_S", 0.001)
        with pytest.raises(JournalBusy, match="did not answer within"):
            await journal.payment_totals(wanted(states=("posted", "refused")))

    with_journal(journal_uri, journal_name, story)


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
    ({"states": ("refused", "reversed")}, "by_time", 3),
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
        count = (await journal.payment_totals(filter_)).count
        page = await journal.search_payments(filter_, limit=2)
        return await journal.explain_payments(filter_), await journal.explain_payments(filter_, page.next), count

    first, later, count = with_journal(journal_uri, journal_name, story)
    queries = [plan.query for plan in first]
    assert {"list", "totals", "one"} <= set(queries)
    assert ("exact" in queries) == bool(more.get("text"))
    for plan in [*first, *later]:
        assert "IXSCAN" in plan.stages, plan
        assert "COLLSCAN" not in plan.stages, plan
        assert len(plan.indexes) == 1, plan
    for plan in first:
        if plan.query in ("list", "totals"):
            assert plan.indexes == {index}
            # A beginning is sought in all days, so up to three times what the one day has.
            assert plan.examined <= max(1, count) * ratio * (3 if index == "by_terms" else 1)


@pytest.mark.parametrize(
    ("more", "index"),
    [({}, "by_time"), ({"kinds": ("conflict",)}, "by_kind"), ({"text": "79161"}, "by_terms"),
     ({"kinds": ("conflict", "malformed"), "reasons": ("conflict",)}, "by_time")],
)  # fmt: skip
def test_every_query_of_the_attempts_page_is_served_by_an_index(
    journal_uri: str, journal_name: str, more: dict[str, Any], index: str
) -> None:
    async def story(journal: Journal) -> list[Plan]:
        await journal.put_attempts([attempt(number) for number in range(30)])
        return await journal.explain_attempts(wanted(**more))

    plans = with_journal(journal_uri, journal_name, story)
    assert [plan.query for plan in plans] == ["list", "of payment", "of payment"]
    assert all("IXSCAN" in plan.stages and "COLLSCAN" not in plan.stages for plan in plans)
    assert plans[0].indexes == {index}


def test_a_query_without_an_index_is_told_apart(journal_uri: str, journal_name: str) -> None:
    """The test of the tests above: they would see a collection scan."""

    async def story(journal: Journal) -> list[Plan]:
        await journal.put_payments([payment(0)])
        await journal._db.payments.drop_indexes()
        return await journal.explain_payments(wanted(states=("posted",)))

    plans = {plan.query: plan for plan in with_journal(journal_uri, journal_name, story)}
    assert "COLLSCAN" in plans["list"].stages
    assert not plans["list"].indexes


# -- what a person types -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", []),
        ("   ", []),
        ("1234.5", [SearchTerm(("1234.50",), False)]),
        ("250 руб.", [SearchTerm(("250.00",), False)]),
        ("12 345 678,90", [SearchTerm(("12345678.90",), False)]),
        ("250", [SearchTerm(("250", "250.00"), False)]),
        ("2500", [SearchTerm(("2500",), True)]),
        ("916 123", [SearchTerm(("916123",), True)]),
        ("+7 916 123-45-67", [SearchTerm(("9161234567",), True)]),
        ("8 (916) 123 45 67", [SearchTerm(("9161234567",), True)]),
        ("79161234567", [SearchTerm(("79161234567",), True)]),
        ("AB-77/12", [SearchTerm(("ab-77/12",), True)]),
        ("Ёж  Пётр", [SearchTerm(("еж",), True), SearchTerm(("петр",), True)]),
        ("я", [SearchTerm(("я",), False)]),
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
    ["", "x", "?" * 8, "bm9uc2Vuc2U", "ключ", "=" * 9, "bjE", "A" * 5000, "bi0x", "bjk5OTk5OTk5OTk5OTk5OS4x"],
)
def test_a_page_address_that_is_not_ours_is_refused(journal_uri: str, journal_name: str, cursor: str) -> None:
    async def story(journal: Journal) -> None:
        with pytest.raises(ValueError, match="damaged"):
            await journal.search_payments(wanted(), cursor)

    with_journal(journal_uri, journal_name, story)


@given(st.text())
def test_any_page_address_is_a_position_or_refused(cursor: str) -> None:
    with contextlib.suppress(ValueError):
        assert journal_module._position(cursor) is not None


@given(
    st.sampled_from("np"),
    st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds are naive
    st.integers(0, 2**63 - 1),
)
def test_a_row_is_found_again_by_its_cursor(direction: str, at: datetime, row_id: int) -> None:
    position = journal_module._position(journal_module._cursor(direction, at, row_id))
    assert position is not None
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
