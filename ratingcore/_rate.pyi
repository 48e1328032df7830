from typing import Any

from numpy.typing import NDArray

from ratingcore.arrays import Bytes, Indices, Ints, Words

def limits() -> tuple[int, ...]: ...
def rate_columns(
    start_s: int,
    end_s: int,
    pool_count: int,
    prices: NDArray[Any],
    versions: NDArray[Any],
    tariffs: NDArray[Any],
    steps: NDArray[Any],
    tiers: NDArray[Any],
    rates: NDArray[Any],
    cards: NDArray[Any],
    card_index: Indices,
    ranges: NDArray[Any],
    calendars: NDArray[Any],
    calendar_index: Indices,
    edges: Ints,
    edge_band: Indices,
    lines: NDArray[Any],
    meters: Ints,
    pools: Ints,
    line: Ints,
    time_s: Ints,
    quantity: Ints,
    duration_s: Ints,
    destination: Words,
    closing: bool,
    picked: bool,
    picks: Ints,
    amount_micro: Ints,
    version: Indices,
    tier: Indices,
    rate: Indices,
    reject: Bytes,
) -> None: ...
