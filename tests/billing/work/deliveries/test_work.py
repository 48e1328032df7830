"""billing.work.deliveries.work: queues on a moved clock, with the real rows and locks."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import aiopg
import pytest

from billing.work.deliveries import work
from billing.work.deliveries.decide import DeliveryEvent
from billing.work.deliveries.desk_store import act_on_delivery, hold_queue, list_queues, read_delivery, release_queue
from billing.work.deliveries.ladder import Ladder, wait_s
from billing.work.deliveries.receipt_store import note_receipt
from billing.work.deliveries.records import (
    DeliveryAction,
    DeliveryKind,
    DeliveryOutcome,
    DeliveryPolicy,
    DeliveryRefused,
    Verdict,
)
from tests.billing.work.deliveries.deskwork import (
    ACCEPTED,
    BUSY,
    HARMLESS,
    MISSING,
    POLICY,
    REFUSED,
    SILENT,
    START,
    UNREACHED,
    KnowingReceiver,
    staged,
)


def told(database, story, **more):
    async def run():
        async with staged(database.dsn, **more) as stage:
            return await story(stage)

    return asyncio.run(run())


def test_a_key_acts_once_and_other_contents_are_refused(database):
    async def story(stage):
        first = await stage.queue("harmless", "k-1")
        assert await stage.queue("harmless", "k-1") == first
        with pytest.raises(DeliveryRefused, match="other contents"):
            await stage.queue("harmless", "k-1", payload=b"other")
        assert await stage.queue("once", "k-1") != first
        return await stage.value("SELECT count(*) FROM deliveries")

    assert told(database, story) == 2


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"key": ""}, "1 to 200"),
        ({"key": "a\nb"}, "1 to 200"),
        ({"key": "k", "payload": b"x" * ((1 << 20) + 1)}, "more than a delivery may have"),
        ({"key": "k", "address": "a" * 321}, "address"),
        ({"key": "k", "recipient": ""}, "needs a recipient"),
    ],
)
def test_what_cannot_be_sent_is_refused_when_it_is_queued(database, more, words):
    async def story(stage):
        with pytest.raises(DeliveryRefused, match=words):
            await stage.queue("harmless", more.pop("key"), **more)

    told(database, story)


def test_sent_is_committed_before_anything_is_sent(database):
    async def story(stage):
        await stage.queue("harmless", "k")
        await stage.claim()
        async with aiopg.connect(database.dsn) as other, other.cursor() as cur:
            await cur.execute(
                "SELECT d.state, d.attempts, a.no, a.outcome FROM deliveries d JOIN delivery_attempts a "
                "ON a.delivery_id = d.id"
            )
            return await cur.fetchall()

    assert told(database, story) == [("sending", 1, 1, "")]


def test_the_ladder_is_exact_to_the_microsecond_with_jitter(database):
    ladder = Ladder((60, 120, 300), 600, 7_200, jitter_percent=20)
    kind = DeliveryKind("harmless", replace(POLICY, ladder=ladder), repeat_is_harmless=True)

    async def story(stage):
        await stage.queue("harmless", "k")
        await stage.run(BUSY)
        return stage.sent, await stage.states()

    sent, states = told(database, story, kinds={"harmless": kind})
    expected = [START]
    while True:
        due = expected[-1] + timedelta(seconds=wait_s(ladder, len(expected), "harmless:k"))
        if due > START + timedelta(seconds=7_200):
            break
        expected.append(due)
    assert [at for at, _, _ in sent] == expected
    assert states == {"k": "manual"}


def test_a_silent_receiver_is_asked_first_and_sent_again_only_when_it_never_had_it(database):
    receiver = KnowingReceiver(script=[SILENT, SILENT, MISSING, SILENT, ACCEPTED])

    async def story(stage):
        await stage.queue("asked", "k")
        await stage.run(receiver)
        return await stage.states()

    assert told(database, story) == {"k": "delivered"}
    send, ask = DeliveryAction.SEND, DeliveryAction.ASK
    assert [action for _, action in receiver.calls] == [send, ask, ask, send, ask]


def test_what_a_repeat_would_double_goes_to_a_person_after_silence(database):
    receiver = KnowingReceiver(script=[BUSY, SILENT])

    async def story(stage):
        number = await stage.queue("once", "k")
        await stage.run(receiver)
        row = (await read_delivery(stage.cur, number)).row
        await act_on_delivery(stage.cur, number, DeliveryEvent.SETTLE, "user:ann", "it is in the sink", stage.now)
        return row.state, row.reason, await stage.states(), (await read_delivery(stage.cur, number)).notes[0].actor

    assert told(database, story) == ("manual", "silence", {"k": "delivered"}, "user:ann")
    assert receiver.had == {"k": 1}


def test_retry_after_is_honoured(database):
    async def story(stage):
        await stage.queue("harmless", "k")
        await stage.round(DeliveryOutcome(Verdict.TEMPORARY, retry_after_s=500.0))
        return (await stage.next_due()) - START

    assert told(database, story) == timedelta(seconds=500)


def test_deliveries_in_order_go_one_after_the_other_and_others_do_not_wait(database):
    async def story(stage):
        for number in range(3):
            await stage.queue("harmless", f"a-{number}", order_key="account/1")
            await stage.queue("harmless", f"b-{number}", order_key="account/2")
        await stage.queue("harmless", "free")

        def answer(delivery, _attempt):
            return BUSY if delivery.key == "a-0" and stage.now < START + timedelta(minutes=10) else ACCEPTED

        for _ in range(4):
            await stage.round(answer)
        early = [key for at, key, _ in stage.sent]
        await stage.run(answer)
        return early, [key for _, key, _ in stage.sent if key.startswith("a")]

    early, first_order = told(database, story)
    assert [key for key in early if key.startswith("b")] == ["b-0", "b-1", "b-2"]
    assert "free" in early
    assert [key for key in early if key.startswith("a")] == ["a-0"]
    assert first_order == ["a-0"] * 5 + ["a-1", "a-2"]


def test_the_head_of_an_order_that_waits_for_a_person_holds_its_followers_until_the_person_decides(database):
    async def story(stage):
        head = await stage.queue("once", "head", order_key="o")
        await stage.queue("once", "next", order_key="o")
        await stage.round(SILENT)
        await stage.look_after()
        held = await stage.round(ACCEPTED)
        await act_on_delivery(stage.cur, head, DeliveryEvent.GIVE_UP, "user:ann", "gone", stage.now)
        return held, await stage.round(ACCEPTED), await stage.states()

    assert told(database, story) == (0, 1, {"head": "abandoned", "next": "delivered"})


def test_a_follower_queued_while_its_head_ends_is_freed(database):
    async def story(stage):
        await stage.queue("harmless", "head", order_key="o")
        claimed = await stage.claim()
        async with aiopg.connect(database.dsn) as other, other.cursor() as cur:
            await cur.execute("BEGIN")
            held, stage.cur = stage.cur, cur
            await stage.queue("harmless", "next", order_key="o")  # it sees its head under way
            stage.cur = held
            await stage.settle((claimed[0], ACCEPTED))  # and its head does not see it
            await cur.execute("COMMIT")
        blocked = await stage.round(ACCEPTED)
        await stage.look_after()
        return blocked, await stage.round(ACCEPTED)

    assert told(database, story) == (0, 1)


def test_five_transport_errors_hold_the_queue_a_minute_and_then_one_probe_goes(database):
    async def story(stage):
        for number in range(12):
            await stage.queue("harmless", f"k-{number}")
        tried = [await stage.round(UNREACHED, free=5), await stage.round(UNREACHED)]
        stage.pass_s(60)
        probe = await stage.claim()
        tried.append(len(probe))
        tried.append(len(await stage.claim()))  # while the probe is under way
        await stage.settle((probe[0], UNREACHED))
        tried.append(await stage.round(ACCEPTED))
        stage.pass_s(60)
        tried.append(await stage.round(ACCEPTED))
        tried.append(await stage.round(ACCEPTED))
        return tried

    assert told(database, story) == [5, 0, 1, 0, 0, 1, 11]


def test_one_recipient_that_is_down_does_not_hold_up_another(database):
    async def story(stage):
        for number in range(50):
            await stage.queue("harmless", f"down-{number}", recipient="down")
        await stage.queue("harmless", "up", recipient="up")
        claimed = await stage.claim(free=10)
        return {one.delivery.recipient for one in claimed}, len(claimed)

    assert told(database, story) == ({"down", "up"}, 10)


def test_a_recipient_that_is_down_for_six_hours_gets_everything_once_when_it_is_back(database):
    kinds = {"harmless": replace(HARMLESS, policy=DeliveryPolicy(time_out_s=10, concurrency=5))}
    receiver = KnowingReceiver()

    async def story(stage):
        for number in range(40):
            await stage.queue("harmless", f"k-{number}")

        def answer(delivery, attempt):
            return UNREACHED if stage.now < START + timedelta(hours=6) else receiver(delivery, attempt)

        await stage.run(answer)
        tries_while_down = [at for at, _, _ in stage.sent if at < START + timedelta(hours=6)]
        return await stage.states(), stage.now - START, len(tries_while_down)

    states, took, tries = told(database, story, kinds=kinds)
    assert set(states.values()) == {"delivered"}
    assert set(receiver.had.values()) == {1}
    assert len(receiver.had) == 40
    assert timedelta(hours=6) <= took < timedelta(hours=9)
    assert tries < 6 * 60 + 10  # the breaker: one probe a minute, not forty deliveries each hour


def test_a_host_that_dies_leaves_silence_and_its_late_acceptance_still_counts(database):
    async def story(stage):
        await stage.queue("harmless", "k")
        dead = await stage.claim()
        stage.pass_s(14.9)
        assert await stage.look_after() == 0
        stage.pass_s(0.2)
        assert await stage.look_after() == 1
        states = [await stage.states()]
        stage.pass_s(60)
        other = replace(stage, host="host-2", cur=stage.cur)
        taken = await other.claim()
        await stage.settle((dead[0], REFUSED))  # late: it changes nothing
        states.append(await stage.states())
        await stage.settle((dead[0], ACCEPTED))  # late: it counts
        states.append(await stage.states())
        await other.settle((taken[0], BUSY))
        states.append(await stage.states())
        await stage.cur.execute("SELECT no, outcome, is_late, host FROM delivery_attempts ORDER BY no")
        return [s["k"] for s in states], await stage.cur.fetchall()

    states, attempts = told(database, story)
    assert states == ["unknown", "sending", "delivered", "delivered"]
    assert attempts == [(1, "refused", True, "host-1"), (2, "temporary", True, "host-2")]


def test_a_claim_whose_commit_was_lost_is_taken_back_by_its_host_alone(database):
    async def story(stage):
        await stage.queue("once", "mine")
        await stage.queue("once", "sent")
        claimed = await stage.claim()
        sent = next(one.delivery.id for one in claimed if one.delivery.key == "sent")
        assert await work.recall(stage.cur, "host-2", [], stage.now) == 0
        assert await work.recall(stage.cur, "host-1", [sent], stage.now) == 1
        states = await stage.states()
        return states, await stage.round(ACCEPTED)

    assert told(database, story) == ({"mine": "waiting", "sent": "sending"}, 1)


def test_two_hosts_at_once_never_take_the_same_delivery_nor_two_of_an_order(database):
    async def story(stage):
        for number in range(60):
            await stage.queue("harmless", f"k-{number}", recipient=f"r-{number % 3}", order_key=f"o-{number % 7}")

        async def host(name):
            async with staged(database.dsn, host=name) as own:
                taken = []
                for _ in range(60):
                    for one in await own.claim(free=4):
                        taken.append(one.delivery)
                        await asyncio.sleep(0)
                        await own.settle((one, ACCEPTED))
                return taken

        both = await asyncio.gather(host("a"), host("b"))
        return [delivery.key for taken in both for delivery in taken], await stage.states()

    taken, states = told(database, story)
    assert sorted(taken) == sorted(states)
    assert set(states.values()) == {"delivered"}


def test_concurrency_and_pace_hold_over_all_hosts(database):
    policy = replace(POLICY, concurrency=3)
    paced = replace(POLICY, per_minute=60)
    kinds = {"few": replace(HARMLESS, name="few", policy=policy), "slow": replace(HARMLESS, name="slow", policy=paced)}

    async def story(stage):
        for number in range(10):
            await stage.queue("few", f"f-{number}")
            await stage.queue("slow", f"s-{number}")
        other = replace(stage, host="host-2")
        other.sent = []
        counts = [len(await stage.claim(kinds=["few"])), len(await other.claim(kinds=["few"]))]
        slow = []
        for _ in range(8):
            slow.append(len(await stage.claim(kinds=["slow"])) + len(await other.claim(kinds=["slow"])))
            stage.pass_s(1)
            other.now = stage.now
        return counts, slow

    counts, slow = told(database, story, kinds=kinds)
    assert counts == [3, 0]
    assert slow[0] <= 2
    assert slow[1:] == [1, 1, 1, 1, 1, 1, 1]


def test_a_recipient_may_ask_to_be_left_alone_or_be_held_for_a_person(database):
    async def story(stage):
        for number in range(3):
            await stage.queue("harmless", f"p-{number}", recipient="poor")
            await stage.queue("harmless", f"g-{number}", recipient="gone")
        pause = replace(BUSY, pause_s=120.0)
        stop = replace(REFUSED, stop="the endpoint is gone")

        def answer(delivery, _attempt):
            return pause if delivery.recipient == "poor" else stop

        await stage.round(answer, free=2)
        counts = [await stage.round(ACCEPTED)]
        stage.pass_s(120)
        counts.append(await stage.round(ACCEPTED))
        queues = {queue.recipient: queue for queue in await list_queues(stage.cur)}
        assert queues["gone"].is_held
        assert queues["gone"].held_why == "the endpoint is gone"
        assert queues["gone"].waiting == 2
        await release_queue(stage.cur, "harmless", "gone")
        counts.append(await stage.round(ACCEPTED))
        return counts

    assert told(database, story) == [0, 3, 2]


def test_a_recipient_that_fails_too_long_is_held_for_a_person(database):
    policy = replace(POLICY, hold_after_s=1_000)

    async def story(stage):
        await stage.queue("harmless", "k")
        await stage.run(BUSY)
        queue = (await list_queues(stage.cur))[0]
        return queue.is_held, queue.held_why, stage.now - START

    held, why, took = told(database, story, kinds={"harmless": replace(HARMLESS, policy=policy)})
    assert held
    assert "without one success" in why
    assert took == timedelta(seconds=1_080)


def test_a_queue_held_by_a_person_keeps_its_deliveries(database):
    async def story(stage):
        await stage.queue("harmless", "k")
        assert await hold_queue(stage.cur, "harmless", "", "user:ann", "maintenance") == ["there"]
        counts = [await stage.round(ACCEPTED)]
        await release_queue(stage.cur, "harmless", "there")
        counts.append(await stage.round(ACCEPTED))
        with pytest.raises(DeliveryRefused, match="no queue"):
            await hold_queue(stage.cur, "harmless", "nowhere", "user:ann", "")
        return counts

    assert told(database, story) == [0, 1]


def test_a_person_pushes_resends_and_gives_up(database):
    async def story(stage):
        number = await stage.queue("harmless", "k", due=START + timedelta(days=1))
        counts = [await stage.round(ACCEPTED)]
        await act_on_delivery(stage.cur, number, DeliveryEvent.PUSH, "user:ann", "", stage.now)
        counts.append(await stage.round(REFUSED))
        await act_on_delivery(stage.cur, number, DeliveryEvent.RESEND, "user:ann", "mended", stage.now)
        counts.append(await stage.round(ACCEPTED))
        with pytest.raises(DeliveryRefused, match="done"):
            await act_on_delivery(stage.cur, number, DeliveryEvent.GIVE_UP, "user:ann", "", stage.now)
        with pytest.raises(DeliveryRefused, match="no delivery 999"):
            await act_on_delivery(stage.cur, 999, DeliveryEvent.PUSH, "user:ann", "", stage.now)
        log = await read_delivery(stage.cur, number)
        return counts, [note.event for note in log.notes], log.row.state, log.row.attempts

    assert told(database, story) == ([0, 1, 1], ["push", "resend"], "delivered", 2)


def test_receipts_settle_a_delivery_in_parts_whether_they_come_before_or_after_its_acceptance(database):
    taken = replace(ACCEPTED, references=("m-1", "m-2"))
    delivered = DeliveryOutcome(Verdict.DELIVERED, code="DELIVRD")

    async def story(stage):
        await stage.queue("receipted", "k")
        await note_receipt(stage.cur, "receipted", "there", "m-1", delivered, stage.now, raw="early")
        await stage.round(taken)
        states = [await stage.states()]
        await stage.look_after()
        states.append(await stage.states())
        await note_receipt(stage.cur, "receipted", "there", "m-2", delivered, stage.now)
        states.append(await stage.states())
        await note_receipt(stage.cur, "receipted", "there", "stranger", delivered, stage.now)
        return [s["k"] for s in states]

    assert told(database, story) == ["accepted", "accepted", "delivered"]


def test_a_receipt_may_refuse_and_one_that_never_comes_is_said(database):
    async def story(stage):
        await stage.queue("receipted", "refused")
        await stage.queue("receipted", "unheard")

        def answer(delivery, _attempt):
            return replace(ACCEPTED, references=(delivery.key,))

        await stage.round(answer)
        failed = DeliveryOutcome(Verdict.REFUSED, code="UNDELIV")
        await note_receipt(stage.cur, "receipted", "there", "refused", failed, stage.now)
        stage.pass_s(1_001)
        await stage.look_after()
        return await stage.states(), await stage.value("SELECT reason FROM deliveries WHERE key = 'unheard'")

    states, reason = told(database, story)
    assert states == {"refused": "refused", "unheard": "delivered"}
    assert reason == "no_receipt"


def test_a_batch_that_is_written_twice_changes_nothing_the_second_time(database):
    async def story(stage):
        await stage.queue("harmless", "k")
        await stage.queue("harmless", "busy")
        claimed = {one.delivery.key: one for one in await stage.claim()}
        results = [(claimed["k"], ACCEPTED), (claimed["busy"], BUSY)]
        await stage.settle(*results)
        first = await stage.value("SELECT json_agg(a ORDER BY delivery_id)::text FROM delivery_attempts a")
        due = await stage.next_due()
        await stage.settle(*results)
        assert await stage.next_due() == due
        second = await stage.value("SELECT json_agg(a ORDER BY delivery_id)::text FROM delivery_attempts a")
        return first == second, await stage.states()

    assert told(database, story) == (True, {"k": "delivered", "busy": "waiting"})


def test_the_program_cannot_change_what_is_sent_nor_delete_it(database):
    async def story(stage):
        await stage.queue("harmless", "k")
        for statement in (
            "UPDATE deliveries SET payload = 'x'",
            "UPDATE deliveries SET key = 'x'",
            "DELETE FROM deliveries",
            "DELETE FROM delivery_attempts",
        ):
            with pytest.raises(Exception, match="permission denied"):
                await stage.cur.execute(statement)

    told(database, story)


def test_a_host_that_dies_while_it_asks_leaves_silence_in_the_log(database):
    async def story(stage):
        await stage.queue("asked", "k")
        await stage.round(SILENT)
        stage.pass_s(60)
        assert [one.attempt.action for one in await stage.claim()] == [DeliveryAction.ASK]
        stage.pass_s(15)
        assert await stage.round(ACCEPTED) == 1
        await stage.cur.execute("SELECT action, outcome FROM delivery_attempts ORDER BY no")
        return await stage.cur.fetchall()

    assert told(database, story) == [("send", "silent"), ("ask", "silent"), ("ask", "accepted")]
