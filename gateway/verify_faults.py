"""What differs in a walk over payments: all of it counted, the first listed.

Does not know: what is compared.
"""

from collections.abc import Iterable

from billing.verify_records import MAX_LISTED, Check, Finding


class Faults:
    """Counts what a walk examined and found; keeps the first MAX_LISTED. Lives for one check."""

    def __init__(self, truth: int) -> None:
        self.examined = 0
        self._truth = truth
        self._found = 0
        self._findings: list[Finding] = []

    def add(self, payment_id: int, faults: Iterable[str]) -> None:
        """One payment's faults; several are one difference."""
        words = "; ".join(faults)
        if not words:
            return
        self._found += 1
        if len(self._findings) < MAX_LISTED:
            self._findings.append(Finding(self._truth, f"payment {payment_id}: {words}"))

    def check(self, name: str, of: str, note: str = "") -> Check:
        """The walk's outcome."""
        return Check(self._truth, name, self.examined, of, self._found, tuple(self._findings), note)
