"""The section ``prices`` of a catalogue: lists of price versions, each version a tariff of steps.

Rules. Versions of a list ascend by their dates. A list of an item that is wrong itself is not read: the item's problem
says enough. What the core refuses about a tariff is told at the place of the step it names.

Does not know: how a step is read (steps), which list applies to a buyer (model.resolve_price).
"""

from functools import partial
from itertools import pairwise

from billing.catalogue.model import PriceList, PriceVersion
from billing.catalogue.nodes import Fields, Listing, Node, NodeRefused, Place, ProblemsTold, Scalar
from billing.catalogue.reading import CatalogueReading, known_name, read_boolean, read_instant, read_value
from billing.catalogue.steps import StepContext, read_step
from billing.catalogue.units import check_currency
from ratingcore import tariff as core
from ratingcore.rounding import rounding_of


def read_price_list(fields: Fields, reading: CatalogueReading) -> PriceList | None:
    item = known_name(fields.require("item"), "items", reading)
    currency = fields.take("currency")
    plan = fields.take("plan")
    money = read_value(currency, "currency", check_currency) if currency else reading.currency
    narrowed = (
        known_name(plan, "plans", reading) if plan else "",
        fields.text("group", ""),
        fields.text("customer", ""),
    )
    nodes = fields.nodes("versions")
    if not nodes:
        raise NodeRefused(
            fields.place, f"the price of item {item} needs versions:", "write versions: with from: and steps:"
        )
    if item not in reading.items:
        return None  # the item itself is wrong, and has been told
    versions = [reading.attempt(partial(_read_version, node, item, money, reading)) for node in nodes]
    found = [one for one in versions if one is not None]
    for before, after in pairwise(found):
        if after.since_s <= before.since_s:
            raise NodeRefused(
                after.place, "versions come in ascending order of from", "each date once, the oldest first"
            )
    return PriceList(item, money, *narrowed, tuple(found), fields.place)


def _read_version(node: Node, item: str, currency: str, reading: CatalogueReading) -> PriceVersion:
    fields = Fields(node, f"a price version of item {item}")
    since_s = read_instant(fields.require("from"), reading) or 0
    if read_boolean(fields, "as_below"):
        fields.done()
        return PriceVersion(since_s, None, True, "", (), fields.place)
    tax = fields.text("tax", "inside")
    if tax not in ("inside", "outside"):
        raise NodeRefused(fields.place_of("tax"), f"tax is inside or outside (the price), not {tax[:40]!r}")
    rounding = read_value(fields.take("rounding") or Scalar(fields.place, "half_away", False), "rounding", rounding_of)
    calendar_node = fields.take("calendar")
    calendar = known_name(calendar_node, "calendars", reading) if calendar_node else ""
    unit = reading.items[item].unit
    context = StepContext(unit, currency, reading.pools, reading.cards, reading.defined, reading.used_cards)
    steps_node = fields.require("steps")
    nodes = steps_node.nodes if isinstance(steps_node, Listing) else ()
    steps = [reading.attempt(partial(read_step, number, node, context)) for number, node in enumerate(nodes)]
    fields.done()
    places = tuple(one.place for one in nodes)
    if calendar and calendar not in reading.calendars:
        raise ProblemsTold
    clock = reading.calendars[calendar][0] if calendar else None
    if not nodes:
        hint = "write `- graduated: {per: ..., tiers: [...]}` or another kind of step"
        raise NodeRefused(steps_node.place, "steps is a list of one or more steps", hint)
    good = tuple(step for step in steps if step is not None)
    if len(good) != len(nodes):
        raise ProblemsTold
    try:
        tariff = core.Tariff(good, clock, rounding)
    except ValueError as error:
        raise NodeRefused(_step_place(str(error), places, steps_node.place), str(error)) from error
    return PriceVersion(since_s, tariff, tax == "inside", calendar, places, fields.place)


def _step_place(message: str, places: tuple[Place, ...], default: Place) -> Place:
    """The place of the step that a message of the core names by its number."""
    word = message.removeprefix("step ").split(" ")[0]
    return places[int(word) - 1] if word.isdigit() and 1 <= int(word) <= len(places) else default
