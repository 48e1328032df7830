"""Lists on a real database: pages see each row once, filters find what a plain walk finds, sums are right."""

import asyncio
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiopg
import psycopg2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.listing import store
from billing.listing.places import place_text, read_place
from billing.listing.records import (
    Between,
    Condition,
    Count,
    Emptiness,
    Field,
    ListError,
    ListPlace,
    ListSource,
    Match,
    OneOf,
    PlaceError,
    Question,
    RowOrder,
    Search,
    Sums,
    TextIs,
    TooSlow,
)

ROWS = ListSource(
    "things",
    table="things t",
    key="t.id",
    key_type="bigint",
    joins={"owner": "LEFT JOIN owners w ON w.id = t.owner_id"},
    fields={
        "code": Field("t.code", search=Search.CODE, is_ordered=True),
        "name": Field("t.name", search=Search.WORDS, is_ordered=True, is_null=True),
        "owner": Field(
            "w.name", ("owner",), search=Search.WORDS, asked="o.name",
            within="t.owner_id IN (SELECT o.id FROM owners o WHERE {})",
        ),
        "amount": Field("t.amount", (), "bigint", Search.RANGE, is_ordered=True),
        "currency": Field("t.currency", search=Search.CHOICE),
        "at": Field(
            "t.at", (), "timestamptz", Search.RANGE, is_ordered=True, order_sql="coalesce(t.at, 'infinity')",
            is_null=True,
        ),
        "key": Field("t.id", (), "bigint", Search.RANGE, is_ordered=True),
    },
    sums=Sums("t.amount", "t.currency"),
    legal_entity="t.owner_id = ANY(%(legal_entities)s::int[])",
)  # fmt: skip
NAMES = list(ROWS.fields)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WORDS = ["Ёлка", "ёлкин", "Ромашка", "100 % _х_", "а\\б", "", "Anna", "anna maria"]


@dataclass
class Things:
    """The tables and their rows, as Python knows them."""

    dsn: str
    rows: list[dict[str, Any]]

    def run(self, work: Any) -> Any:
        async def go() -> Any:
            async with aiopg.connect(self.dsn, options="-c timezone=UTC") as connection, connection.cursor() as cur:
                await cur.execute("BEGIN")
                result = await work(cur)
                await cur.execute("COMMIT")
                return result

        return asyncio.run(go())

    def add(self, row: dict[str, Any]) -> None:
        with closing(psycopg2.connect(self.dsn)) as connection, connection, connection.cursor() as cur:
            cur.execute(
                "INSERT INTO things VALUES (%s, %s, %s, %s, %s, %s, %s)",
                [row[name] for name in ("key", "code", "name", "owner_id", "amount", "currency", "at")],
            )
        self.rows.append(row)


@pytest.fixture(autouse=True)
def time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists of a slow machine are counted all the same; what a list without time says has a test of its own."""
    monkeypatch.setattr(store, "COUNT_TIMEOUT_MS", 20_000)
    monkeypatch.setattr(store, "PAGE_TIMEOUT_MS", 20_000)


@pytest.fixture
def things(database: Any) -> Things:
    with closing(psycopg2.connect(database.owner_dsn)) as connection, connection, connection.cursor() as cur:
        cur.execute("CREATE TABLE owners (id int PRIMARY KEY, name text NOT NULL)")
        cur.execute("INSERT INTO owners VALUES (1, 'Белкин Олег'), (2, 'Стрелкин')")
        cur.execute(
            "CREATE TABLE things (id bigint PRIMARY KEY, code text NOT NULL, name text, owner_id int,"
            " amount bigint NOT NULL, currency text NOT NULL, at timestamptz)"
        )
        cur.execute("GRANT SELECT, INSERT, DELETE ON owners, things TO kopeck_app")
    things = Things(database.dsn, [])
    for key in range(1, 41):
        things.add(row_of(key))
    return things


def row_of(key: int) -> dict[str, Any]:
    """Rows with many equal values, so that ties are the rule."""
    return {
        "key": key, "code": f"K-{key % 7}", "name": WORDS[key % 8] if key % 9 else None, "owner_id": key % 3 or None,
        "amount": (key % 5 - 2) * 3_000_000_000, "currency": "RUB" if key % 4 else "EUR",
        "at": None if key % 6 == 0 else NOON + timedelta(microseconds=key % 3),
    }  # fmt: skip


def folded(text: str) -> str:
    return text.lower().replace("ё", "е")


def meets(row: dict[str, Any], condition: Condition) -> bool:
    value = (
        {1: "Белкин Олег", 2: "Стрелкин"}.get(row["owner_id"]) if condition.field == "owner" else row[condition.field]
    )
    match condition:
        case OneOf(values=values):
            return value in values
        case Between(least=least, most=most, is_below=is_below):
            return (
                value is not None
                and (least is None or value >= least)
                and (most is None or (value < most if is_below else value <= most))
            )
        case Emptiness(is_empty=is_empty):
            return (value in (None, "")) == is_empty
        case TextIs(field=field, match=match, text=text):
            if value is None:
                return False
            have, want = (value, text) if field == "code" else (folded(value), folded(text))
            return {
                Match.EQUALS: have == want, Match.STARTS: have.startswith(want), Match.CONTAINS: want in have,
            }[match]  # fmt: skip
    raise AssertionError(condition)


texts = st.sampled_from(["ёлк", "ЕЛК", "ромашка", "% _", "_х_", "а\\б", "anna", "nna m", "кин", "Белкин Олег"])
bounds = st.sampled_from([None, -1, 0, 3_000_000_000, 6_000_000_000])
instants = st.sampled_from([None, NOON, NOON + timedelta(microseconds=1)])
conditions = st.one_of(
    st.builds(OneOf, st.just("currency"), st.sampled_from([("RUB",), ("EUR", "RUB"), ("USD",)])),
    st.builds(Between, st.just("amount"), bounds, bounds, st.booleans()).filter(
        lambda asked: asked.least or asked.most
    ),
    st.builds(Between, st.just("at"), instants, instants, st.booleans()).filter(
        lambda asked: asked.least or asked.most
    ),
    st.builds(Emptiness, st.sampled_from(["name", "at"]), st.booleans()),
    st.builds(TextIs, st.sampled_from(["name", "owner"]), st.sampled_from(list(Match)), texts),
    st.builds(TextIs, st.just("code"), st.sampled_from([Match.EQUALS, Match.STARTS]), st.sampled_from(["K-1", "K_"])),
)
orders = st.builds(RowOrder, st.sampled_from(["", "code", "amount", "at", "key"]), st.booleans())
questions = st.builds(
    Question, st.lists(conditions, max_size=2).map(tuple), orders, st.sampled_from([None, (1,), (1, 2), ()])
)
SLOW_FIXTURE = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def found(things: Things, question: Question) -> list[int]:
    return sorted(
        row["key"] for row in things.rows
        if all(meets(row, condition) for condition in question.conditions)
        and (question.legal_entities is None or row["owner_id"] in question.legal_entities)
    )  # fmt: skip


@given(question=questions, size=st.integers(1, 17))
@SLOW_FIXTURE
def test_pages_on_and_back_show_each_row_once_in_one_order_and_the_filter_is_the_filter(things, question, size) -> None:
    async def walk(cur: Any) -> None:
        on, place = [], None
        while True:
            page = await store.page_of(cur, ROWS, question, NAMES, place, size)
            assert page.first == sum(map(len, on))
            on.append([row["key"] for row in page.rows])
            if page.next is None:
                break
            place = read_place(place_text(page.next, "things", question), "things", question)
        assert sorted(int(key) for keys in on for key in keys) == found(things, question)
        back = [on[-1]]
        while page.previous is not None:
            page = await store.page_of(cur, ROWS, question, NAMES, page.previous, size)
            back.insert(0, [row["key"] for row in page.rows])
            assert page.next is not None
        assert [key for keys in back for key in keys] == [key for keys in on for key in keys]
        assert page.first == 0
        streamed = [row["key"] async for rows in store.portions_of(cur, ROWS, question, NAMES, 7) for row in rows]
        assert streamed == [key for keys in on for key in keys]
        count = await store.count_of(cur, ROWS, question)
        assert (count.rows, count.is_exact) == (len(streamed), True)
        sums: dict[str, int] = {}
        for row in things.rows:
            if row["key"] in found(things, question):
                sums[row["currency"]] = sums.get(row["currency"], 0) + row["amount"]
        assert count.sums == sums

    things.run(walk)


@given(
    order=orders, size=st.integers(1, 9), added=st.lists(st.integers(50, 10**6), min_size=1, max_size=12, unique=True)
)
@SLOW_FIXTURE
def test_rows_that_were_there_are_seen_once_while_others_are_added(things, order, size, added) -> None:
    first = {row["key"] for row in things.rows}
    keys = [key for key in added if key not in first]

    async def walk(cur: Any) -> list[int]:
        await cur.execute("COMMIT")
        seen, place = [], None
        while True:
            await cur.execute("BEGIN")
            page = await store.page_of(cur, ROWS, Question((), order), NAMES, place, size)
            await cur.execute("COMMIT")
            seen += [int(row["key"]) for row in page.rows]
            if keys:
                things.add(row_of(keys.pop()))
            place = page.next
            if place is None:
                return seen

    seen = things.run(walk)
    assert len(seen) == len(set(seen))
    assert first <= set(seen)


def test_an_order_that_is_none_and_a_part_of_a_code_are_refused(things) -> None:
    for question in (
        Question((), RowOrder("owner")),
        Question((TextIs("code", Match.CONTAINS, "K-1"),)),
        Question((TextIs("name", Match.CONTAINS, "ёл"),)),
    ):
        with pytest.raises(ListError):
            things.run(lambda cur, question=question: store.page_of(cur, ROWS, question, NAMES, None, 5))


@pytest.mark.parametrize("text", ["", "!", "AAAA", "W10", "WzFd", "x" * 9000, "\ud800", "WzEsIjEiLCIyIiwtMSwiYSJd"])
def test_a_damaged_address_is_refused(text) -> None:
    with pytest.raises(PlaceError):
        read_place(text, "things", Question())


def test_a_page_of_another_filter_order_or_list_is_refused_and_one_of_another_scope_is_not() -> None:
    asked = Question((OneOf("currency", ("RUB",)),), RowOrder("amount"))
    text = place_text(ListPlace(True, "1", "2", 3), "things", asked)
    assert read_place(text, "things", Question(asked.conditions, asked.order, (1,))) == ListPlace(True, "1", "2", 3)
    for source, question in (
        ("others", asked),
        ("things", Question(asked.conditions, RowOrder("amount", False))),
        ("things", Question((OneOf("currency", ("EUR",)),), asked.order)),
        ("things", Question((), asked.order)),
    ):
        with pytest.raises(PlaceError, match="another filter"):
            read_place(text, source, question)


def test_a_place_of_other_types_is_damaged(things) -> None:
    with pytest.raises(PlaceError, match="damaged"):
        things.run(
            lambda cur: store.page_of(
                cur, ROWS, Question((), RowOrder("amount")), NAMES, ListPlace(True, "x", "1", 0), 5
            )
        )


def test_more_rows_than_are_counted_are_an_estimate_unless_the_asker_waits(things, monkeypatch) -> None:
    monkeypatch.setattr(store, "COUNTED_ROWS", 10)
    count = things.run(lambda cur: store.count_of(cur, ROWS, Question()))
    assert (count.is_exact, count.at_least, count.sums) == (False, 11, None)
    assert count.rows >= 11
    assert things.run(lambda cur: store.count_of(cur, ROWS, Question(), is_patient=True)) == Count(
        40, True, 40, {"RUB": sum_of(things, "RUB"), "EUR": sum_of(things, "EUR")}
    )


def sum_of(things: Things, currency: str) -> int:
    return sum(row["amount"] for row in things.rows if row["currency"] == currency)


def test_what_takes_too_long_is_said_and_a_count_that_does_leaves_the_transaction_well(things, monkeypatch) -> None:
    slow = ListSource(
        "slow", "things t", "t.id", "bigint",
        {"amount": ROWS.fields["amount"], "currency": ROWS.fields["currency"]},
        always="pg_sleep(0.05) IS NOT NULL", sums=ROWS.sums,
    )  # fmt: skip

    async def count_then_read(cur: Any) -> Count:
        count = await store.count_of(cur, slow, Question(), timeout_ms=100)
        await cur.execute("SELECT 1")
        return count

    count = things.run(count_then_read)
    assert (count.is_exact, count.at_least) == (False, 0)
    monkeypatch.setattr(store, "PAGE_TIMEOUT_MS", 100)
    with pytest.raises(TooSlow):
        things.run(lambda cur: store.page_of(cur, slow, Question((), RowOrder("amount")), ["amount"], None, 50))


def test_keys_of_all_rows_come_in_portions_and_rows_by_key_stay_within_the_filter(things) -> None:
    question = Question((OneOf("currency", ("EUR",)),))

    async def work(cur: Any) -> tuple[list[str], list[str]]:
        keys: list[str] = []
        while more := await store.keys_after(cur, ROWS, question, keys[-1] if keys else None, 3):
            keys += more
        rows = await store.rows_by_key(cur, ROWS, question, ["4", "5", "8", "400"], ["currency", "owner"])
        return keys, [row["row_key"] for row in rows]

    keys, rows = things.run(work)
    assert [int(key) for key in keys] == found(things, question)
    assert rows == ["4", "8"]
