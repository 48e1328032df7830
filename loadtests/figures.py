"""What every group of the bench speaks in: figures, and the setting they are measured in.

Does not know: what is measured.
"""

from dataclasses import dataclass


class BenchError(Exception):
    """The run has no figure; the message says why."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number. name: with its unit last, the key in the JSON; what: a few words for a person."""

    name: str
    value: float
    unit: str
    what: str

    @property
    def shown(self) -> str:
        """The value as a person wants to see it: whole where it is large."""
        return f"{self.value:,.0f}".replace(",", " ") if abs(self.value) >= 100 else f"{self.value:.2f}"


@dataclass(frozen=True, slots=True)
class Setting:
    """seconds: length of one measurement; folder: where installations are made; payments: how many people search;
    customers: of the lists, with ten invoices each."""

    seconds: int = 5
    folder: str = "build/bench"
    payments: int = 1_000_000
    customers: int = 200_000
