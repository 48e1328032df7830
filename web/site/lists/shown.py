"""A list as its page shows it: headings, filters, what is set, how many rows, addresses of its neighbours. In words.

Rules. Pure: what was read is an argument. Each filter that is set is told in words with the address of the list without
it, so that one is taken away without looking for its field. A number of rows that is estimated says so.

Does not know: HTML, how cells are written (templates/list.html).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlencode

from billing.language import N_, Language
from billing.listing.places import place_text
from billing.listing.records import Count, Match, Rows, Search
from web.site.columns import Column
from web.site.filters import PERIODS
from web.site.lists.declaration import Kind, ListColumn
from web.site.lists.request import ListRequest, matches_of

MATCH_WORDS: Final = {
    Match.CONTAINS: N_("contains"),
    Match.STARTS: N_("begins with"),
    Match.EQUALS: N_("is exactly"),
}
PERIOD_WORDS: Final = {
    "today": N_("Today"),
    "yesterday": N_("Yesterday"),
    "7d": N_("7 days"),
    "30d": N_("30 days"),
    "month": N_("This month"),
    "last_month": N_("Last month"),
    "year": N_("Year"),
}
assert tuple(PERIOD_WORDS) == PERIODS
_HEADING_KINDS: Final = {
    Kind.TEXT: "text", Kind.CODE: "text", Kind.NUMBER: "number", Kind.MONEY: "money", Kind.SUMS: "money",
    Kind.DATE: "time", Kind.INSTANT: "time", Kind.STATE: "mark",
}  # fmt: skip

ColumnOptions = Mapping[str, Sequence[tuple[str, str]]]


@dataclass(frozen=True, slots=True)
class ShownFilter:
    """The filter of one column.

    shape: text, choice, bounds, days. options: (value, words) of a choice, or of how a text is compared where there is
    more than one way. has_empty: a row may have none. is_set: by the address.
    """

    column: ListColumn
    title: str
    shape: str
    options: tuple[tuple[str, str], ...]
    has_empty: bool
    is_set: bool


@dataclass(frozen=True, slots=True)
class SetFilter:
    """What is set of one column, in words, and the address of the list without it."""

    title: str
    text: str
    without: str


@dataclass(frozen=True, slots=True)
class Found:
    """How many rows there are, in words. exact: the address that counts them all, empty where they were counted.
    sums: (minor units, currency)."""

    text: str
    where: str
    exact: str
    sums: tuple[tuple[int, str], ...]
    is_exact: bool


def headings(request: ListRequest, language: Language) -> dict[str, Column]:
    """The columns of the table, those that order it with the address that does."""
    shown: dict[str, Column] = {}
    by_name, fields = request.listing.by_name, request.listing.source.fields
    places = _places(request)
    for name in request.columns:
        column = by_name[name]
        sort = sorted_ = ""
        if fields[name].is_ordered:
            is_now = request.order.removeprefix("-") == name
            is_down = request.order.startswith("-")
            sorted_ = ("descending" if is_down else "ascending") if is_now else ""
            # The first press puts what is most asked for first: a name from its beginning, all else from the greatest.
            ascending = not is_down if is_now else column.kind not in (Kind.TEXT, Kind.CODE)
            sort = request.address(sort=f"-{name}" if ascending else name)
        title = language.gettext(column.title)
        shown[name] = Column(title, _HEADING_KINDS[column.kind], places[name], sort, sorted_)
    return shown


def _places(request: ListRequest) -> dict[str, str]:
    """Where each column stands on a card. The first column is its title where no other says so."""
    places = {name: request.listing.by_name[name].place for name in request.columns}
    if "title" not in places.values():
        places[request.columns[0]] = "title"
    for only in ("title", "figure", "under", "mark"):  # one of each; a further one is a line
        taken = [name for name, place in places.items() if place == only]
        places |= dict.fromkeys(taken[1:], "line")
    return places


def filters_of(request: ListRequest, options: ColumnOptions, language: Language) -> list[ShownFilter]:
    """The filters of all columns that have one, in the order of the list."""
    shown = []
    for column in request.listing.columns:
        known = request.listing.source.fields[column.name]
        is_set = any(parameter.partition(".")[0] == column.name for parameter in request.typed)
        title = language.gettext(column.title)
        shape, words = "", tuple[tuple[str, str], ...]()
        match known.search:
            case Search.WORDS | Search.CODE:
                shape, allowed = "text", matches_of(known)
                if len(allowed) > 1:
                    words = tuple((match.value, language.gettext(MATCH_WORDS[match])) for match in allowed)
            case Search.CHOICE:
                shape, words = "choice", choices_of(column, options, language)
            case Search.RANGE:
                shape = "days" if column.kind in (Kind.DATE, Kind.INSTANT) else "bounds"
        if shape:
            shown.append(ShownFilter(column, title, shape, words, known.is_null, is_set))
    return shown


def choices_of(column: ListColumn, options: ColumnOptions, language: Language) -> tuple[tuple[str, str], ...]:
    """(value, words) of a column that is chosen from."""
    worded = [(code, language.gettext(words)) for code, words in column.words.items()]
    return tuple(worded + [(value, label) for value, label in options.get(column.name, ())])


def set_filters(request: ListRequest, options: ColumnOptions, language: Language) -> list[SetFilter]:
    """What the address asks for, a column each, in words."""
    shown = []
    for filter_ in filters_of(request, options, language):
        if not filter_.is_set:
            continue
        name = filter_.column.name
        typed = {key: value for key, value in request.typed.items() if key.partition(".")[0] != name}
        without = replace(request, typed=typed).address()
        shown.append(SetFilter(filter_.title, _told(request, filter_, language), without))
    return shown


def _told(request: ListRequest, filter_: ShownFilter, language: Language) -> str:
    _, name = language.gettext, filter_.column.name
    parts = []
    match filter_.shape:
        case "text" if request.one(name):
            match_ = request.one(f"{name}.match") or (filter_.options[0][0] if filter_.options else "equals")
            parts.append(f"{_(MATCH_WORDS[Match(match_)])} “{request.one(name)}”")
        case "choice" if name in request.typed:
            words = dict(filter_.options)
            parts.append(", ".join(words.get(value, value) for value in request.typed[name]))
        case "bounds":
            least, most = request.one(f"{name}.min"), request.one(f"{name}.max")
            parts += [_("from %(least)s", least=least)] if least else []
            parts += [_("up to %(most)s", most=most)] if most else []
        case "days":
            period = request.one(f"{name}.period")
            first, last = request.days.get(name, ("", ""))
            if period:
                parts.append(_(PERIOD_WORDS[period]))
            else:
                parts += [_("from %(least)s", least=first)] if first else []
                parts += [_("up to %(most)s", most=last)] if last else []
    emptiness = request.one(f"{name}.is")
    if emptiness:
        parts.append(_("empty") if emptiness == "empty" else _("not empty"))
    return ", ".join(parts)


def found(request: ListRequest, rows: Rows, count: Count, language: Language) -> Found:
    """How many rows there are, and which of them are shown."""
    _, figures = language.gettext, language.formats.count
    first, last = rows.first + 1, rows.first + len(rows.rows)
    total = max(count.rows, last)
    if rows.next is None and rows.rows and not count.is_exact:  # the end was reached: it is known after all
        count = replace(count, rows=last, is_exact=True)
        total = last
    shown = f"{figures(first)}–{figures(last)}" if rows.rows else ""
    text = request.listing.noun(language, total)
    if count.is_exact:
        where = _("%(shown)s of %(total)s", shown=shown, total=figures(total)) if shown else ""
    else:
        text = _("about %(text)s, an estimate", text=text)
        where = _("%(shown)s of about %(total)s", shown=shown, total=figures(total)) if shown else ""
    sums = tuple((amount, currency) for currency, amount in (count.sums or {}).items())
    is_added_up = count.is_exact and (count.sums is not None or request.listing.source.sums is None)
    exact = "" if is_added_up else request.address(count="exact")
    return Found(text, where, exact, sums, count.is_exact)


def neighbours(request: ListRequest, rows: Rows) -> tuple[str, str, str]:
    """Addresses of the page before, of the one after and of the first; empty where there is none."""
    assert request.question is not None
    name = request.listing.source.name
    before, after = (
        request.address(place=place_text(place, name, request.question)) if place is not None else ""
        for place in (rows.previous, rows.next)
    )
    return before, after, request.address() if request.place else ""


def without_unknown(request: ListRequest, pairs: Sequence[tuple[str, str]]) -> str:
    """The address as it was asked for, less the parameters that the list does not know."""
    kept = [(name, value) for name, value in pairs if name not in request.unknown]
    return f"{request.listing.path}?{urlencode(kept)}" if kept else request.listing.path
