"""billing.database.unnest: columns of values come back from the database as the rows they were."""

import doctest

import pytest

from billing.database import unnest
from billing.database.unnest import Unnested
from tests.billing.orders.shop import act

ROWS = [(2**62, "a, {b}", 1), (None, 'c "d" \\', -1), (-7, None, None)]


def test_the_example_of_the_class_holds():
    assert doctest.testmod(unnest).failed == 0


def test_rows_come_back_as_they_were_and_counted(database):
    columns = Unnested("v", {"id": "bigint", "word": "text", "sign": "int"}, number="line")

    async def work(cur):
        statement = f"SELECT id, word, sign, line, %(v)s FROM {columns.source} ORDER BY line"
        await cur.execute(statement, columns.values(ROWS) | {"v": "beside"})
        return await cur.fetchall()

    assert act(database, work) == [(*row, line, "beside") for line, row in enumerate(ROWS, 1)]


def test_a_row_of_another_length_is_an_error():
    with pytest.raises(ValueError, match="shorter"):
        Unnested("v", {"id": "bigint", "word": "text"}).values([(1,)])
