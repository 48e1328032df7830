"""What is asked of the journal and what it answers: filters, pages, and the words of a search box.

Rules. Pure records and functions. Every list carries a half-open date range [start, end). What a person types becomes
terms that must all be found; each names the values that an index finds documents by, and the fragment that one of the
document's words must then hold (see `gateway.documents`, which stores them).

Does not know: MongoDB, PostgreSQL, pages.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from gateway.documents import BEGINNING, GRAM, Document, fold
from gateway.journal_cursors import MAX_INT64
from ratingcore.money import format_minor, read_typed_sum

#: Characters and words of a search text.
MAX_TEXT: Final = 100
MAX_WORDS: Final = 6

Hour = tuple[datetime, int]


class Hours(Protocol):
    """How many payments there are when: what windows of a list are measured by."""

    async def hours(
        self,
        start: datetime,
        end: datetime,
        newest_first: bool,
        most: int,
        states: Sequence[str],
        partners: Sequence[str],
    ) -> Sequence[Hour]:
        """(hour of UTC, payments of these states and partners, empty for all) where there are any, ``most`` hours."""
        ...

    async def minutes(self, hour: datetime) -> Sequence[Hour]:
        """(minute, payments of all states and partners) of one hour, in order."""
        ...

    async def seconds(self, minute: datetime) -> Sequence[Hour]:
        """The same by seconds of one minute."""
        ...


class JournalAway(Exception):
    """MongoDB cannot be reached now. Payments go on without it; the relay catches up."""


class JournalBusy(JournalAway):
    """MongoDB did not answer in time even for the least that can be asked of it."""


class JournalError(Exception):
    """MongoDB answered that it will not do this; names the documents at fault in ``ids``."""

    def __init__(self, message: str, ids: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.ids = tuple(ids)


@dataclass(frozen=True, slots=True)
class Filter:
    """What a list shows. start, end: aware instants, half-open. Sums in minor units, both ends included.

    text: anything a person types: an id, a key, an account or phone or a part of one, a sum, words of a name.
    states, partners: of payments; kinds, reasons, partners: of attempts; empty means all.
    """

    start: datetime
    end: datetime
    text: str = ""
    states: tuple[str, ...] = ()
    partners: tuple[str, ...] = ()
    min_minor: int | None = None
    max_minor: int | None = None
    kinds: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError with a sentence for a person."""
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError("the date range needs a time zone")
        if self.start >= self.end:
            raise ValueError("the date range ends before it begins")
        for amount in (self.min_minor, self.max_minor):
            if amount is not None and not 0 <= amount <= MAX_INT64:
                raise ValueError("a sum must not be negative")
        if self.min_minor is not None and self.max_minor is not None and self.min_minor > self.max_minor:
            raise ValueError("the smallest sum is more than the largest")
        search_terms(self.text)

    @property
    def is_counted(self) -> bool:
        """Whether the hourly totals (`gateway.payment_totals`) know how many payments it finds."""
        return not self.text.strip() and self.min_minor is None and self.max_minor is None


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list, newest first. next, previous: cursors, None where there is nothing more.

    exact: how many rows at the head were found by an exact payment id or key, whatever their date; only on page one.
    reached: the page ran out of time before it was full, and everything on the near side of this instant was looked
        at; ``next`` goes on from there, or ``previous`` where the page is_backward: read from older to newer rows.
    """

    rows: list[Document]
    next: str | None = None
    previous: str | None = None
    exact: int = 0
    reached: datetime | None = None
    is_backward: bool = False

    @property
    def is_everything(self) -> bool:
        """Whether these rows are all that the filter finds."""
        return self.next is None and self.previous is None


@dataclass(frozen=True, slots=True)
class SearchTerm:
    """One word of a search. values: an index finds the documents by any of them; fragment: which a word of the
    document must hold besides; empty where a value is enough."""

    values: tuple[str, ...]
    fragment: str = ""


_PHONE: Final = re.compile(r"[+0-9][0-9 ()-]*", re.ASCII)
#: What people copy along with a name, and no term begins or ends with.
_QUOTES: Final = "«»„“”\"',;()"


def search_terms(text: str) -> list[SearchTerm]:
    """What a person typed as terms that must all be found.

    A sum with decimals or a rouble sign is that sum. A phone in any spelling is its digits (of +7 and 8 the ten that
    follow). Digits shorter than GRAM are whole numbers or sums, words shorter than BEGINNING are whole words; a longer
    one is found inside an account or key, or at the beginning of a word of a name.

    Raises:
        ValueError: longer than MAX_TEXT characters or MAX_WORDS words.

    >>> search_terms("1 234,5")
    [SearchTerm(values=('1234.50',), fragment='')]
    >>> search_terms("916123")
    [SearchTerm(values=('6123', '916123', '916123.00'), fragment='916123')]
    """
    if len(text) > MAX_TEXT:
        raise ValueError(f"search for at most {MAX_TEXT} characters")
    folded = fold(text)
    if not folded:
        return []
    typed = read_typed_sum(folded) if folded.isascii() or "₽" in folded or "р" in folded else None
    if typed is not None and typed.is_marked:
        return [SearchTerm((format_minor(typed.amount),))]
    words = _phone_of(folded) or [word.strip(_QUOTES) or word for word in folded.split(" ")]
    if len(words) > MAX_WORDS:
        raise ValueError(f"search for at most {MAX_WORDS} words")
    return [_term(word) for word in words]


def _phone_of(text: str) -> list[str] | None:
    """The digits of a spelled-out phone or spaced number as one word; None where it is neither."""
    if not _PHONE.fullmatch(text) or not re.search(r"[ +(]", text):
        return None
    digits = re.sub(r"[^0-9]", "", text)
    if not digits:
        return None
    is_national = len(digits) == 11 and digits[0] in "78"
    return [digits[1:] if is_national else digits]


def _term(word: str) -> SearchTerm:
    is_number = word.isdecimal()
    values = [word[-GRAM:]]
    if is_number:
        values += [word, f"{int(word)}.00"]
    else:
        values += [word[:BEGINNING], word]
    is_whole = len(word) <= (GRAM if is_number else BEGINNING)
    return SearchTerm(tuple(dict.fromkeys(values)), "" if is_whole else word)
