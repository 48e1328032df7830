"""The life of a payment as one table, and its diagram.

Rules. Every change of a payment's state is an event in this table; what is not in it cannot happen. Money verbs are
hold, post, void, reverse; "commit" and "rollback" belong to SQL.

  hold     partner's clearing account -> transit
  post     transit -> recipient
  void     transit -> clearing: the money was held and goes back
  reverse  recipient -> clearing: the money had arrived and goes back

`accept` is hold and post in one commit: a local payment. `silence` is an event of its own: a request we sent was not
answered, so the money stays held until an answer comes (truth 7). A tombstone is a cancel that came before its pay
was credited: it closes the key. Without a pay it is `voided` with sum 0; after a refused pay it keeps that pay's sum,
of which nothing ever moved.

`refund` and `move` take money of a posted payment off its account again: to the payer, to the partner, or to another
account. The payment stays posted, for the partner did pay it; the money moves by a transfer of its own that names the
payment's (gateway/payments/manual_money.py), so the table moves nothing for them. A refund of all of it to the partner,
before anything else was taken off, is a `reverse`.

``python -m gateway.payments.states`` prints the diagram that docs/payment-states.md holds.

Does not know: why an event happens, SQL, partners.
"""

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where a payment stands; each word is also the word in the column, the URL and the page."""

    REFUSED = "refused"
    HELD = "held"
    SENT = "sent"
    UNKNOWN = "unknown"
    POSTED = "posted"
    VOIDED = "voided"
    REVERSED = "reversed"


class Event(StrEnum):
    """What can happen to a payment."""

    ACCEPT = "accept"
    HOLD = "hold"
    REFUSE = "refuse"
    TOMBSTONE = "tombstone"
    SEND = "send"
    SILENCE = "silence"
    POST = "post"
    VOID = "void"
    REVERSE = "reverse"
    REFUND = "refund"
    MOVE = "move"


class Effect(StrEnum):
    """What a transition moves; also the step of the transfer it writes."""

    HOLD = "hold"
    POST = "post"
    VOID = "void"
    REVERSE = "reverse"


Transition = tuple[State, tuple[Effect, ...]]

#: (state, event) -> (state, effects). None is a payment that does not exist yet.
TABLE: Final[dict[tuple[State | None, Event], Transition]] = {
    (None, Event.ACCEPT): (State.POSTED, (Effect.HOLD, Effect.POST)),
    (None, Event.HOLD): (State.HELD, (Effect.HOLD,)),
    (None, Event.REFUSE): (State.REFUSED, ()),
    (None, Event.TOMBSTONE): (State.VOIDED, ()),
    # A repeat of a refused payment is looked at again, where the contract lists the refusal (``re_examine``).
    (State.REFUSED, Event.ACCEPT): (State.POSTED, (Effect.HOLD, Effect.POST)),
    (State.REFUSED, Event.HOLD): (State.HELD, (Effect.HOLD,)),
    (State.REFUSED, Event.REFUSE): (State.REFUSED, ()),
    (State.REFUSED, Event.TOMBSTONE): (State.VOIDED, ()),
    (State.HELD, Event.SEND): (State.SENT, ()),
    (State.HELD, Event.POST): (State.POSTED, (Effect.POST,)),
    (State.HELD, Event.VOID): (State.VOIDED, (Effect.VOID,)),
    (State.SENT, Event.POST): (State.POSTED, (Effect.POST,)),
    (State.SENT, Event.VOID): (State.VOIDED, (Effect.VOID,)),
    (State.SENT, Event.SILENCE): (State.UNKNOWN, ()),
    (State.UNKNOWN, Event.SEND): (State.SENT, ()),
    (State.UNKNOWN, Event.POST): (State.POSTED, (Effect.POST,)),
    (State.UNKNOWN, Event.VOID): (State.VOIDED, (Effect.VOID,)),
    (State.POSTED, Event.REVERSE): (State.REVERSED, (Effect.REVERSE,)),
    (State.POSTED, Event.REFUND): (State.POSTED, ()),
    (State.POSTED, Event.MOVE): (State.POSTED, ()),
}

#: States in which the partner's money is with us and its fate is open.
OPEN: Final = frozenset({State.HELD, State.SENT, State.UNKNOWN})


class ImpossibleTransition(Exception):
    """Our own mistake: an event that the table does not have in this state."""


def transition(state: State | None, event: Event) -> Transition:
    """The next state and what it moves.

    Raises:
        ImpossibleTransition: the table has no such row.
    """
    found = TABLE.get((state, event))
    if found is None:
        raise ImpossibleTransition(f"no {event.value} in state {state.value if state else 'new'}")
    return found


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2"]
    for (state, event), (after, effects) in TABLE.items():
        moved = f" / {', '.join(effects)}" if effects and event.value not in [e.value for e in effects] else ""
        lines.append(f"    {state.value if state else '[*]'} --> {after.value}: {event.value}{moved}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(diagram(), end="")
