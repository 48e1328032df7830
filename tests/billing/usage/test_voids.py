"""Usage that was wrong, voided or corrected by append, and billed as it then stands."""

import asyncio
from collections.abc import Iterator
from typing import Any

import aiopg
import psycopg2
import pytest

from billing.catalogue.store import Source, catalogue_of, save_version
from billing.cycle import run as cycle_run
from billing.cycle.plan import NewRun
from billing.cycle.shard import ShardJob, ShardWorker
from billing.usage.ratable import Ratable
from billing.usage.store import UsageError
from billing.usage.void_file import correction_of, read_corrections
from billing.usage.voids import Correction, VoidRequest, correct_events, void_events
from billing.usage.voids_store import list_voids
from billing.verification.cycle import verify_cycle
from billing.verification.lines import check_explained
from billing.verification.usage import verify_usage
from kopeck.databases.transactions import in_transaction
from tests.billing.cycle.base import FEBRUARY, MARCH, Base, cycle_base
from tests.billing.cycle.test_schedules import CATALOGUE

FEE = 30_000
ASKED = VoidRequest("k-1", "wrong switch", "anna")


@pytest.fixture
def base(database) -> Iterator[Base]:
    with cycle_base(database.dsn, database.owner_dsn) as made:
        yield made


def used(base: Base, account: int, micro: int, event_id: int, at: str = "2026-01-15T12:00:00+03:00") -> int:
    """An event of an import of its own, with its key."""
    base.rows("SELECT usage_month(%s)::text", at)
    base.rows("INSERT INTO usage_sources (name) VALUES ('switch') ON CONFLICT DO NOTHING")
    import_id = base.one(
        "INSERT INTO usage_imports (source_id, format_name, format_text, file_name, late, actor, state, lines_count, "
        "accepted_count, finished_at) SELECT id, 'f', '', 'calls.csv', 'accept', 'test', 'done', 1, 1, now() "
        "FROM usage_sources WHERE name = 'switch' RETURNING id"
    )
    base.rows(
        "INSERT INTO usage_events (id, account_id, item, at, counts_at, quantity_micro, import_id, line) "
        "VALUES (%s, %s, 'voice', %s, %s, %s, %s, 2)",
        *(event_id, account, at, at, micro, import_id),
    )
    base.rows(
        "INSERT INTO usage_keys (source_id, key, usage_id, counts_at) "
        "SELECT source_id, %s, %s, %s FROM usage_imports WHERE id = %s",
        *(f"k{event_id}", event_id, at, import_id),
    )
    return event_id


def subscriber(base: Base, number: str = "S1", **more: Any) -> int:
    account = base.subscriber(number, **more)
    base.order(account)
    return account


def void(base: Base, *ids: int, asked: VoidRequest = ASKED) -> Any:
    return in_transaction(base.dsn, lambda cur: void_events(cur, ids, asked))


def correct(base: Base, *corrections: Correction, asked: VoidRequest = ASKED, ratable: Ratable | None = None) -> Any:
    return in_transaction(base.dsn, lambda cur: correct_events(cur, corrections, asked, ratable))


def verified(base: Base) -> list[str]:
    async def work(cur: Any) -> list[str]:
        checks = [*await verify_usage(cur), *await verify_cycle(cur, None), await check_explained(cur, None)]
        return [finding.what for check in checks for finding in check.findings]

    return in_transaction(base.dsn, work)


def test_one_event_that_cannot_be_rated_holds_up_its_order_alone_until_it_is_void(base: Base) -> None:
    """The review's recipe: 60.5 s of a child's voice kept the parent from every invoice."""
    parent = subscriber(base, "P")
    child, other = subscriber(base, "C1", payer=parent), subscriber(base, "C2", payer=parent)
    used(base, child, 60_500_000, 71)
    used(base, child, 120_000_000, 72)
    used(base, other, 60_000_000, 73)
    outcome = base.bill()
    (failure,) = outcome.summary.listed
    assert (failure.account, failure.reason) == ("P", "bad_quantity")
    assert "event 71 of 2026-01-15" in failure.detail
    assert base.balance(parent) == -(FEE + FEE + 100)
    assert void(base, 71).events == 1
    assert base.bill().summary.is_clean
    assert base.balance(parent) == -(FEE + FEE + 100) - (FEE + 200)
    assert base.differences() == []
    assert verified(base) == []


def test_a_correction_is_billed_in_the_place_of_the_event(base: Base) -> None:
    account = subscriber(base)
    used(base, account, 60_500_000, 71)
    assert base.bill().summary.failures == 1
    done = correct(base, Correction(71, quantity_micro=180_000_000))
    assert list(done.replaced) == [71]
    assert base.bill().summary.is_clean
    assert base.balance(account) == -(FEE + 300)
    assert verified(base) == []
    assert base.rows("SELECT at = counts_at, quantity_micro, item FROM usage_events WHERE id <> 71") == [
        (True, 180_000_000, "voice")
    ]


def test_what_is_billed_is_refused_and_says_what_takes_it_back(base: Base) -> None:
    account = subscriber(base)
    used(base, account, 60_000_000, 71)
    run_id = base.bill(kind="review").summary.run_id
    with pytest.raises(UsageError, match=f"event 71 is billed: it stands on a draft of run {run_id} for order #"):
        void(base, 71)
    cycle_run.void_review(base.dsn, run_id)
    base.bill()
    for work in (lambda: void(base, 71), lambda: correct(base, Correction(71, quantity_micro=0))):
        with pytest.raises(UsageError, match=r"event 71 is billed: it stands on invoice I-000001 .*invoice credit"):
            work()
    assert base.rows("SELECT * FROM usage_voids") == []


def test_an_event_that_no_order_bills_may_be_void_at_any_time(base: Base) -> None:
    account = subscriber(base)
    used(base, account, 60_000_000, 71, at="2025-12-15T12:00:00+03:00")
    base.bill()
    assert void(base, 71).events == 1


@pytest.mark.parametrize("is_corrected", [False, True])
def test_a_line_is_judged_by_the_events_that_were_not_void_when_it_was_billed(base: Base, is_corrected: bool) -> None:
    """The first order fails; what it drew from the pool was drawn when the second was billed, void or not since."""
    source = Source("cycle.yaml", {"cycle.yaml": CATALOGUE})
    in_transaction(base.dsn, lambda cur: save_version(cur, source, catalogue_of(source), "test"))
    account = base.subscriber("A")
    base.order(account, plan="small", ends_at="2026-01-10T00:00:00+03:00")
    base.order(account, plan="large", starts_at="2026-01-10T00:00:00+03:00")
    used(base, account, 1_500_000_000, 71, "2026-01-03T12:00:00+03:00")
    used(base, account, 60_500_000, 72, "2026-01-04T12:00:00+03:00")
    used(base, account, 2_400_000_000, 73, "2026-01-20T12:00:00+03:00")
    assert [one.reason for one in base.bill().summary.listed] == ["bad_quantity"]
    lines = "SELECT quantity, amount_minor FROM invoice_lines WHERE kind = 'usage' ORDER BY invoice_id, line"
    assert base.rows(lines) == [(2_400, 255)]  # 5 of 40 minutes are beyond the 60 less 25
    if is_corrected:
        correct(base, Correction(71, quantity_micro=60_000_000), Correction(72, quantity_micro=60_000_000))
    else:
        void(base, 71, 72)
    assert verified(base) == []
    assert base.bill().summary.is_clean
    assert base.rows(lines) == [(2_400, 255), *([(120, 0)] if is_corrected else [])]
    assert verified(base) == []


def test_a_key_acts_once(base: Base) -> None:
    account = subscriber(base)
    for number in (71, 72, 73):
        used(base, account, 60_000_000, number)
    assert void(base, 71, 72).is_repeat is False
    assert void(base, 72, 71).is_repeat is True
    with pytest.raises(UsageError, match="key 'k-1' was used for other events"):
        void(base, 71)
    with pytest.raises(UsageError, match="event 71 is void already"):
        void(base, 71, asked=VoidRequest("k-2", "again", "anna"))
    asked = VoidRequest("k-3", "seconds", "anna")
    first = correct(base, Correction(73, quantity_micro=1_000_000), asked=asked)
    again = correct(base, Correction(73, quantity_micro=1_000_000), asked=asked)
    assert (first.is_repeat, again.is_repeat, again.replaced) == (False, True, first.replaced)
    with pytest.raises(UsageError, match="key 'k-3' was used for another correction of event 73"):
        correct(base, Correction(73, quantity_micro=2_000_000), asked=asked)
    with pytest.raises(UsageError, match="key 'k-3' was used for a correction"):
        void(base, 73, asked=asked)
    with pytest.raises(UsageError, match="key 'k-1' was used for a void"):
        correct(base, Correction(71, quantity_micro=1), Correction(72, quantity_micro=1))
    assert base.one("SELECT count(*) FROM usage_voids") == 3


def test_a_correction_may_be_corrected(base: Base) -> None:
    account = subscriber(base)
    used(base, account, 60_500_000, 71)
    (second,) = correct(base, Correction(71, quantity_micro=60_000_000)).replaced.values()
    correct(base, Correction(second, quantity_micro=120_000_000), asked=VoidRequest("k-2", "no, two", "anna"))
    base.bill()
    assert base.balance(account) == -(FEE + 200)
    assert verified(base) == []


@pytest.mark.parametrize(
    ("correction", "words"),
    [
        (Correction(71), "event 71: the correction says what the event says"),
        (Correction(71, item="nothing"), "no catalogue has an item 'nothing'"),
        (Correction(71, quantity_micro=500_000), "event 71: the quantity is in no whole steps of the item"),
        (
            Correction(71, quantity_micro=1_000_000, destination="unknown"),
            "event 71: the destination is no number of digits",
        ),
        (Correction(71, destination="é"), "event 71: the destination is not up to 64 ASCII characters"),
        (Correction(71, duration_s=10**8), "event 71: the duration is 0 to 2678400 seconds"),
        (Correction(99, quantity_micro=1), "there is no event 99"),
    ],
)
def test_a_correction_that_could_not_be_billed_is_refused(base: Base, correction: Correction, words: str) -> None:
    used(base, subscriber(base), 60_500_000, 71)
    with pytest.raises(UsageError, match=words):
        correct(base, correction, ratable=Ratable({"voice": 1_000_000}))
    assert base.rows("SELECT * FROM usage_voids") == []
    assert base.one("SELECT count(*) FROM usage_events") == 1


@pytest.mark.parametrize(
    ("asked", "ids", "words"),
    [
        (VoidRequest("", "why", "a"), (71,), "the key must be"),
        (VoidRequest("k", " ", "a"), (71,), "say why"),
        (VoidRequest("k", "why", "a"), (), "name 1 to"),
        (VoidRequest("k", "why", "a"), (71, 71), "event 71 is named twice"),
    ],
)
def test_a_request_says_which_and_why(base: Base, asked: VoidRequest, ids: tuple[int, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        void(base, *ids, asked=asked)


def test_voids_are_for_good(base: Base) -> None:
    used(base, subscriber(base), 60_000_000, 71)
    void(base, 71)
    for statement in ("UPDATE usage_voids SET why = 'x'", "DELETE FROM usage_voids", "TRUNCATE usage_voids"):
        with pytest.raises(psycopg2.Error, match=r"usage_voids"):
            base.rows(statement)
    (row,) = in_transaction(base.dsn, lambda cur: list_voids(cur, 10))
    assert (row.event_id, row.account, row.item, row.replaced_by, row.why, row.actor) == (
        *(71, "S1", "voice", None, "wrong switch", "anna"),
    )


def test_a_void_waits_for_the_shard_that_may_bill_the_event(base: Base) -> None:
    """While a run has not come to the payer, a void keeps its shard waiting and not the other way about."""
    account = subscriber(base)
    used(base, account, 60_500_000, 71)
    run_id = cycle_run.start_run(base.dsn, NewRun(FEBRUARY, "post", "test"))

    async def story() -> None:
        async with aiopg.connect(base.dsn) as opened, opened.cursor() as cur:
            await cur.execute("BEGIN")
            await void_events(cur, [71], ASKED)
            worker = ShardWorker(ShardJob(base.dsn, run_id))
            shard = asyncio.get_running_loop().run_in_executor(None, worker.do, 0)
            await asyncio.sleep(0.5)
            assert not shard.done()
            await cur.execute("COMMIT")
            done = await shard
            assert (done.state, done.failures) == ("posted", 0)
            worker.close()

    asyncio.run(story())
    cycle_run.go_on(base.dsn, run_id, cycle_run.Crew(1))
    assert base.balance(account) == -FEE


def test_verify_sees_a_void_of_nothing(base: Base) -> None:
    used(base, subscriber(base), 60_000_000, 71)
    base.rows("INSERT INTO usage_voids (usage_id, account_id, key, why, actor) VALUES (99, 1, 'k', 'w', 'a')")
    base.rows("INSERT INTO usage_voids (usage_id, account_id, key, why, actor) VALUES (71, 999, 'k', 'w', 'a')")
    assert verified(base) == [
        "the void of event 71 names another account",
        "event 99 is void, and there is no such event",
    ]


def test_usage_of_months_to_come_is_billed_without_what_is_void(base: Base) -> None:
    account = subscriber(base)
    base.bill()
    used(base, account, 60_000_000, 71, at="2026-02-10T12:00:00+03:00")
    used(base, account, 60_000_000, 72, at="2026-02-11T12:00:00+03:00")
    void(base, 72)
    base.bill(MARCH)
    assert base.balance(account) == -FEE - (FEE + 100)


# ---- files


def test_a_file_names_events_and_what_they_should_say() -> None:
    assert read_corrections("f.csv", b"71\n\n72\n", only_events=True) == [Correction(71), Correction(72)]
    assert read_corrections("f.csv", b"\xef\xbb\xbfEvent;quantity;item\r\n71;60.5;\r\n72;;sms\r\n") == [
        Correction(71, quantity_micro=60_500_000),
        Correction(72, item="sms"),
    ]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "f.csv: no events in the file"),
        (b"event\n", "f.csv: no events in the file"),
        (b"event,sum\n1,2\n", "f.csv:1: column 'sum' is not known"),
        (b"quantity,item\n", "f.csv:1: the first line names the columns, each once, event among them"),
        (b"event,quantity\n1\n", "f.csv:2: 1 cells, and 2 columns"),
        (b"event,quantity\n1,x\n", "f.csv:2: quantity: 'x' is no number"),
        (b"event,quantity\nx,1\n", "f.csv:2: event 'x' is no whole number"),
        (b"event\n\xff\n", "f.csv:2: not UTF-8"),
        (b'event\n"1\n', "f.csv:2: not CSV"),
    ],
)
def test_a_file_that_is_wrong_names_the_line(data: bytes, words: str) -> None:
    with pytest.raises(UsageError) as raised:
        read_corrections("f.csv", data)
    assert str(raised.value).startswith(words)


def test_what_is_not_said_stays() -> None:
    assert correction_of({"event": "7", "duration": "60", "destination": "79"}) == Correction(
        7, duration_s=60, destination="79"
    )
