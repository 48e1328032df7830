"""What stands in the search fields and what it means: the query string to a filter and back.

Rules. Pure: the present instant, the zone and the known partners are arguments. Everything lives in the URL; one
filter has one canonical query string, and parsing that gives the same filter again. What cannot be read keeps its
typed text and gets a message beside its field; then there is no filter at all, never half of one. A list always has
a range of dates, at most `MAX_RANGE_DAYS` long: without one the journal would sort everything it has.

Does not know: HTTP, how the journal finds what the box holds, languages (messages are marked texts).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from billing.language import N_
from gateway.journal.search import MAX_TEXT, MAX_WORDS, Filter, search_terms
from ratingcore.money import Minor, read_typed_sum

PERIODS: Final = ("today", "yesterday", "7d", "30d", "month", "last_month", "year")
DEFAULT_PERIOD: Final = "30d"
MAX_RANGE_DAYS: Final = 366
MAX_CURSOR_CHARS: Final = 200
#: What is told of a place in a list that cannot be read.
BROKEN_PLACE: Final = N_("The link to this page of the list is broken. Start from the newest.")
#: The numbers that messages about fields name.
LIMITS: Final = {"days": MAX_RANGE_DAYS, "chars": MAX_TEXT, "words": MAX_WORDS}

_DATE: Final = re.compile(r"(\d{1,2})[.](\d{1,2})[.](\d{4})", re.ASCII)
_ISO_DATE: Final = re.compile(r"(\d{4})-(\d{2})-(\d{2})", re.ASCII)

Arguments = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Choices:
    """One list's fixed words: which marks (states of payments, kinds of attempts) and partners may be named.

    mark: the name of the field, as in the URL.
    """

    mark: str
    marks: tuple[str, ...]
    partners: tuple[str, ...]
    sums: bool = True


@dataclass(frozen=True, slots=True)
class Form:
    """The fields as typed, and what they mean.

    errors: field -> text key. filter: None while there are errors. period: "" when the dates are the person's own.
    """

    mark: str
    text: str = ""
    period: str = DEFAULT_PERIOD
    start: str = ""
    end: str = ""
    marks: tuple[str, ...] = ()
    partners: tuple[str, ...] = ()
    min: str = ""
    max: str = ""
    after: str = ""
    errors: Mapping[str, str] = field(default_factory=dict)
    filter: Filter | None = None

    @property
    def is_plain(self) -> bool:
        """Nothing was asked for beyond the default."""
        return not (self.text or self.marks or self.partners or self.min or self.max) and self.period == DEFAULT_PERIOD


def parse_form(arguments: Arguments, choices: Choices, now: datetime, zone: ZoneInfo) -> Form:
    """Read the query string of a list."""
    today = now.astimezone(zone).date()
    errors: dict[str, str] = {}
    text = _text(arguments, errors)
    period, typed_start, typed_end, first, last = _days(arguments, today, errors)
    marks = _known(arguments, choices.mark, choices.marks, errors)
    partners = _known(arguments, "partner", choices.partners, errors)
    least, most = _sums(arguments, errors) if choices.sums else (None, None)
    wanted = None
    if not errors:
        wanted = Filter(
            start=midnight(first, zone), end=midnight(last + timedelta(days=1), zone), text=text, partners=partners,
            states=marks if choices.mark == "state" else (), kinds=marks if choices.mark == "kind" else (),
            min_minor=least, max_minor=most,
        )  # fmt: skip
    return Form(
        choices.mark, text, period, typed_start, typed_end, marks, partners,
        _one(arguments, "min") if choices.sums else "", _one(arguments, "max") if choices.sums else "",
        _one(arguments, "after")[:MAX_CURSOR_CHARS], errors, wanted,
    )  # fmt: skip


def query_string(form: Form, **changes: str) -> str:
    """The canonical query of ``form``, without its place in the list unless ``changes`` names one.

    changes: after, or period.
    """
    period = changes.get("period", form.period)
    pairs = [("q", form.text)]
    if period:
        pairs.append(("period", "" if period == DEFAULT_PERIOD else period))
    else:
        pairs += [("from", form.start), ("to", form.end)]
    pairs += [(form.mark, mark) for mark in form.marks]
    pairs += [("partner", code) for code in form.partners]
    pairs += [("min", form.min), ("max", form.max)]
    pairs.append(("after", changes.get("after", "")))
    return urlencode([(name, value) for name, value in pairs if value])


def is_canonical(form: Form, pairs: Iterable[tuple[str, str]]) -> bool:
    """Whether the address already is what ``query_string`` would write for the same place in the list."""
    return urlencode(list(pairs)) == query_string(form, after=form.after)


def typed_date(text: str) -> date | None:
    """31.12.2026 or 2026-12-31; None if there is no such day."""
    if match := _DATE.fullmatch(text):
        parts = (match[3], match[2], match[1])
    elif match := _ISO_DATE.fullmatch(text):
        parts = (match[1], match[2], match[3])
    else:
        return None
    try:
        found = date(int(parts[0]), int(parts[1]), int(parts[2]))
    except ValueError:
        return None
    return found if 2000 <= found.year <= 2200 else None


def period_days(period: str, today: date) -> tuple[date, date]:
    """First and last day of a preset, both included."""
    first_of_month = today.replace(day=1)
    last_of_previous = first_of_month - timedelta(days=1)
    days = {
        "today": (today, today),
        "yesterday": (today - timedelta(days=1), today - timedelta(days=1)),
        "7d": (today - timedelta(days=6), today),
        "30d": (today - timedelta(days=29), today),
        "month": (first_of_month, today),
        "last_month": (last_of_previous.replace(day=1), last_of_previous),
        "year": (today - timedelta(days=MAX_RANGE_DAYS - 1), today),
    }
    return days[period]


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """The first instant of a day of the zone, UTC."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


def written(day: date) -> str:
    """The date as its field shows it."""
    return day.strftime("%d.%m.%Y")


def _days(arguments: Arguments, today: date, errors: dict[str, str]) -> tuple[str, str, str, date, date]:
    """(preset or "", start as shown, end as shown, first day, last day)."""
    preset = _one(arguments, "preset") or _one(arguments, "period")
    typed = (_one(arguments, "from"), _one(arguments, "to"))
    if preset and preset not in PERIODS:
        errors["from"] = N_("There is no such period")
        preset = DEFAULT_PERIOD
    # The button of a preset wins over dates that merely stood in the fields when it was pressed.
    if _one(arguments, "preset") or typed == ("", ""):
        return _preset(preset or DEFAULT_PERIOD, today)
    start, end = typed_date(typed[0]), typed_date(typed[1])
    if typed[0] and start is None:
        errors["from"] = N_("There is no such date. Write dd.mm.yyyy")
    if typed[1] and end is None:
        errors["to"] = N_("There is no such date. Write dd.mm.yyyy")
    if "from" in errors or "to" in errors:
        return "", *typed, today, today
    last = end or max(start or today, today)
    first = start or last - timedelta(days=29)
    if first > last:
        errors["to"] = N_("The end is before the start")
    elif (last - first).days >= MAX_RANGE_DAYS:
        errors["from"] = N_("At most %(days)s days at a time")
    for period in (preset, *PERIODS):
        if period and not errors and (first, last) == period_days(period, today):
            return _preset(period, today)
    return "", written(first) if start else typed[0] or written(first), written(last), first, last


def _preset(period: str, today: date) -> tuple[str, str, str, date, date]:
    first, last = period_days(period, today)
    return period, written(first), written(last), first, last


def _sums(arguments: Arguments, errors: dict[str, str]) -> tuple[Minor | None, Minor | None]:
    found: list[Minor | None] = []
    for name in ("min", "max"):
        text = _one(arguments, name)
        typed = read_typed_sum(text) if text else None
        amount = typed.amount if typed else None
        if text and amount is None:
            errors[name] = N_("This is not an amount. Write 1 234,56")
        found.append(amount)
    least, most = found
    if least is not None and most is not None and least > most:
        errors["max"] = N_("Below the lower bound")
    return least, most


def _known(arguments: Arguments, name: str, known: tuple[str, ...], errors: dict[str, str]) -> tuple[str, ...]:
    named = [value.strip() for value in arguments.get(name, ()) if value.strip()]
    if any(value not in known for value in named):
        errors[name] = N_("There is no such choice")
    return tuple(value for value in known if value in named)


def _text(arguments: Arguments, errors: dict[str, str]) -> str:
    text = " ".join(_one(arguments, "q").replace("№", " ").split())
    try:
        search_terms(text)
    except ValueError:
        errors["q"] = N_("At most %(chars)s characters") if len(text) > MAX_TEXT else N_("At most %(words)s words")
    return text


def _one(arguments: Arguments, name: str) -> str:
    values = arguments.get(name, ())
    return " ".join(values[0].split()) if values else ""
