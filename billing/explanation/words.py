"""The derivation of a billed line in sentences, Russian and English, for a person with a pocket calculator.

Does not know: how a line is computed, where it is shown.
"""

from collections.abc import Iterator
from typing import Final

from billing.catalogue.model import (
    Catalogue,
)
from billing.charging.records import NONE
from billing.explanation.records import Explained
from billing.rating.printout import event_texts, sum_texts
from billing.wording import Words

#: Sentences that only the cycle needs; the others are those of billing.rating.printout.
TEXTS: Final[dict[str, dict[str, str]]] = {
    "en": {
        "own": "the order's own price: {price}",
        "share": "{price} x {quantity} x {num} / {den} of the period = {sum}",
        "minimum": "minimum {asked} x {num} / {den} of the period = {target}, {had} charged: {amount} missing",
        "adjustment": "{billed} billed for {num} / {den} of the period, {now_num} / {now_den} was used: {amount}",
        "credited": "{credited} of it was credited before, so no more than the rest is given back: {amount}",
        "late": "{now} with the usage that came later, {before} without it: {amount}",
        "left": "of what was billed {left} was not credited before, so no more than that is given back: {amount}",
    },
    "ru": {
        "own": "цена из заказа: {price}",
        "share": "{price} x {quantity} x {num} / {den} периода = {sum}",
        "minimum": "минимум {asked} x {num} / {den} периода = {target}, начислено {had}: не хватает {amount}",
        "adjustment": "за {num} / {den} периода начислено {billed}, использовано {now_num} / {now_den}: {amount}",
        "credited": "из них {credited} уже вернула кредит-нота, поэтому возвращается не больше остатка: {amount}",
        "late": "{now} с поступившими позже событиями, {before} без них: {amount}",
        "left": "кредит-ноты оставили из начисленного {left}, поэтому возвращается не больше этого: {amount}",
    },
}


def explain_words(catalogue: Catalogue, one: Explained, words: Words) -> Iterator[str]:
    """The derivation in sentences, every number of it.

    Raises:
        ValueError: a derivation does not come to the amount it explains.
    """
    texts, record = TEXTS[words.language], one.record
    share = {"num": record.num, "den": record.den}
    if record.part == "late":
        yield from _late_words(catalogue, one, words)
        return
    if one.kind == "minimum":
        target = words.money(one.had_minor + one.amount_minor)
        money = {"asked": one.asked_minor, "had": one.had_minor, "amount": one.amount_minor}
        shown = {name: words.money(amount) for name, amount in money.items()}
        yield texts["minimum"].format(target=target, **share, **shown)
    elif one.ahead is not None:
        now = {"now_num": record.num, "now_den": record.den, "num": one.ahead.num, "den": one.ahead.den}
        change = one.ahead.changed_minor(record.num, record.den)
        money = {"billed": one.ahead.amount_minor, "amount": change, "credited": one.ahead.credited_minor}
        shown = {name: words.money(amount) for name, amount in money.items()}
        yield texts["adjustment"].format(**now, **shown)
        if change != one.amount_minor:
            yield texts["credited"].format(**shown | {"amount": words.money(one.amount_minor)})
    if one.bill is not None:
        yield from event_texts(catalogue, one.bill, words)
    if one.flat_micro != NONE:
        if one.bill is None:
            yield texts["own"].format(price=words.price(one.flat_micro))
        price, total = words.price(one.flat_micro), words.price(one.part.sum_micro)
        yield texts["share"].format(price=price, quantity=one.quantity, sum=total, **share)
    if one.bill is not None:
        yield from sum_texts(one.bill, words)


def _late_words(catalogue: Catalogue, one: Explained, words: Words) -> Iterator[str]:
    texts, record = TEXTS[words.language], one.record
    if one.bill is not None:
        yield from event_texts(catalogue, one.bill, words)
        yield from sum_texts(one.bill, words)
    change = one.asked_minor - one.had_minor
    money = {"now": one.asked_minor, "before": one.had_minor, "amount": change}
    yield texts["late"].format(**{name: words.money(amount) for name, amount in money.items()})
    if change != one.amount_minor:
        left = words.money(max(0, record.left[one.kind, one.item, one.part.tax]))
        yield texts["left"].format(left=left, amount=words.money(one.amount_minor))
