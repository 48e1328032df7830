"""docs/deliveries.md says what the code does."""

from pathlib import Path

from billing.work.deliveries.decide import diagram
from gateway.channels.mail import MAIL
from gateway.channels.webhooks import WEBHOOK
from gateway.events.types import EVENT_TYPES

PAGE = (Path(__file__).parents[2] / "docs" / "deliveries.md").read_text("utf-8")


def test_the_diagram_is_the_tables():
    assert diagram() in PAGE


def test_every_type_of_event_is_named():
    assert [event_type for event_type in EVENT_TYPES if f"`{event_type}`" not in PAGE] == []


def test_the_figures_of_the_policies_are_true():
    assert f"| {WEBHOOK.policy.time_out_s} s | {MAIL.policy.time_out_s} s," in PAGE
    assert f"| {WEBHOOK.policy.concurrency} | {MAIL.policy.concurrency} |" in PAGE
    assert WEBHOOK.policy.hold_after_s == 5 * 86_400
    assert (WEBHOOK.policy.ladder.jitter_percent, MAIL.policy.ladder.jitter_percent) == (10, 20)
