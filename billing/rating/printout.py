"""Bills of ``kopeck rate`` in words and as JSON: totals a customer can read, and every line's derivation.

Rules. Every number of a derivation is printed exactly, so that a pocket calculator comes to the same kopeck; each
event's derivation is recomputed by the judge before it is shown. Every language says the same. JSON holds
integers only (micro, minor units, steps, epoch seconds) and the judge's entries under their own names.

Does not know: how prices come about; terminals.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, Final

from billing.catalogue.model import Catalogue, Names
from billing.catalogue.sheet import KINDS, buyers_words
from billing.catalogue.units import Unit, format_date
from billing.language import N_
from billing.rating.bills import Bill, BillLine, BillMonth, RatedEvent, TaxPart
from billing.rating.rated_file import RejectedRow
from billing.wording import Words
from ratingcore import reference
from ratingcore.bands import zone_of

#: Sentences by their keys.
TEXTS: Final[Mapping[str, str]] = {
    "bill": N_("Account %(account)s, %(period)s"),
    "total": N_("Total to pay"),
    "net": N_("without tax"),
    "tax": N_("tax"),
    "rejected": N_("Rows that were not billed: %(count)s"),
    "close": N_("at the close of the period"),
    "percentage": N_("taken of %(base)s"),
    "event": N_("%(place)s  %(time)s  %(quantity)s%(to)s -> %(amount)s"),
    "to": N_(" to %(number)s"),
    "price": N_("price of %(item)s from %(date)s, %(listing)s"),
    "band": N_("band %(band)s, %(start)s, %(seconds)s s: %(quantity)s"),
    "Incremented": N_("increments: %(came)s counted as %(left)s (first %(first)s, then by %(next)s%(grace)s)"),
    "grace": N_(", nothing up to %(grace)s"),
    "counted": N_("; of this call %(seen)s came before, counted as %(counted)s"),
    "Drawn": N_("allowance: %(allowed)s left, %(drawn)s taken from it, %(left)s to pay"),
    "DrawnPool": N_("allowance %(pool)s: %(allowed)s left, %(drawn)s taken from it, %(left)s to pay"),
    "DrawnPromotion": N_("promotion, free units: %(allowed)s left, %(drawn)s taken from it, %(left)s to pay"),
    "Charged": N_("%(kind)s%(prefix)s: %(after)s - %(before)s = %(charged)s"),
    "prefix": N_(" (prefix %(prefix)s)"),
    "Scaled": N_("%(amount)s x %(ratio)s %% = %(left)s"),
    "Capped": N_("cap %(maximum)s: %(running)s before, %(came)s asked, %(left)s charged"),
    "sum": N_("sum of the line: %(sum)s"),
    "percent_off": N_("promotion %(name)s: %(before)s - %(percent)s %% = %(after)s"),
    "amount_off": N_("promotion %(name)s: %(before)s - %(amount)s = %(after)s"),
    "period_off": N_("promotion %(name)s: the period is free, %(before)s -> %(after)s"),
    "rounded": N_("rounded (%(mode)s) to %(amount)s"),
    "inside": N_("of it tax %(percent)s %%: %(amount)s x %(percent)s / %(whole)s = %(tax)s, net %(net)s"),
    "outside": N_("tax %(percent)s %% on top: %(amount)s x %(percent)s / 100 = %(tax)s, to pay %(gross)s"),
    "at_least": N_("%(value)s, at least %(bound)s"),
    "at_most": N_("%(value)s, at most %(bound)s"),
    "HALF_AWAY": N_("half away from zero"),
    "HALF_EVEN": N_("half to even"),
    "AWAY": N_("away from zero"),
    "TOWARD_ZERO": N_("toward zero"),
    "FLOOR": N_("down"),
    "CEILING": N_("up"),
}


def _say(words: Words, key: str, **values: Any) -> str:
    """A sentence of TEXTS."""
    return words.say(TEXTS[key], **values)


def report(
    catalogue: Catalogue,
    bills: Sequence[Bill],
    rejected: Sequence[RejectedRow],
    currency: str,
    language: str,
    explain: bool,
) -> Iterator[str]:
    """The lines of the report."""
    words = Words(language, currency)
    for bill in bills:
        yield from _bill(catalogue, bill, words, explain)
        yield ""
    if rejected:
        yield _say(words, "rejected", count=len(rejected))
        yield from (f"  {one.place}: {one.reason}" for one in rejected)


def _bill(catalogue: Catalogue, bill: Bill, words: Words, explain: bool) -> Iterator[str]:
    yield _say(words, "bill", account=bill.account, period=_month(bill.period, words))
    shown = [(_line_name(catalogue, line, words), words.money(line.gross)) for line in bill.lines]
    totals = [(_say(words, "total"), words.money(bill.total))]
    if bill.tax:
        totals += [
            (f"  {_say(words, 'net')}", words.money(bill.net)),
            (f"  {_say(words, 'tax')}", words.money(bill.tax)),
        ]
    left = max(len(name) for name, _ in [*shown, *totals])
    right = max(len(amount) for _, amount in [*shown, *totals])
    for line, (name, amount) in zip(bill.lines, shown, strict=True):
        yield f"  {name.ljust(left)}  {amount.rjust(right)}"
        if explain:
            yield from ("      " + text for text in explain_line(catalogue, line, words))
    for name, amount in totals:
        yield f"  {name.ljust(left)}  {amount.rjust(right)}"


def _month(period: BillMonth, words: Words) -> str:
    return f"{words.month(period.month)} {period.year}"


def _line_name(catalogue: Catalogue, line: BillLine, words: Words) -> str:
    item = catalogue.items[line.item]
    used = f", {words.quantity(line.used, item.unit)}" if line.used and not item.percentage_of else ""
    return f"{words.name(item.names)}{used}"


# ---- derivations


def explain_line(catalogue: Catalogue, line: BillLine, words: Words) -> Iterator[str]:
    """How a line's amount came about; raises as ``event_texts`` does."""
    yield from event_texts(catalogue, line, words)
    yield from sum_texts(line, words)


def event_texts(catalogue: Catalogue, line: BillLine, words: Words) -> Iterator[str]:
    """How the events of a line were priced, the close of the period included.

    Raises:
        ValueError: a derivation does not come to the amount it explains (a defect; nothing is shown then).
    """
    shown_version = -1
    for one in line.events:
        if reference.recompute(one.rated) != one.rated.amount_micro:
            raise ValueError(f"the derivation of {line.item} does not come to {one.rated.amount_micro} micro")
        if one.rated.version not in (shown_version, -1) and (one.rated.amount_micro or not one.closing):
            shown_version = one.rated.version
            yield _price_text(catalogue, line, shown_version, words)
        if not one.closing or one.rated.amount_micro:  # a close that adds nothing is no news
            yield from _event_texts(catalogue, line, one, words)


def sum_texts(line: BillLine, words: Words) -> Iterator[str]:
    """From a line's sum to its amounts: promotions, rounding, tax."""
    yield _say(words, "sum", sum=words.price(line.sum_micro))
    for step in line.discounts:
        yield _discount_text(step.promotion.names, step.promotion, step.before_micro, step.after_micro, words)
    for part in line.parts:
        yield from _part_texts(part, words)


def _price_text(catalogue: Catalogue, line: BillLine, version: int, words: Words) -> str:
    one = line.resolved.versions[version]
    date = format_date(one.version.since_s, catalogue.zone)
    listing = f"{buyers_words(one.listing, words)} ({one.version.place})"
    return _say(words, "price", item=line.item, date=date, listing=listing)


def _event_texts(catalogue: Catalogue, line: BillLine, one: RatedEvent, words: Words) -> Iterator[str]:
    unit = catalogue.items[line.item].unit
    amount = words.price(one.rated.amount_micro)
    if one.usage is not None:
        to = _say(words, "to", number=one.usage.destination) if one.usage.destination else ""
        time = _clock(one.usage.time_s, catalogue.zone)
        quantity = words.quantity(one.usage.quantity, unit)
        yield _say(words, "event", place=one.usage.place, time=time, quantity=quantity, to=to, amount=amount)
    elif one.closing:
        yield f"{_say(words, 'close')} -> {amount}"
    else:
        yield f"{_say(words, 'percentage', base=words.money(one.event.quantity))} -> {amount}"
    for part in one.rated.parts:
        if part.band:
            start = _clock(part.start_s, catalogue.zone)
            quantity = words.quantity(part.quantity, unit)
            yield "  " + _say(words, "band", band=part.band, start=start, seconds=part.duration_s, quantity=quantity)
        tariff = line.resolved.price.versions[one.rated.version][1]
        before = None
        for entry in part.entries:
            meter = getattr(tariff.steps[entry.step], "meter", "")
            number = "   " if entry.step == before else f"{entry.step + 1}. "  # a rate card also counts increments
            yield f"  {number}" + entry_text(entry, unit, words, meter)
            before = entry.step


def _clock(time_s: int, zone: str) -> str:
    return datetime.fromtimestamp(time_s, UTC).astimezone(zone_of(zone)).isoformat(" ")


def entry_text(entry: reference.Entry, unit: Unit, words: Words, meter: str = "") -> str:
    """One step's doing in words."""

    def shown(steps: int) -> str:
        return words.quantity(steps, unit)

    match entry:
        case reference.Incremented():
            came, left = shown(entry.quantity_in), shown(entry.quantity_out)
            first, following = shown(entry.first), shown(entry.next)
            grace = _say(words, "grace", grace=shown(entry.grace)) if entry.grace else ""
            grace += _say(words, "counted", seen=shown(entry.seen), counted=shown(entry.counted)) if entry.seen else ""
            return _say(words, "Incremented", came=came, left=left, first=first, next=following, grace=grace)
        case reference.Drawn():
            key = "DrawnPool" if entry.pool else "DrawnPromotion" if meter.startswith("promotion ") else "Drawn"
            drawn, left = shown(entry.quantity_in - entry.quantity_out), shown(entry.quantity_out)
            return _say(words, key, pool=entry.pool, allowed=shown(entry.left), drawn=drawn, left=left)
        case reference.Charged():
            prefix = _say(words, "prefix", prefix=entry.prefix or "*") if entry.prefix is not None else ""
            after, before = (total_text(one, unit, words, entry.kind) for one in (entry.after, entry.before))
            charged = words.price(entry.amount_out_micro - entry.amount_in_micro)
            kind = words.say(KINDS[entry.kind])
            return _say(words, "Charged", kind=kind, prefix=prefix, after=after, before=before, charged=charged)
        case reference.Scaled():
            ratio = words.percent(entry.ratio_ppm)
            amount, out = words.price(entry.amount_in_micro), words.price(entry.amount_out_micro)
            return _say(words, "Scaled", amount=amount, ratio=ratio, left=out)
        case reference.Capped():
            numbers = (entry.maximum_micro, entry.running_micro, entry.amount_in_micro, entry.amount_out_micro)
            maximum, running, came, out = (words.price(one) for one in numbers)
            return _say(words, "Capped", maximum=maximum, running=running, came=came, left=out)


def total_text(total: reference.Total, unit: Unit, words: Words, kind: str) -> str:
    """A total as the sum it is: ``(60 s x 2.00 / 60 s + 5.00 = 7.00)``; a bare number where there is nothing to add."""
    value = words.price(reference.total_micro(replace(total, at_least_micro=None, at_most_micro=None)))
    summands = [_term_text(term, unit, words, kind) for term in total.terms if term.quantity]
    summands += [words.price(amount) for amount in (total.flat_micro, total.carried_micro) if amount]
    text = (
        value
        if len(summands) < 2 and not any(" x " in one for one in summands)
        else f"{' + '.join(summands)} = {value}"
    )
    if total.at_least_micro and total.at_least_micro == reference.total_micro(total):
        text = _say(words, "at_least", value=text, bound=words.price(total.at_least_micro))
    if total.at_most_micro is not None and total.at_most_micro == reference.total_micro(total):
        text = _say(words, "at_most", value=text, bound=words.price(total.at_most_micro))
    return f"({text})" if " " in text else text


def _term_text(term: reference.Term, unit: Unit, words: Words, kind: str) -> str:
    if kind == "Percentage":  # minor units times parts of a million
        return f"{words.money(term.quantity)} x {words.percent(term.price_micro)} %"
    if kind == "Package":  # blocks
        return f"{words.count(term.quantity)} x {words.price(term.price_micro)}"
    per = "" if term.per == unit.steps == 1 else f" / {words.quantity(term.per, unit)}"
    return f"{words.quantity(term.quantity, unit)} x {words.price(term.price_micro)}{per}"


def _discount_text(names: Names, promotion: Any, before: int, after: int, words: Words) -> str:
    values = {"name": words.name(names), "before": words.price(before), "after": words.price(after)}
    if promotion.free_period:
        return _say(words, "period_off", **values)
    if promotion.percent_ppm:
        return _say(words, "percent_off", percent=words.percent(promotion.percent_ppm), **values)
    return _say(words, "amount_off", amount=words.price(before - after), **values)


def _part_texts(part: TaxPart, words: Words) -> Iterator[str]:
    yield _say(words, "rounded", mode=_say(words, part.rounding.name), amount=words.money(part.amount))
    if part.tax.rate_ppm:
        percent, whole = (words.percent(ppm) for ppm in (part.tax.rate_ppm, 1_000_000 + part.tax.rate_ppm))
        amount, net, tax, gross = (words.money(one) for one in (part.amount, part.net, part.tax_amount, part.gross))
        key = "inside" if part.tax.inside else "outside"
        yield _say(words, key, percent=percent, whole=whole, amount=amount, tax=tax, net=net, gross=gross)


# ---- JSON


def as_json(
    catalogue: Catalogue, bills: Sequence[Bill], rejected: Sequence[RejectedRow], currency: str, explain: bool
) -> dict[str, Any]:
    """Everything as plain values. Units are in the names; instants are epoch seconds."""
    return {
        "catalogue": catalogue.name,
        "currency": currency,
        "bills": [_bill_json(catalogue, bill, explain) for bill in bills],
        "rejected": [{"file": one.place.file, "line": one.place.line, "reason": one.reason} for one in rejected],
    }


def _bill_json(catalogue: Catalogue, bill: Bill, explain: bool) -> dict[str, Any]:
    return {
        "account": bill.account,
        "period": bill.period.label,
        "net_minor": bill.net,
        "tax_minor": bill.tax,
        "total_minor": bill.total,
        "lines": [_line_json(catalogue, line, explain) for line in bill.lines],
    }


def _line_json(catalogue: Catalogue, line: BillLine, explain: bool) -> dict[str, Any]:
    unit = catalogue.items[line.item].unit
    found: dict[str, Any] = {
        "item": line.item,
        "plan": line.plan,
        "unit": unit.name,
        "unit_decimals": unit.decimals,
        "used_steps": line.used,
        "sum_micro": line.sum_micro,
        "promotions": [
            {"promotion": one.promotion.number, "before_micro": one.before_micro, "after_micro": one.after_micro}
            for one in line.discounts
        ],
        "parts": [
            {
                "tax_ppm": part.tax.rate_ppm,
                "tax_inside": part.tax.inside,
                "rounding": part.rounding.name.lower(),
                "sum_micro": part.sum_micro,
                "discounted_micro": part.discounted_micro,
                "amount_minor": part.amount,
                "net_minor": part.net,
                "tax_minor": part.tax_amount,
                "gross_minor": part.gross,
            }
            for part in line.parts
        ],
        "amount_minor": line.amount,
        "gross_minor": line.gross,
    }
    if explain:
        found["events"] = [_event_json(line, one) for one in line.events]
    return found


def _event_json(line: BillLine, one: RatedEvent) -> dict[str, Any]:
    if reference.recompute(one.rated) != one.rated.amount_micro:
        raise ValueError(f"the derivation of {line.item} does not come to {one.rated.amount_micro} micro")
    version = line.resolved.versions[one.rated.version] if one.rated.version >= 0 else None
    return {
        "file": one.usage.place.file if one.usage else None,
        "line": one.usage.place.line if one.usage else None,
        "closing": one.closing,
        "time_s": one.event.time_s,
        "quantity_steps": one.event.quantity,
        "duration_s": one.event.duration_s,
        "destination": one.event.destination,
        "price_version": str(version.version.place) if version else None,
        "amount_micro": one.rated.amount_micro,
        "parts": [
            {
                "band": part.band,
                "start_s": part.start_s,
                "duration_s": part.duration_s,
                "quantity_steps": part.quantity,
                "amount_micro": part.amount_micro,
                "entries": [{"entry": type(entry).__name__, **asdict(entry)} for entry in part.entries],
            }
            for part in one.rated.parts
        ],
    }


def rated_of_json(event: dict[str, Any]) -> reference.Rated:
    """An event of the JSON back to the judge's record, so that ``recompute`` can be asked about it by anyone."""
    parts = tuple(
        reference.Part(
            part["band"],
            part["start_s"],
            part["duration_s"],
            part["quantity_steps"],
            tuple(_entry_of_json(entry) for entry in part["entries"]),
            part["amount_micro"],
        )
        for part in event["parts"]
    )
    return reference.Rated(event["amount_micro"], parts=parts)


def _entry_of_json(entry: dict[str, Any]) -> reference.Entry:
    values = {name: value for name, value in entry.items() if name != "entry"}
    make: Callable[..., reference.Entry] = getattr(reference, entry["entry"])
    if entry["entry"] == "Charged":
        values |= {name: _total_of_json(values[name]) for name in ("before", "after")}
    return make(**values)


def _total_of_json(total: dict[str, Any]) -> reference.Total:
    return reference.Total(**{**total, "terms": tuple(reference.Term(**term) for term in total["terms"])})
