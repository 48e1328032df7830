"""billing.database.rows: rows become records by the names of their columns, or not at all."""

from dataclasses import dataclass

import pytest

from billing.database.rows import first_record, named_rows, part_of, records
from tests.billing.orders.shop import act


@dataclass(frozen=True)
class Person:
    name: str
    age: int = 0


def read(database, statement, reading):
    async def work(cur):
        await cur.execute(statement)
        return await reading(cur)

    return act(database, work)


def test_columns_in_any_order_fill_the_fields_of_their_names(database):
    statement = "SELECT * FROM (VALUES (41, 'ann'), (17, 'ben')) AS p (age, name) ORDER BY name"
    assert read(database, statement, lambda cur: records(cur, Person)) == [Person("ann", 41), Person("ben", 17)]
    assert read(database, statement, lambda cur: first_record(cur, Person)) == Person("ann", 41)
    nobody = f"SELECT * FROM ({statement}) p WHERE false"
    assert read(database, nobody, lambda cur: first_record(cur, Person)) is None


@pytest.mark.parametrize("columns", ["'ann' AS name, 1 AS height", "1 AS age"], ids=["too many", "too few"])
def test_a_record_that_drifted_from_its_statement_is_an_error(database, columns):
    with pytest.raises(TypeError, match=r"Person\.__init__\(\)"):
        read(database, f"SELECT {columns}", lambda cur: records(cur, Person))


def test_two_columns_of_one_name_are_an_error(database):
    with pytest.raises(ValueError, match="two columns have one name: name, name"):
        read(database, "SELECT 'ann' AS name, 'ben' AS name", named_rows)


def test_a_part_of_a_row_is_taken_by_name():
    assert part_of({"name": "ann", "age": 41, "of": "a row"}, Person) == Person("ann", 41)
    with pytest.raises(KeyError):
        part_of({"name": "ann"}, Person)
