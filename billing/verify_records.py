"""What a check of `kopeck verify` is and what it found.

Does not know: what is checked.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

#: Differing rows that one check lists; all are counted.
MAX_LISTED: Final = 50


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference: which truth it breaks, and the row with what was expected of it."""

    truth: int
    what: str


@dataclass(frozen=True, slots=True)
class Check:
    """One check's outcome. examined: how many ``of`` it looked at; found: how many differ, the first of them listed.

    note: what a person should know although it is no difference.
    """

    truth: int
    name: str
    examined: int
    of: str
    found: int = 0
    findings: tuple[Finding, ...] = ()
    note: str = ""

    @property
    def is_clean(self) -> bool:
        """No difference. True also of a check that examined nothing."""
        return self.found == 0


def check_of(truth: int, name: str, examined: int, of: str, found: Iterable[str], note: str = "") -> Check:
    """A check whose differences are all at hand."""
    faults = list(found)
    listed_ = tuple(Finding(truth, fault) for fault in faults[:MAX_LISTED])
    return Check(truth, name, examined, of, len(faults), listed_, note)


def listed(
    truth: int, name: str, examined: int, of: str, rows: Sequence[Sequence[Any]], words: Callable[[Sequence[Any]], str]
) -> Check:
    """A check whose query returned the first differing rows, each ending with how many there are in all."""
    found = int(rows[0][-1]) if rows else 0
    return Check(truth, name, examined, of, found, tuple(Finding(truth, words(row)) for row in rows))
