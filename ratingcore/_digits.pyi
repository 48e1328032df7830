from typing import Any

from numpy.typing import NDArray

from ratingcore.arrays import Words

def pack_numbers(text: NDArray[Any], key: Words, no_number: int) -> None: ...
