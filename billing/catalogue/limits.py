"""What a catalogue may not hold although it can be read: the linter's errors that need no example of a bill.

Rules. They are errors of the linter and not of the reader, so that a version saved before a rule was known is still
read and what was billed by it is still explained: `kopeck catalogue load` refuses a new version that breaks one.

Does not know: prices, what something costs.
"""

from collections.abc import Iterator
from typing import Final

from billing.catalogue.model import Catalogue, Names
from billing.catalogue.nodes import Place, Problem, Severity
from billing.catalogue.units import FAMILIES
from ratingcore import tariff as core

#: A percentage is taken of money, which is counted in hundredths.
_MONEY_DECIMALS: Final = 2


def limit_findings(catalogue: Catalogue) -> Iterator[Problem]:
    """Too many pools, percentages of what is no money, names that cannot be shown."""
    yield from _pools(catalogue)
    yield from _percentages(catalogue)
    yield from _names(catalogue)


def _error(place: Place, code: str, message: str, hint: str) -> Problem:
    return Problem(place, message, hint, Severity.ERROR, code)


def _pools(catalogue: Catalogue) -> Iterator[Problem]:
    if len(catalogue.pools) > core.MAX_POOLS:
        first_too_many = list(catalogue.pools.values())[core.MAX_POOLS]
        message = f"{len(catalogue.pools)} pools: a catalogue has {core.MAX_POOLS} at most"
        yield _error(
            first_too_many.place, "limit", message, "share a pool among plans, or sell some in another catalogue"
        )


def _percentages(catalogue: Catalogue) -> Iterator[Problem]:
    for one in catalogue.prices:
        unit = catalogue.items[one.item].unit
        is_money = unit.decimals == _MONEY_DECIMALS and not any(unit.name in family for family in FAMILIES)
        for version in one.versions if not is_money else ():
            steps = version.tariff.steps if version.tariff else ()
            for step, place in zip(steps, version.step_places, strict=False):
                if isinstance(step, core.Percentage):
                    counted = f"{unit.name} with {unit.decimals} decimals"
                    message = f"{one.label}: a percentage is of money, with 2 decimals, and the item counts {counted}"
                    hint = f"write unit: {catalogue.currency} and decimals: 2 at item {one.item}"
                    yield _error(place, "percentage-unit", message, hint)


def _names(catalogue: Catalogue) -> Iterator[Problem]:
    named: list[tuple[str, str, Names, Place]] = [
        *(("tax class", one.number, one.names, one.place) for one in catalogue.taxes.values()),
        *(("item", one.number, one.names, one.place) for one in catalogue.items.values()),
        *(("plan", one.number, one.names, one.place) for one in catalogue.plans.values()),
        *(("promotion", one.number, one.names, one.place) for one in catalogue.promotions),
    ]
    for what, number, names, place in named:
        if not names or not all(text.strip() for text in names.values()):
            hint = "write a text, or a text per language: {en: ..., ru: ...}; leave it out for the number"
            yield _error(place, "name", f"the name of {what} {number} is empty", hint)
        for text in names.values():
            if not text.isprintable():
                message = f"the name of {what} {number} holds a character that cannot be shown: {text[:60]!r}"
                yield _error(place, "name", message, "take it out: control characters and line ends are no text")
    texts: list[tuple[str, str, Place]] = [
        *((f"the category of item {one.number}", one.category, one.place) for one in catalogue.items.values()),
        *((f"the group of {one.item}", one.group, one.place) for one in catalogue.prices),
        *((f"the customer of {one.item}", one.customer, one.place) for one in catalogue.prices),
        *((f"the code of promotion {one.number}", one.code, one.place) for one in catalogue.promotions),
        *((f"a group of {one.number}", group, one.place) for one in catalogue.promotions for group in one.groups),
    ]
    for what, text, place in texts:
        if not text.isprintable():
            yield _error(place, "name", f"{what} holds a character that cannot be shown: {text[:60]!r}", "take it out")
