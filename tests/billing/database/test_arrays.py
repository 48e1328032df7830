"""What goes out as an array literal comes back as it was."""

import psycopg2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.database.arrays import int_array, text_array

_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
_AGAIN = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def back(database, kind, literal):
    connection = psycopg2.connect(database.dsn)
    try:
        with connection.cursor() as cur:
            cur.execute(f"SELECT %s::{kind}[]", (literal,))
            return cur.fetchone()[0]
    finally:
        connection.close()


@_AGAIN
@given(values=st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=20))
def test_integers_come_back(database, values):
    assert back(database, "bigint", int_array(values)) == values


@_AGAIN
@given(
    values=st.lists(st.none() | _TEXT | st.sampled_from(["NULL", "null", '"', "\\", "{}", ",", " ", ""]), max_size=20)
)
def test_texts_come_back(database, values):
    assert back(database, "text", text_array(values)) == values
