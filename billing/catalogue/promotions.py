"""The section ``promotions`` of a catalogue: the discount, its items, its customers and its time.

Rules. A promotion takes off exactly one of four: a percentage, an amount, free units, free periods.

Does not know: how promotions are applied (ratingcore), which are in force (model.promotions_for).
"""

from typing import Any

from billing.catalogue.model import Promotion
from billing.catalogue.nodes import Fields, NodeRefused, text_of
from billing.catalogue.reading import (
    CatalogueReading,
    known_names,
    read_boolean,
    read_identifier,
    read_instant,
    read_names,
    read_ppm,
    read_value,
    read_whole,
)
from billing.catalogue.units import check_currency, parse_decimal, parse_quantity
from billing.wording import PRICE_DECIMALS
from ratingcore import tariff as core


def read_promotion(fields: Fields, reading: CatalogueReading) -> Promotion:
    number = read_identifier(fields.require("promotion"), "promotion")
    names = read_names(fields, number)
    items = known_names(fields, "items", "items", reading)
    since_s = read_instant(fields.require("from"), reading) or 0
    until_s = read_instant(fields.take("until"), reading)
    if until_s is not None and until_s <= since_s:
        raise NodeRefused(fields.place_of("until"), f"promotion {number} ends before it begins")
    gifts = _gift(fields, items, reading)
    return Promotion(
        number,
        names,
        fields.text("code", ""),
        since_s,
        until_s,
        items,
        known_names(fields, "plans", "plans", reading),
        tuple(text_of(node, "groups") for node in fields.nodes("groups")),
        read_whole(fields, "periods", 0, 0, 1200) or gifts.pop("periods", 0),
        read_whole(fields, "order", 100, 0, 1_000_000),
        read_boolean(fields, "keep_above_zero"),
        fields.place,
        **gifts,
    )


def _gift(fields: Fields, items: tuple[str, ...], reading: CatalogueReading) -> dict[str, Any]:
    """What a promotion takes off: exactly one of four."""
    kinds = ("percent", "amount", "free_units", "free_periods")
    given = {kind: node for kind in kinds if (node := fields.take(kind)) is not None}
    currency = fields.take("currency")
    if len(given) != 1:
        raise NodeRefused(fields.place, f"a promotion has one of: {', '.join(kinds)}")
    ((kind, node),) = given.items()
    match kind:
        case "percent":
            ppm = read_ppm(node, "percent")
            if not 0 < ppm <= 1_000_000:
                raise NodeRefused(node.place, "a promotion takes more than 0 and at most 100 percent off")
            return {"percent_ppm": ppm}
        case "amount":
            money = read_value(currency, "currency", check_currency) if currency else reading.currency
            amount = read_value(node, "amount", lambda text: parse_decimal(text, PRICE_DECIMALS))
            if not 0 < amount <= core.MAX_PRICE_MICRO:
                raise NodeRefused(node.place, "a promotion's amount is above zero and at most 10,000,000,000.00")
            return {"amount_micro": amount, "currency": money}
        case "free_units":
            units = {reading.items[item].unit for item in items if item in reading.items}
            if len(units) != 1:
                raise NodeRefused(node.place, "free units need items: of one unit")
            quantity = read_value(node, "free_units", lambda text: parse_quantity(text, units.pop()))
            if not 0 < quantity <= core.MAX_QUANTITY:
                raise NodeRefused(node.place, "free units are more than nothing")
            return {"free_units": quantity}
        case _:
            periods = read_value(node, "free_periods", lambda text: parse_decimal(text, 0))
            if not 0 < periods <= 1200 or fields.take("periods") is not None:
                raise NodeRefused(node.place, "free_periods is 1 to 1200, and takes the place of periods")
            return {"free_period": True, "periods": periods}
