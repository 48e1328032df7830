"""Charts drawn by the server as SVG: values to places, nothing but integers and attributes.

Rules. A chart says nothing that the table beside it does not. Every number here is of the drawing's own units; a value
of 0 has no bar, the largest has the full height, and one that is more than 0 is seen.

Does not know: what is counted, colours (web/static/css), languages.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

#: Units of one bar with its gap, and the height of the largest.
STEP: Final = 20
BAR: Final = 14
HEIGHT: Final = 100
#: The least height of a value above 0.
LEAST: Final = 2


@dataclass(frozen=True, slots=True)
class Bar:
    """One value: its place and what it is called."""

    x: int
    y: int
    height: int
    label: str


@dataclass(frozen=True, slots=True)
class BarChart:
    """Bars with a line of what they are compared to. line: points of a polyline, empty where there is nothing."""

    width: int
    height: int
    bar: int
    bars: tuple[Bar, ...]
    line: str


def bar_chart(values: Sequence[int], labels: Sequence[str], compared: Sequence[int] = ()) -> BarChart:
    """Bars of ``values`` (not negative) under one scale with the line of ``compared``, which has as many.

    >>> chart = bar_chart([0, 50, 100], ["a", "b", "c"], [200, 0, 0])
    >>> [(bar.x, bar.y, bar.height) for bar in chart.bars], chart.line
    ([(3, 100, 0), (23, 75, 25), (43, 50, 50)], '10,0 30,100 50,100')
    """
    largest = max([*values, *compared, 1])
    heights = [_height(value, largest) for value in values]
    gap = (STEP - BAR) // 2
    bars = tuple(
        Bar(place * STEP + gap, HEIGHT - height, height, label)
        for place, (height, label) in enumerate(zip(heights, labels, strict=True))
    )
    points = [f"{place * STEP + STEP // 2},{HEIGHT - _height(value, largest)}" for place, value in enumerate(compared)]
    return BarChart(STEP * len(values), HEIGHT, BAR, bars, " ".join(points) if any(compared) else "")


def _height(value: int, largest: int) -> int:
    return max(LEAST, value * HEIGHT // largest) if value > 0 else 0
