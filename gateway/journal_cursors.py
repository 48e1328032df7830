"""Places in a list: a row's position in the order of time and id, and its text in an address.

Rules. A place is bounded to the years that a date can hold, so that every arithmetic on it is defined; an address that
this code did not make is refused with a sentence.

Does not know: what is listed, how it is read.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

MILLISECOND: Final = timedelta(milliseconds=1)
MAX_INT64: Final = 2**63 - 1

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: No payment of ours is older or younger; far enough from the ends of `datetime` for any window beside it.
_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(2500, 1, 1, tzinfo=UTC)
_CURSOR: Final = re.compile(r"([np])([0-9]{1,15})\.([0-9]{1,19})", re.ASCII)
_DAMAGED: Final = "this page address is damaged: start from the first page"


@dataclass(frozen=True, slots=True)
class Position:
    """A row's place in the order; the page lies after it (older rows), or before it when not is_forward."""

    is_forward: bool
    at: datetime
    id: int


def format_cursor(position: Position) -> str:
    """The place as text for an address."""
    milliseconds = (position.at - _EPOCH) // MILLISECOND
    text = f"{'n' if position.is_forward else 'p'}{milliseconds}.{position.id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def parse_cursor(cursor: str) -> Position:
    """The place that `format_cursor` wrote.

    Raises:
        ValueError: not one of ours.
    """
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        text = base64.b64decode(padded, b"-_", validate=True).decode("ascii")
    except (UnicodeError, binascii.Error) as error:
        raise ValueError(_DAMAGED) from error
    match = _CURSOR.fullmatch(text)
    if match is None or int(match[3]) > MAX_INT64:
        raise ValueError(_DAMAGED)
    milliseconds = int(match[2])
    if not _FIRST <= _EPOCH + min(milliseconds, (_LAST - _EPOCH) // MILLISECOND + 1) * MILLISECOND <= _LAST:
        raise ValueError(_DAMAGED)
    return Position(match[1] == "n", _EPOCH + milliseconds * MILLISECOND, int(match[3]))
