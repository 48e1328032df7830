"""How the journal's server runs the queries of a page: what `explain` says of each, for tests."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.journal import Journal
from gateway.journal_clauses import (
    ATTEMPTS,
    PAYMENTS,
    ListKind,
    Pipeline,
    attempts_of_pipelines,
    exact_pipelines,
    query_of,
    window_pipelines,
)
from gateway.journal_cursors import parse_cursor
from gateway.journal_search import Filter


@dataclass(frozen=True, slots=True)
class Plan:
    """How MongoDB runs one query: its stages, the indexes it walks, documents looked at and returned."""

    query: str
    stages: frozenset[str]
    indexes: frozenset[str]
    examined: int
    returned: int


async def explain_payments(journal: Journal, wanted: Filter, after: str | None = None) -> list[Plan]:
    """Each query behind a page of payments, the payment's own page included; the list's in one window."""
    queries = [("list", pipeline) for pipeline in list_pipelines(PAYMENTS, wanted, after)]
    queries += [("one", [{"$match": {"_id": 1}}])]
    queries += [("exact", pipeline) for pipeline in exact_pipelines(wanted)]
    return [await explain(journal, PAYMENTS, name, pipeline) for name, pipeline in queries]


async def explain_attempts(journal: Journal, wanted: Filter) -> list[Plan]:
    """The same for a page of attempts, with those that a payment's page shows."""
    queries = [("list", pipeline) for pipeline in list_pipelines(ATTEMPTS, wanted, None)]
    queries += [("of payment", pipeline) for pipeline in attempts_of_pipelines(1, "-", "-")]
    return [await explain(journal, ATTEMPTS, name, pipeline) for name, pipeline in queries]


def list_pipelines(of: ListKind, wanted: Filter, after: str | None) -> list[Pipeline]:
    query = query_of(of, wanted, parse_cursor(after) if after else None)
    return window_pipelines(query, wanted.start, wanted.end, True, 51)


async def explain(journal: Journal, of: ListKind, query: str, pipeline: Pipeline) -> Plan:
    aggregate = {"aggregate": of.collection, "pipeline": pipeline, "cursor": {}}
    reply = await journal._db.command({"explain": aggregate, "verbosity": "executionStats"})
    stages: set[str] = set()
    indexes: set[str] = set()
    examined = returned = 0
    for source in _planners(reply):
        _walk(source["queryPlanner"]["winningPlan"], stages, indexes)
        statistics = source.get("executionStats", {})
        examined += int(statistics.get("totalDocsExamined", 0))
        returned += int(statistics.get("nReturned", 0))
    return Plan(query, frozenset(stages), frozenset(indexes), examined, returned)


def _planners(reply: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Where the reply holds its plans: at its top, or in its first $cursor stage."""
    if "queryPlanner" in reply:
        return [reply]
    return [stage["$cursor"] for stage in reply["stages"] if "$cursor" in stage]


def _walk(node: Any, stages: set[str], indexes: set[str]) -> None:
    if isinstance(node, Mapping):
        if isinstance(node.get("stage"), str):
            stages.add(node["stage"])
        if isinstance(node.get("indexName"), str):
            indexes.add(node["indexName"])
        for child in node.values():
            _walk(child, stages, indexes)
    elif isinstance(node, list):
        for child in node:
            _walk(child, stages, indexes)
