"""A filter as clauses of MongoDB's query language.

Rules. A query is one or several leads and the rest. A lead is an equality that an index serves in the order of time
(or nothing but the range of time), so that a window of time costs what it holds and no more; the rest is compared with
the documents that a lead finds. The lead is the most selective clause: text, then a sum, a state or kind, a partner.
A pipeline names the lead in a stage of its own: MongoDB's planner merges the two, simpler servers plan by the first.

Does not know: MongoDB's driver, how wide a window is.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from gateway.documents import cut_to_millisecond
from gateway.journal_cursors import MAX_INT64, MILLISECOND, Position
from gateway.journal_search import Filter, SearchTerm, search_terms

Clause = dict[str, Any]
Pipeline = list[dict[str, Any]]

#: Rows of one page at most.
MAX_PAGE: Final = 500
#: Attempts shown with one payment.
MAX_ATTEMPTS_OF_PAYMENT: Final = 100
#: Values of one field, each sought by a query of its own.
MAX_LEADS: Final = 4
#: What lists leave out of a document; `Journal.payment` gives it whole.
NOT_IN_LISTS: Final = {"terms": 0, "timeline": 0, "transfers": 0}
#: The state that nearly every payment ends in: leading with it is worth less than leading with a partner.
_COMMON_STATE: Final = "posted"


@dataclass(frozen=True, slots=True)
class ListKind:
    """What differs between the two lists: collection, its time field, and fields an index leads with, best first."""

    collection: str
    time: str
    equalities: tuple[str, ...]


PAYMENTS: Final = ListKind("payments", "created_at", ("amount", "state", "partner"))
ATTEMPTS: Final = ListKind("attempts", "at", ("amount", "kind", "partner"))


@dataclass(frozen=True, slots=True)
class Query:
    """leads: each finds some of the documents, together all; rest: what must hold for every one of them.

    states, partners: what the leads walk, empty for all: the hours of these are those that a window is measured by.
    """

    list: ListKind
    leads: tuple[Clause, ...]
    rest: tuple[Clause, ...]
    states: tuple[str, ...] = ()
    partners: tuple[str, ...] = ()


def query_of(of: ListKind, wanted: Filter, position: Position | None = None, without: Sequence[int] = ()) -> Query:
    """The query of a list, without its window of time.

    position: rows beyond it alone; without: ids of rows that are shown already.
    """
    fields = _field_clauses(wanted)
    rest: list[Clause] = []
    if position is not None:
        beyond = "$lt" if position.is_forward else "$gt"
        rest.append({"$or": [{of.time: {beyond: position.at}}, {"_id": {beyond: position.id}}]})
    if without:
        rest.append({"_id": {"$nin": list(without)}})
    terms = sorted(search_terms(wanted.text), key=_selectivity)
    if terms:
        first, *others = terms
        checks = [clause for term in others for clause in _term_clauses(term)]
        rest = [*_fragment_clauses(first), *checks, *fields.values(), *rest]
        return Query(of, tuple({"terms": value} for value in first.values), tuple(rest))
    leading = _leading_field(of, wanted, fields)
    values = _values(fields.pop(leading)[leading]) if leading else ()
    leads: tuple[Clause, ...] = tuple({leading: value} for value in values) or ({},)
    states, partners = (values if leading == name else () for name in ("state", "partner"))
    return Query(of, leads, (*fields.values(), *rest), states, partners)


def window_pipelines(query: Query, start: datetime, end: datetime, is_forward: bool, limit: int) -> list[Pipeline]:
    """For each lead: its rows in [start, end), in order, ``limit`` at most (0: all).

    The range is written as an open one, which is the same at BSON's resolution of a millisecond: SecantusDB 0.7.0b3
    loses rows that equal an inclusive bound inside a compound index. The rest stands behind the order: MongoDB moves it
    forward and plans with both; secantusd-rs would merge it with the lead and then walk all rows of the lead, whatever
    the range (1.5 s instead of 1 ms).
    """
    span = {query.list.time: {"$gt": cut_to_millisecond(start) - MILLISECOND, "$lt": cut_to_millisecond(end)}}
    direction = -1 if is_forward else 1
    order = {query.list.time: direction, "_id": direction}
    tail: Pipeline = [{"$sort": order}, *_rest(query.rest)]
    if limit:
        tail.append({"$limit": limit})
    tail.append({"$project": NOT_IN_LISTS})
    return [[{"$match": {**lead, **span}}, *tail] for lead in query.leads]


def exact_pipelines(wanted: Filter) -> list[Pipeline]:
    """Look-ups by payment id and by partner key, without the date range."""
    text = wanted.text.strip()
    rest = list(_field_clauses(wanted).values())
    leads: list[Clause] = [{"key": text}] if text else []
    if text.isascii() and text.isdecimal() and int(text) <= MAX_INT64:
        leads.append({"_id": int(text)})
    return [[*_match(lead, rest), {"$limit": MAX_PAGE}, {"$project": NOT_IN_LISTS}] for lead in leads]


def attempts_of_pipelines(payment_id: int, partner: str, key: str) -> list[Pipeline]:
    """The newest attempts that name a payment by our id, and by its partner's key."""
    newest: Pipeline = [
        {"$sort": {"at": -1, "_id": -1}},
        {"$limit": MAX_ATTEMPTS_OF_PAYMENT},
        {"$project": NOT_IN_LISTS},
    ]
    by_key = [*_match({"key": key}, [{"partner": partner}]), *newest] if key else []
    return [pipeline for pipeline in ([{"$match": {"payment_id": payment_id}}, *newest], by_key) if pipeline]


def _selectivity(term: SearchTerm) -> tuple[int, int]:
    """Fewer documents first: a long number, an exact sum or word, then by length."""
    number = term.fragment if term.fragment.isdecimal() else ""
    return (0 if number else 1 if not term.fragment else 2, -len(term.fragment))


def _term_clauses(term: SearchTerm) -> list[Clause]:
    value = {"terms": term.values[0] if len(term.values) == 1 else {"$in": list(term.values)}}
    return [value, *_fragment_clauses(term)]


def _fragment_clauses(term: SearchTerm) -> list[Clause]:
    return [{"terms": {"$regex": re.escape(term.fragment)}}] if term.fragment else []


def _leading_field(of: ListKind, wanted: Filter, fields: dict[str, Clause]) -> str:
    """The field whose values lead; empty where the range of time leads alone."""
    able = [name for name in of.equalities if name in fields and 0 < len(_values(fields[name][name])) <= MAX_LEADS]
    if _COMMON_STATE in wanted.states and "partner" in able and "amount" not in able:
        return "partner"
    return able[0] if able else ""


def _values(clause: Any) -> tuple[Any, ...]:
    """The values that a field's clause allows, none for a range."""
    if isinstance(clause, dict):
        return tuple(clause.get("$in", ()))
    return (clause,)


def _field_clauses(wanted: Filter) -> dict[str, Clause]:
    """Clauses by field; one allowed value is an equality."""
    clauses: dict[str, Clause] = {}
    for field, values in (
        ("state", wanted.states),
        ("partner", wanted.partners),
        ("kind", wanted.kinds),
        ("reason", wanted.reasons),
    ):
        if values:
            clauses[field] = {field: values[0] if len(set(values)) == 1 else {"$in": sorted(set(values))}}
    if wanted.min_minor is not None or wanted.max_minor is not None:
        low, high = wanted.min_minor, wanted.max_minor
        bounds = {operator: amount for operator, amount in (("$gte", low), ("$lte", high)) if amount is not None}
        clauses["amount"] = {"amount": low if low == high else bounds}
    return clauses


def _match(lead: Clause, rest: Sequence[Clause]) -> Pipeline:
    return [{"$match": lead}, *_rest(rest)]


def _rest(rest: Sequence[Clause]) -> Pipeline:
    if not rest:
        return []
    return [{"$match": rest[0] if len(rest) == 1 else {"$and": list(rest)}}]
