"""billing.work.deliveries.decide: the table is walked, and any history keeps the promises of the engine."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from billing.work.deliveries.decide import (
    TABLE,
    DeliveryEvent,
    ImpossibleDeliveryEvent,
    Reason,
    action_of,
    after,
    after_lease,
    after_outcome,
    after_recall,
    after_receipt,
    after_receipt_wait,
    asked_by_person,
    begin,
    diagram,
)
from billing.work.deliveries.records import (
    OPEN,
    Delivery,
    DeliveryAction,
    DeliveryOutcome,
    DeliveryRefused,
    DeliveryState,
    Verdict,
)
from tests.billing.work.deliveries.deskwork import ASKED, HARMLESS, KINDS, ONCE, POLICY, RECEIPTED, START

DONE = set(DeliveryState) - OPEN


def delivery(kind, state=DeliveryState.SENDING, attempts=1):
    return Delivery(1, kind.name, "k", "there", "", "", "", {}, b"x", state, attempts, attempts, START, START, START)


@pytest.mark.parametrize("state", list(DeliveryState))
@pytest.mark.parametrize("event", list(DeliveryEvent))
def test_what_the_table_does_not_have_cannot_happen(state, event):
    if (state, event) in TABLE:
        assert after(state, event) in DeliveryState
    else:
        with pytest.raises(ImpossibleDeliveryEvent, match=event.value):
            after(state, event)


def test_only_a_person_changes_what_is_done_and_a_contradiction_goes_to_one():
    assert {event for state, event in TABLE if state in DONE} == {DeliveryEvent.RESEND, DeliveryEvent.CONTRADICT}
    refused = delivery(HARMLESS, DeliveryState.REFUSED, attempts=2)
    change = after_outcome(refused, 1, DeliveryOutcome(Verdict.ACCEPTED), HARMLESS, POLICY, START)
    assert (change.state, change.reason) == (DeliveryState.MANUAL, Reason.CONTRADICTION)


def test_every_state_is_reached_and_every_open_one_is_left():
    assert set(TABLE.values()) == set(DeliveryState)
    assert {state for state, _ in TABLE} >= set(DeliveryState)


def test_the_diagram_names_every_row():
    assert diagram().count("-->") == len(TABLE) + 1


def test_silence_asks_where_there_is_a_status_repeats_where_it_is_harmless_and_else_asks_a_person():
    silent = DeliveryOutcome(Verdict.SILENT)
    asked = after_outcome(delivery(ASKED), 1, silent, ASKED, POLICY, START)
    assert (asked.state, action_of(ASKED, asked.state)) == (DeliveryState.UNKNOWN, DeliveryAction.ASK)
    harmless = after_outcome(delivery(HARMLESS), 1, silent, HARMLESS, POLICY, START)
    assert (harmless.state, action_of(HARMLESS, harmless.state)) == (DeliveryState.UNKNOWN, DeliveryAction.SEND)
    once = after_outcome(delivery(ONCE), 1, silent, ONCE, POLICY, START)
    assert (once.state, once.due, once.reason) == (DeliveryState.MANUAL, None, Reason.SILENCE)


def test_a_status_that_says_missing_sends_again_and_a_send_that_says_it_is_silence():
    missing = DeliveryOutcome(Verdict.MISSING)
    asked = after_outcome(delivery(ASKED, DeliveryState.UNKNOWN, 2), 2, missing, ASKED, POLICY, START)
    assert (asked.state, asked.due) == (DeliveryState.WAITING, START)
    sent = after_outcome(delivery(ASKED), 1, missing, ASKED, POLICY, START)
    assert sent.state is DeliveryState.UNKNOWN


def test_a_late_acceptance_counts_and_a_late_refusal_does_not():
    taken_over = delivery(HARMLESS, DeliveryState.SENDING, attempts=2)
    late = DeliveryOutcome(Verdict.ACCEPTED)
    assert after_outcome(taken_over, 1, late, HARMLESS, POLICY, START).state is DeliveryState.DELIVERED
    assert after_outcome(taken_over, 1, DeliveryOutcome(Verdict.REFUSED), HARMLESS, POLICY, START) is None
    for_person = delivery(ONCE, DeliveryState.MANUAL)
    assert after_outcome(for_person, 1, late, ONCE, POLICY, START).state is DeliveryState.DELIVERED


def test_a_receipt_is_awaited_where_the_kind_has_one():
    taken = after_outcome(delivery(RECEIPTED), 1, DeliveryOutcome(Verdict.ACCEPTED), RECEIPTED, POLICY, START)
    assert (taken.state, taken.due) == (DeliveryState.ACCEPTED, START + timedelta(seconds=1_000))
    waiting = delivery(RECEIPTED, DeliveryState.ACCEPTED)
    assert after_receipt(waiting, DeliveryOutcome(Verdict.DELIVERED)).state is DeliveryState.DELIVERED
    assert after_receipt(waiting, DeliveryOutcome(Verdict.REFUSED)).state is DeliveryState.REFUSED
    assert after_receipt(waiting, DeliveryOutcome(Verdict.TEMPORARY)) is None
    late = START + timedelta(days=1)
    assert after_receipt_wait(waiting, RECEIPTED, POLICY, late).state is DeliveryState.DELIVERED
    needed = replace(RECEIPTED, receipt_is_needed=True)
    assert after_receipt_wait(waiting, needed, POLICY, late).state is DeliveryState.MANUAL
    asked = replace(RECEIPTED, has_status=True)
    assert after_receipt_wait(waiting, asked, POLICY, START).state is DeliveryState.UNKNOWN


@pytest.mark.parametrize(
    ("event", "state", "words"),
    [
        (DeliveryEvent.PUSH, DeliveryState.DELIVERED, "only one that waits"),
        (DeliveryEvent.RESEND, DeliveryState.SENDING, "under way"),
        (DeliveryEvent.SETTLE, DeliveryState.WAITING, "not known"),
        (DeliveryEvent.GIVE_UP, DeliveryState.REFUSED, "done"),
    ],
)
def test_a_person_is_told_why_not(event, state, words):
    with pytest.raises(DeliveryRefused, match=words):
        asked_by_person(delivery(HARMLESS, state), event, "", START)


class Histories(RuleBasedStateMachine):
    """One delivery of any kind through anything that can happen, its receiver beside it.

    The receiver keeps what it got. Outcomes may be lost, come late, twice and after another host took over.
    """

    def __init__(self):
        super().__init__()
        self.kind = None
        self.now = START
        self.under_way = []  # attempts begun whose outcome has not been told: (no, action, the receiver got it)
        self.received = 0
        self.persons = 0
        self.sends_after_doubt = 0
        self.was_told_accepted = False
        self.is_contradicted = False

    @precondition(lambda self: self.kind is None)
    @rule(name=st.sampled_from(sorted(KINDS)))
    def queue(self, name):
        self.kind = KINDS[name]
        self.one = delivery(self.kind, DeliveryState.WAITING, 0)
        self.one = replace(self.one, first_at=None, attempt_at=None, step=0)
        self.due = START

    def change(self, change):
        if change is None:
            return
        assert (self.one.state, change.state) in {(before, then) for (before, _), then in TABLE.items()} | {
            (before, TABLE[middle, DeliveryEvent.STOP])
            for (before, _), middle in TABLE.items()
            if (middle, DeliveryEvent.STOP) in TABLE
        }
        self.one = replace(self.one, state=change.state)
        self.is_contradicted |= change.reason is Reason.CONTRADICTION
        if change.begins_anew:
            self.one = replace(self.one, step=0, first_at=None)
        self.due = change.due

    @precondition(
        lambda self: (
            self.kind and self.one.state in (DeliveryState.WAITING, DeliveryState.UNKNOWN) and self.due <= self.now
        )
    )
    @rule(arrives=st.booleans())
    def attempt(self, arrives):
        action = action_of(self.kind, self.one.state)
        if action is DeliveryAction.SEND:
            if self.received and not self.persons and not self.kind.repeat_is_harmless:
                self.sends_after_doubt += 1
            self.received += arrives
        state = begin(self.one.state, action)
        self.one = replace(
            self.one,
            state=state,
            attempts=self.one.attempts + 1,
            step=self.one.step + 1,
            first_at=self.one.first_at or self.now,
            attempt_at=self.now,
        )
        self.due = self.now + timedelta(seconds=15)
        self.under_way.append((self.one.attempts, action, arrives))

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def answer(self, data):
        """The receiver tells the truth: it never says missing of what it has, nor temporary or refused."""
        number, action, arrives = data.draw(st.sampled_from(self.under_way))
        has_it = arrives or (action is DeliveryAction.ASK and self.received)
        possible = (
            [Verdict.ACCEPTED, Verdict.SILENT] if has_it else [Verdict.TEMPORARY, Verdict.REFUSED, Verdict.SILENT]
        )
        if action is DeliveryAction.ASK and not has_it:
            possible = [Verdict.MISSING, Verdict.SILENT, Verdict.TEMPORARY]
        verdict = data.draw(st.sampled_from(possible))
        self.under_way.remove((number, action, arrives))
        outcome = DeliveryOutcome(verdict, retry_after_s=data.draw(st.none() | st.floats(0, 1e6)))
        self.was_told_accepted |= verdict is Verdict.ACCEPTED
        self.change(after_outcome(self.one, number, outcome, self.kind, POLICY, self.now))

    @precondition(lambda self: self.kind and self.one.state is DeliveryState.SENDING and self.due <= self.now)
    @rule()
    def lease_ends(self):
        self.change(after_lease(self.one, self.kind, POLICY, self.now))

    @precondition(
        lambda self: (
            self.kind
            and self.one.state is DeliveryState.SENDING
            and self.under_way
            and self.under_way[-1][0] == self.one.attempts
            and not self.under_way[-1][2]
        )
    )
    @rule()
    def recalled(self):
        self.under_way.pop()
        self.change(after_recall(self.one, self.now))

    @precondition(lambda self: self.kind and self.one.state is DeliveryState.ACCEPTED and self.due <= self.now)
    @rule()
    def receipt_does_not_come(self):
        self.change(after_receipt_wait(self.one, self.kind, POLICY, self.now))

    @precondition(lambda self: self.kind)
    @rule(seconds=st.integers(0, 4_000))
    def time_passes(self, seconds):
        self.now += timedelta(seconds=seconds)

    @precondition(lambda self: self.kind)
    @rule(
        event=st.sampled_from([DeliveryEvent.PUSH, DeliveryEvent.RESEND, DeliveryEvent.SETTLE, DeliveryEvent.GIVE_UP])
    )
    def a_person_acts(self, event):
        if (self.one.state, event) in TABLE:
            self.persons += 1
            self.change(asked_by_person(self.one, event, "because", self.now))

    @invariant()
    def an_open_delivery_is_looked_at_again_or_a_persons(self):
        if self.kind is not None:
            waits = {DeliveryState.WAITING, DeliveryState.SENDING, DeliveryState.UNKNOWN, DeliveryState.ACCEPTED}
            assert (self.one.state in waits) == (self.due is not None)

    @invariant()
    def what_may_have_arrived_is_not_sent_again_without_a_person_or_the_receivers_word(self):
        assert self.sends_after_doubt == 0

    @invariant()
    def an_acceptance_is_never_forgotten(self):
        if self.was_told_accepted and not self.persons:
            assert self.is_contradicted or self.one.state in (DeliveryState.DELIVERED, DeliveryState.ACCEPTED)

    @invariant()
    def nothing_waits_beyond_the_stop_time(self):
        if self.kind is not None and self.one.state is DeliveryState.WAITING and self.one.first_at is not None:
            assert self.due <= max(self.one.first_at + timedelta(seconds=POLICY.ladder.stop_s), self.now)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
