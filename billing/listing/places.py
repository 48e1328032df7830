"""A place in a list as text for an address, bound to what was asked.

Rules. The text is opaque: people and programs hand it back as it is. It carries a digest of the list, the filter and
the order it was made for; with any other it is refused, because a place means nothing there. The digest is no secret:
a place shows nothing that its asker may not read, for what he may read is in every statement.

Does not know: what is listed.
"""

import base64
import binascii
import json
from dataclasses import astuple
from hashlib import blake2b
from typing import Final

from billing.listing.records import ListPlace, PlaceError, Question

#: Longer is none of ours: keys and ordered values are cut nowhere, and a name has at most a few hundred letters.
MAX_CHARS: Final = 4_000
_MAX_SEEN: Final = 2**53
_DIGEST_BYTES: Final = 9


def place_text(place: ListPlace, source: str, question: Question) -> str:
    """The place as text.

    >>> place_text(ListPlace(True, "2026-01-31", "7", 50), "invoices", Question())[:20] != ""
    True
    """
    body = json.dumps([place.is_forward, place.order, place.key, place.seen, _digest(source, question)])
    return base64.urlsafe_b64encode(body.encode()).decode().rstrip("=")


def read_place(text: str, source: str, question: Question) -> ListPlace:
    """The place that `place_text` wrote for the same source and question.

    Raises:
        PlaceError: it is damaged, or was made for another filter or order.
    """
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        body = json.loads(base64.b64decode(padded, b"-_", validate=True)) if len(text) <= MAX_CHARS else None
    except (UnicodeError, binascii.Error, ValueError, RecursionError) as error:
        raise PlaceError("the address of this page is damaged", code="list_place_damaged") from error
    match body:
        case [bool(is_forward), str(order), str(key), int(seen), str(digest)] if (
            0 <= seen < _MAX_SEEN and not isinstance(seen, bool) and "\0" not in order + key
        ):
            if digest != _digest(source, question):
                raise PlaceError("the address of this page belongs to another filter", code="list_place_other")
            return ListPlace(is_forward, order, key, seen)
        case _:
            raise PlaceError("the address of this page is damaged", code="list_place_damaged")


def _digest(source: str, question: Question) -> str:
    """Scope is not in it: a place does not widen what its asker sees."""
    asked = [[type(condition).__name__, *astuple(condition)] for condition in question.conditions]
    words = json.dumps([source, sorted(asked, key=repr), astuple(question.order)], default=str)
    return base64.urlsafe_b64encode(
        blake2b(words.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()
    ).decode()
