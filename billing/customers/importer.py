"""Many customers from a CSV file, with their accounts, in columns and in one transaction.

Rules. A line means what ``kopeck customer add`` with the same words means, under the same rules
(customers.rules). A number acts once: the first line of a number counts, the very same customer again
is nothing new, another under the same number is a bad line. A parent may stand anywhere in the file. A child of a
bad line is bad as well. The tree of customers is locked from the first statement on. What was added is one entry of the
audit record; the file is the record of each.

Does not know: the command line.
"""

from typing import IO, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from billing.customers.import_store import (
    add_customers,
    lines_with_parents,
    prepare,
    record_import,
    set_aside_circular,
    set_aside_known,
    set_aside_without_parent,
)
from billing.customers.records import NewCustomer
from billing.customers.rules import CONTACTS, DETAILS, MAX_TEXT, CustomerError, problem_with_customer
from billing.database.adbc import import_connection
from billing.database.cursors import ColumnConnection
from billing.files.tables import (
    BadLine,
    How,
    Ints,
    Loaded,
    Problems,
    Steps,
    TablePart,
    Target,
    coded,
    each,
    load_file,
    unprintable,
    whole_number,
    yes_or_no,
)
from billing.ledger.accounts import NAME_MAX

COLUMNS: Final = (
    *("number", "name", "group", "parent", "parent_pays", "language", *CONTACTS, *DETAILS),
    *("account", "kind", "currency", "zone", "legal_entity", "due_days"),
)
NEEDED: Final = ("number",)

_NONE: Final = NewCustomer("")
_NUMBER: Final = r"^[0-9A-Za-z._@+-]{1,64}$"
_ACCOUNT: Final = r"^[0-9A-Za-z._@+-]{1,30}$"


def import_customers(dsn: str, source: IO[bytes], how: How, actor: str, file_name: str = "") -> Loaded:
    """Load the customers of a file; actor and file_name: as on the audit record.

    Raises:
        ImportFileError: the file as a whole is wrong. ImportStoreError: the database refused. Nothing is kept then.
    """
    with import_connection(dsn) as opened:
        prepare(opened)

        def add(loaded: Loaded) -> None:
            add_customers(opened)
            if loaded.added:
                record_import(opened, actor, {"file": file_name, "lines": loaded.lines, "added": loaded.added})

        target = Target(COLUMNS, NEEDED, "import_texts", "import_customers")
        return load_file(opened, source, target, Steps(_judge, lambda: _check(opened), add), how)


def _check(opened: ColumnConnection) -> None:
    """Set aside what the database says is no new customer, and lines that are their own parents or below such."""
    set_aside_known(opened)
    lines, parents = lines_with_parents(opened)
    set_aside_circular(opened, lines[below_circles(lines, parents)])
    set_aside_without_parent(opened)


def below_circles(children: Ints, parents: Ints) -> Any:
    """Rows (child, parent) whose way up never ends. Each step goes twice as far, so depth costs its logarithm."""
    order = np.argsort(children)
    place = np.searchsorted(children[order], parents)
    place = np.minimum(place, max(len(children) - 1, 0))
    is_child = children[order][place] == parents if len(children) else np.zeros(0, np.bool_)
    above = np.where(is_child, order[place], -1) if len(children) else np.zeros(0, np.int64)
    for _ in range(len(children).bit_length() + 1):
        above = np.where(above >= 0, above[above], -1)
    return above >= 0


def _judge(part: TablePart) -> tuple[pa.Table, list[BadLine]]:
    """Rows for the staging table, and lines that are no customer."""
    texts, problems = part.texts, Problems()
    account = pc.if_else(pc.equal(texts["account"], ""), texts["number"], texts["account"])
    numbers = ((texts["number"], _NUMBER, "customer number", 64), (account, _ACCOUNT, "account number", 30))
    for column, pattern, what, longest in numbers:
        wrong = pc.invert(pc.match_substring_regex(column, pattern))
        problems.add(wrong, f"the {what} must be 1 to {longest} letters, digits or ._@+-")
    for name, longest in (("name", NAME_MAX), *((name, MAX_TEXT) for name in (*CONTACTS, *DETAILS))):
        problems.add(unprintable(texts[name], longest), f"{name} must be printable and at most {longest} characters")
    problems.add(pc.and_(pc.equal(texts["parent"], texts["number"]), pc.not_equal(texts["number"], "")), _OWN_PARENT)
    facts = each([coded(texts[name]) for name in _WORDS], _facts, _NONE, problems, "")
    pays = _column(facts.codes, [new.parent_pays for new in facts.values], pa.bool_())
    problems.add(pc.and_(pays, pc.equal(texts["parent"], "")), "there is no parent who could pay")
    words = {
        name: _column(facts.codes, [getattr(new, name) for new in facts.values], pa.string())
        for name in ("language", "kind", "currency", "zone", "legal_entity")
    }
    staged = pa.table(
        {
            "line": part.lines,
            **{name: texts[name] for name in ("number", "name", "parent", *CONTACTS, *DETAILS)},
            "grp": texts["group"],
            "pays": pays,
            "account": account,
            **words,
            "due_days": _column(facts.codes, [new.due_days for new in facts.values], pa.int64()),
        }
    )
    good = problems.good(len(part.lines))
    return (staged if good.all() else staged.filter(pa.array(good))), problems.lines(part)


_OWN_PARENT: Final = "a customer cannot be its own parent"
_WORDS: Final = ("group", "parent_pays", "language", "kind", "currency", "zone", "legal_entity", "due_days")


def _column(codes: Ints, values: list[Any], kind: pa.DataType) -> pa.Array:
    return pa.array(values, kind).take(pa.array(codes))


def _facts(*said: str) -> NewCustomer:
    """What few words say for many customers, with the defaults put in."""
    group, pays, language, kind, currency, zone, legal_entity, due_days = said
    new = NewCustomer(
        "x",
        group=group,
        parent="y",
        parent_pays=yes_or_no(pays),
        language=language or _NONE.language,
        kind=kind or _NONE.kind,
        currency=currency or _NONE.currency,
        zone=zone or _NONE.zone,
        legal_entity=legal_entity or _NONE.legal_entity,
        due_days=whole_number(due_days, _NONE.due_days),
    )
    problem = problem_with_customer(new)
    if problem:
        raise CustomerError(problem)
    return new
