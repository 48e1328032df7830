"""web.site.charts: bars keep their order and their place, and the largest value is the full height."""

from hypothesis import given
from hypothesis import strategies as st

from web.site.charts import HEIGHT, LEAST, STEP, bar_chart

SUMS = st.lists(st.tuples(st.integers(0, 2**63), st.integers(0, 2**63)), min_size=1, max_size=30)


@given(SUMS)
def test_bars_compare_as_their_values_do(sums: list[tuple[int, int]]) -> None:
    values, compared = [value for value, _ in sums], [value for _, value in sums]
    chart = bar_chart(values, [str(value) for value in values], compared)
    heights = [bar.height for bar in chart.bars]
    assert [bar.label for bar in chart.bars] == [str(value) for value in values]
    assert all(bar.y + bar.height == HEIGHT and 0 <= bar.x < chart.width for bar in chart.bars)
    assert all((height >= LEAST) == (value > 0) for height, value in zip(heights, values, strict=True))
    for value, height in zip(values, heights, strict=True):
        assert all(height <= other for bigger, other in zip(values, heights, strict=True) if bigger > value)
    if values and max(values) >= max(compared) and max(values):
        assert max(heights) == HEIGHT
    assert chart.width == STEP * len(values)
    assert bool(chart.line) == any(compared)


def test_nothing_is_drawn_of_nothing() -> None:
    chart = bar_chart([0, 0], ["a", "b"], [0, 0])
    assert [bar.height for bar in chart.bars] == [0, 0]
    assert chart.line == ""
