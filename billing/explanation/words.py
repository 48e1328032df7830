"""The derivation of a billed line in sentences, for a person with a pocket calculator.

Does not know: how a line is computed, where it is shown.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from billing.catalogue.model import (
    Catalogue,
)
from billing.charging.records import NONE
from billing.explanation.records import Explained
from billing.explanation.store import JudgedLine
from billing.invoicing.documents import line_words
from billing.invoicing.invoices import Line
from billing.language import N_
from billing.rating.printout import event_texts, sum_texts
from billing.wording import Words

#: Sentences that only the cycle needs; the others are those of billing.rating.printout.
TEXTS: Final[Mapping[str, str]] = {
    "own": N_("the order's own price: %(price)s"),
    "share": N_("%(price)s x %(quantity)s x %(num)s / %(den)s of the period = %(sum)s"),
    "minimum": N_(
        "minimum %(asked)s x %(num)s / %(den)s of the period = %(target)s, %(had)s charged: %(amount)s missing"
    ),
    "adjustment": N_(
        "%(billed)s billed for %(num)s / %(den)s of the period, %(now_num)s / %(now_den)s was used: %(amount)s"
    ),
    "credited": N_("%(credited)s of it was credited before, so no more than the rest is given back: %(amount)s"),
    "late": N_("%(now)s with the usage that came later, %(before)s without it: %(amount)s"),
    "left": N_("of what was billed %(left)s was not credited before, so no more than that is given back: %(amount)s"),
}


def derivation(line: Line, judged: JudgedLine | None, language: str, currency: str) -> tuple[str, list[str]]:
    """A line's heading and the sentences that derive it; they say where the judge comes to another sum.

    judged: None for a line that nothing derives, written by a person.
    """
    words = Words(language, currency)
    kind = line_words(language, f"kind.{line.kind}")
    name = line.description or (words.name(line.names) if line.names else line.item)
    named = f"{name}, {kind}" if name else kind
    heading = f"{line.line}. {named}: {words.money(line.net + line.tax)}"
    if judged is None:
        return heading, [line_words(language, "by_hand", sum=words.money(line.amount), tax=words.money(line.tax))]
    sentences = [line_words(language, "differs", why=judged.wrong)] if judged.wrong else []
    if judged.explained is not None and judged.catalogue is not None:
        sentences += explain_words(judged.catalogue, judged.explained, words)
    return heading, sentences


def explain_words(catalogue: Catalogue, one: Explained, words: Words) -> Iterator[str]:
    """The derivation in sentences, every number of it.

    Raises:
        ValueError: a derivation does not come to the amount it explains.
    """
    record = one.record
    share = {"num": record.num, "den": record.den}
    if record.part == "late":
        yield from _late_words(catalogue, one, words)
        return
    if one.kind == "minimum":
        target = words.money(one.had_minor + one.amount_minor)
        money = {"asked": one.asked_minor, "had": one.had_minor, "amount": one.amount_minor}
        shown = {name: words.money(amount) for name, amount in money.items()}
        yield words.say(TEXTS["minimum"], target=target, **share, **shown)
    elif one.ahead is not None:
        now = {"now_num": record.num, "now_den": record.den, "num": one.ahead.num, "den": one.ahead.den}
        change = one.ahead.changed_minor(record.num, record.den)
        money = {"billed": one.ahead.amount_minor, "amount": change, "credited": one.ahead.credited_minor}
        shown = {name: words.money(amount) for name, amount in money.items()}
        yield words.say(TEXTS["adjustment"], **now, **shown)
        if change != one.amount_minor:
            yield words.say(TEXTS["credited"], **shown | {"amount": words.money(one.amount_minor)})
    if one.bill is not None:
        yield from event_texts(catalogue, one.bill, words)
    if one.flat_micro != NONE:
        if one.bill is None:
            yield words.say(TEXTS["own"], price=words.price(one.flat_micro))
        price, total = words.price(one.flat_micro), words.price(one.part.sum_micro)
        yield words.say(TEXTS["share"], price=price, quantity=one.quantity, sum=total, **share)
    if one.bill is not None:
        yield from sum_texts(one.bill, words)


def _late_words(catalogue: Catalogue, one: Explained, words: Words) -> Iterator[str]:
    record = one.record
    if one.bill is not None:
        yield from event_texts(catalogue, one.bill, words)
        yield from sum_texts(one.bill, words)
    change = one.asked_minor - one.had_minor
    money = {"now": one.asked_minor, "before": one.had_minor, "amount": change}
    yield words.say(TEXTS["late"], **{name: words.money(amount) for name, amount in money.items()})
    if change != one.amount_minor:
        left = words.money(max(0, record.left[one.kind, one.item, one.part.tax]))
        yield words.say(TEXTS["left"], left=left, amount=words.money(one.amount_minor))
