"""A comparison of tariffs in words, in integers, as a picture and as a page.

Rules. The picture is SVG of a fixed size, in integers; text in it and on the page is escaped. A bar is as long as its
share of the tallest one.

Does not know: how things are compared, where its text goes.
"""

from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise
from typing import Any, Final

from billing.simulation.whatif import EDGES, Compared, Paid, Side
from billing.simulation.whatif_run import WhatIf
from kopeck.cli.billing.bill_printout import percent_of, signed
from ratingcore.money import format_minor

_WIDTH: Final = 48
_ITEMS: Final = 20

_CHANGES = ("account", "currency", "before", "after", "change")
_STYLE: Final = (
    "body{font:15px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2733}"
    "table{border-collapse:collapse;margin:.5rem 0 1.5rem}td,th{padding:.2rem .9rem .2rem 0;text-align:right;"
    "border-bottom:1px solid #dde3ea}td:first-child,th:first-child{text-align:left}svg{max-width:100%;height:auto}"
)


def bars_of(compared: Compared) -> list[tuple[str, int]]:
    """(label, accounts) of the histogram, from the largest fall to the largest rise."""
    same = sum(money.same for money in compared.money.values())
    below = [f"{low}..{high} %" for low, high in pairwise(EDGES) if high <= 0]
    above = [f"+{low}..+{high} %" for low, high in pairwise(EDGES) if low >= 0]
    labels = [f"below {EDGES[0]} %", *below, *above, f"above +{EDGES[-1]} %"]
    counted = list(zip(labels, compared.bars, strict=True))
    middle = len(below) + 1
    return [*counted[:middle], ("no change", same), *counted[middle:], ("paid nothing before", compared.from_nothing)]


# ---- words


def whatif_lines(found: WhatIf, draft: str) -> Iterator[str]:
    """What a comparison came to, in words."""
    compared = found.compared
    name = f"{found.in_force.name} version {found.in_force.version}"
    yield f"{found.month.label}: {name} (before) and {draft} (after)"
    yield "periods of orders that ended in the month, whole; without adjustments and lines written by people"
    for currency, money in sorted(compared.money.items()):
        for what, before, after in (
            ("net", money.net_before_minor, money.net_after_minor),
            ("with tax", money.total_before_minor, money.total_after_minor),
        ):
            yield f"{currency} {what}: {_moved(before, after)}"
        yield (
            f"{currency} accounts: {money.accounts}; {money.gain} pay less, {money.lose} pay more, "
            f"{money.same} pay the same"
        )
    yield "change of what an account pays:"
    bars = bars_of(compared)
    most = max(1, *(count for _, count in bars))
    for label, count in bars:
        yield f"  {label:>20} {count:>10}  {'#' * (-(-count * _WIDTH // most))}".rstrip()
    yield from _change_lines(found)
    yield from _side_lines(found, compared.after, "cannot be billed under the draft", "pay before")
    yield from _side_lines(found, compared.before, "cannot be billed under what is in force", "pay after")


def _moved(before: int, after: int) -> str:
    change = after - before
    return f"{format_minor(before)} -> {format_minor(after)}, {signed(change)} ({percent_of(change, before)})"


def _change_lines(found: WhatIf) -> Iterator[str]:
    compared = found.compared
    for title, paid in (("largest rises:", compared.up), ("largest falls:", compared.down)):
        if paid:
            yield title
        for one in paid:
            number = found.numbers.get(one.account_id, str(one.account_id))
            yield f"  {number}: {one.currency} {_moved(one.before_minor, one.after_minor)}"
    moved = _items(compared)
    if moved:
        yield "items that change, net:"
    for currency, item, before, after in moved:
        yield f"  {item or '(minimum)'}: {currency} {_moved(before, after)}"


def _cells(found: WhatIf, one: Paid) -> tuple[str, ...]:
    number = found.numbers.get(one.account_id, str(one.account_id))
    return number, one.currency, format_minor(one.before_minor), format_minor(one.after_minor), signed(one.change_minor)


def _items(compared: Compared) -> list[tuple[str, str, int, int]]:
    """Items whose sums change, the largest change first."""
    rows = [(currency, item, *sums) for (currency, item), sums in compared.items.items() if sums[0] != sums[1]]
    return sorted(rows, key=lambda row: (-abs(row[3] - row[2]), row[:2]))[:_ITEMS]


def _side_lines(found: WhatIf, side: Side, what: str, other: str) -> Iterator[str]:
    if not side.accounts:
        return
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(side.reasons.items()))
    yield f"{side.accounts} accounts {what}, and are left out above: {reasons}"
    for currency, net in sorted(side.other_net_minor.items()):
        yield f"  they {other}: {currency} {format_minor(net)} net"
    for one in side.listed:
        number = found.numbers.get(one.account_id, str(one.account_id))
        order = f" order {one.order_id}" if one.order_id >= 0 else ""
        yield f"  {number}{order}: {one.reason}: {one.detail}"


# ---- integers


def whatif_json(found: WhatIf, draft: str) -> dict[str, Any]:
    """What a comparison came to, in integers."""
    compared = found.compared
    return {
        "period": found.month.label,
        "catalogue": found.in_force.name,
        "version": found.in_force.version,
        "draft": draft,
        "money": {
            currency: {name: getattr(money, name) for name in money.__dataclass_fields__}
            for currency, money in sorted(compared.money.items())
        },
        "histogram": [{"change": label, "accounts": count} for label, count in bars_of(compared)],
        "rises": [_paid_json(found, one) for one in compared.up],
        "falls": [_paid_json(found, one) for one in compared.down],
        "items": [
            {"currency": currency, "item": item, "net_before_minor": before, "net_after_minor": after}
            for (currency, item), (before, after) in sorted(compared.items.items())
        ],
        "unbilled_before": _side_json(found, compared.before),
        "unbilled_after": _side_json(found, compared.after),
        "orders": compared.orders,
        "events": compared.events,
        "took_s": round(found.took_s, 3),
        "worker_seconds": {stage: round(spent, 3) for stage, spent in found.seconds.items()},
    }


def _paid_json(found: WhatIf, one: Paid) -> dict[str, Any]:
    return {
        "account": found.numbers.get(one.account_id, ""),
        "currency": one.currency,
        "before_minor": one.before_minor,
        "after_minor": one.after_minor,
        "change_minor": one.change_minor,
    }


def _side_json(found: WhatIf, side: Side) -> dict[str, Any]:
    return {
        "accounts": side.accounts,
        "reasons": side.reasons,
        "other_net_minor": side.other_net_minor,
        "listed": [
            {
                "account": found.numbers.get(one.account_id, ""),
                "order": one.order_id if one.order_id >= 0 else None,
                "reason": one.reason,
                "detail": one.detail,
            }
            for one in side.listed
        ],
    }


# ---- a picture, a page


def whatif_svg(found: WhatIf, draft: str) -> str:
    """The histogram as SVG: falls green, rises red, in rows from the largest fall to the largest rise."""
    bars = bars_of(found.compared)
    most = max(1, *(count for _, count in bars))
    row_px, left_px, wide_px = 26, 190, 430
    middle = next(place for place, (label, _) in enumerate(bars) if label == "no change")
    height = 58 + row_px * len(bars)
    title = f"{found.month.label}: {found.in_force.name} version {found.in_force.version} and {draft}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="720" height="{height}" viewBox="0 0 720 {height}" role="img" '
        'font-family="sans-serif" font-size="13" fill="#1c2733">',
        f"<title>{escape(title)}</title>",
        f'<rect width="720" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="24" font-size="15">{escape(title)}</text>',
        '<text x="12" y="43" fill="#5a6672">accounts by change of what they pay</text>',
    ]
    for place, (label, count) in enumerate(bars):
        y = 54 + place * row_px
        color = "#8a97a5" if place == middle else "#2e8b57" if place < middle else "#c8553d"
        long = -(-count * wide_px // most)
        parts.append(f'<text x="{left_px - 10}" y="{y + 15}" text-anchor="end">{escape(label)}</text>')
        parts.append(f'<rect x="{left_px}" y="{y + 2}" width="{long}" height="{row_px - 8}" fill="{color}"/>')
        parts.append(f'<text x="{left_px + long + 8}" y="{y + 15}">{count:,}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def whatif_html(found: WhatIf, draft: str) -> str:
    """Everything on one page that needs no other file."""
    compared = found.compared
    title = f"What if: {found.in_force.name}, {found.month.label}"
    money = [
        (f"{currency} {what}", format_minor(before), format_minor(after), signed(after - before),
         percent_of(after - before, before))
        for currency, one in sorted(compared.money.items())
        for what, before, after in (
            ("net", one.net_before_minor, one.net_after_minor),
            ("with tax", one.total_before_minor, one.total_after_minor),
        )
    ]  # fmt: skip
    who = [
        (currency, *(str(count) for count in (one.accounts, one.gain, one.lose, one.same)))
        for currency, one in sorted(compared.money.items())
    ]
    items = [
        (item or "(minimum)", currency, format_minor(before), format_minor(after), signed(after - before))
        for currency, item, before, after in _items(compared)
    ]
    parts = [
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>",
        f"<p>Before: version {found.in_force.version}. After: {escape(draft)}. Periods of orders that ended in the "
        "month, whole; without adjustments and lines written by people.</p>",
        _table("Revenue", ("", "before", "after", "change", ""), money),
        _table("Accounts", ("currency", "all", "pay less", "pay more", "pay the same"), who),
        whatif_svg(found, draft),
        _table("Largest rises", _CHANGES, [_cells(found, one) for one in compared.up]),
        _table("Largest falls", _CHANGES, [_cells(found, one) for one in compared.down]),
        _table("Items that change, net", ("item", "currency", "before", "after", "change"), items),
        *_side_html(found, compared.after, "Cannot be billed under the draft", "pay before"),
        *_side_html(found, compared.before, "Cannot be billed under what is in force", "pay after"),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _side_html(found: WhatIf, side: Side, title: str, other: str) -> Iterator[str]:
    lines = list(_side_lines(found, side, title.lower(), other))
    if lines:
        yield f"<h2>{escape(title)}</h2>"
        yield "".join(f"<p>{escape(line)}</p>" for line in lines)


def _table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in headings)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<h2>{escape(title)}</h2><table><tr>{head}</tr>{body}</table>"
