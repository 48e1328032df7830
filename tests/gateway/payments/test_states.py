"""The laws of the one table, walked exhaustively."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.payments.states import OPEN, TABLE, Effect, Event, ImpossibleTransition, State, diagram, transition

#: Where the money stands after effects: clearing owes (-1 when taken), transit, recipient.
_MOVES = {
    Effect.HOLD: (-1, 1, 0),
    Effect.POST: (0, -1, 1),
    Effect.VOID: (1, -1, 0),
    Effect.REVERSE: (1, 0, -1),
}
_STANDS = {
    None: (0, 0, 0),
    State.REFUSED: (0, 0, 0),
    State.HELD: (-1, 1, 0),
    State.SENT: (-1, 1, 0),
    State.UNKNOWN: (-1, 1, 0),
    State.POSTED: (-1, 0, 1),
    State.VOIDED: (0, 0, 0),
    State.REVERSED: (0, 0, 0),
}


@pytest.mark.parametrize(("start", "event"), [(s, e) for s in [None, *State] for e in Event])
def test_every_pair_is_a_row_of_the_table_or_impossible(start, event):
    if (start, event) not in TABLE:
        with pytest.raises(ImpossibleTransition):
            transition(start, event)
        return
    after, effects = transition(start, event)
    moved = [sum(_MOVES[effect][place] for effect in effects) for place in range(3)]
    assert [was + delta for was, delta in zip(_STANDS[start], moved, strict=True)] == list(_STANDS[after])


def test_every_state_is_reachable_and_final_states_only_end():
    reached, edge = {None}, [None]
    while edge:
        here = edge.pop()
        for (start, _), (after, _) in TABLE.items():
            if start == here and after not in reached:
                reached.add(after)
                edge.append(after)
    assert reached == {None, *State}
    assert not [key for key in TABLE if key[0] in (State.VOIDED, State.REVERSED)]


def test_silence_never_moves_money_and_never_refuses():
    for (start, event), (after, effects) in TABLE.items():
        if event is Event.SILENCE:
            assert start in OPEN
            assert after is State.UNKNOWN
            assert effects == ()


@given(st.lists(st.sampled_from(list(Event)), max_size=30))
def test_no_history_of_a_payment_moves_an_effect_twice(events):
    state, seen = None, []
    for event in events:
        if (state, event) in TABLE:
            state, effects = transition(state, event)
            seen += effects
    assert len(seen) == len(set(seen))


def test_the_diagram_in_the_docs_is_the_tables():
    page = Path(__file__).parents[3] / "docs" / "payment-states.md"
    assert diagram() in page.read_text(encoding="utf-8")
