"""Customers, accounts, orders and invoices in PostgreSQL by anything a person types.

Rules. Each statement is led by an index and stops at GROUP_ROWS rows or CANDIDATES; what a person typed travels as a
parameter and is compared, never read as a pattern of its own. A right that is limited to legal entities is a condition
of every statement, before its limit. What is shown of a row is what its list shows (billing.listing).

The planner guesses badly how many names hold a part: `limit_search` keeps it on the indexes, and gives a search its
time. A statement over it is cancelled by the server; the caller's transaction is then lost.

Does not know: who asks, pages, payments.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from billing.customers.list_store import CUSTOMER_ROWS
from billing.database.aiopg import quiet_cancels
from billing.database.cursors import Cursor
from billing.database.rows import named_rows
from billing.invoicing.list_store import INVOICE_ROWS
from billing.listing.records import GRAM_CHARS, Between, Condition, ListSource, Match, Question, TextIs
from billing.listing.store import rows_by_key
from billing.orders.list_store import ORDER_ROWS
from billing.search.records import FoundGroup
from billing.search.terms import SearchKind, SearchText

#: Rows of one group.
GROUP_ROWS: Final = 8
#: Rows that are read to choose the best from where an index has no order.
CANDIDATES: Final = 200
#: The same of accounts, most of whose names are those of customers and then left to them.
ACCOUNT_CANDIDATES: Final = 1_000
#: Letters and digits of a beginning: a shorter one finds nearly everything.
BEGINNING_CHARS: Final = 2
PHONE_BEGINNING: Final = 5

CUSTOMER_FIELDS: Final = ("number", "name", "state", "account", "balance", "currency", "phone")
ORDER_FIELDS: Final = ("number", "customer", "customer_number", "account", "plan", "starts", "ends", "state")
INVOICE_FIELDS: Final = (
    "number", "customer", "customer_number", "account", "invoiced", "due", "total", "unpaid", "currency", "state",
)  # fmt: skip

Scope = Sequence[int] | None


async def limit_search(cur: Cursor, timeout_ms: int) -> None:
    """The time of every following statement of this transaction, and how they are planned."""
    quiet_cancels()
    await cur.execute(f"SET LOCAL statement_timeout = {timeout_ms:d}")
    await cur.execute("SET LOCAL enable_seqscan = off")


async def find_customers(cur: Cursor, wanted: SearchText, scope: Scope) -> FoundGroup:
    """Customers by number, account, phone, e-mail, INN or name; ``scope``: legal entities, None: all."""
    search = _Search(cur, wanted, scope, CUSTOMER_ROWS)
    if not wanted.is_amount:
        await search.exact(_CUSTOMERS_EXACT)
        for condition, value in _customer_beginnings(wanted):
            await search.ordered(condition, value, ())
        await search.ordered(_NAME_BEGINS, _like(wanted.folded), (TextIs("name", Match.STARTS, wanted.text),))
        if len(wanted.folded) >= GRAM_CHARS:
            await search.best(_NAME_HOLDS, {"parts": [wanted.folded]}, (TextIs("name", Match.CONTAINS, wanted.text),))
        await search.best(_NAME_WORDS, {}, ())
        if len(wanted.words) > 1 and min(map(len, wanted.words)) >= GRAM_CHARS:
            await search.best(_NAME_HOLDS, {"parts": list(wanted.words)}, ())
    return await search.group(SearchKind.CUSTOMER, CUSTOMER_FIELDS)


async def find_orders(cur: Cursor, wanted: SearchText, scope: Scope) -> FoundGroup:
    """Orders by number, or by # and the id of one that has none."""
    search = _Search(cur, wanted, scope, ORDER_ROWS)
    if not wanted.is_amount:
        await search.exact(_ORDERS_EXACT)
        if len(wanted.text) >= BEGINNING_CHARS:
            text = wanted.text
            await search.ordered(_ORDER_BEGINS, _like(text), (TextIs("number", Match.STARTS, text),))
    return await search.group(SearchKind.ORDER, ORDER_FIELDS)


async def find_invoices(cur: Cursor, wanted: SearchText, scope: Scope) -> FoundGroup:
    """Invoices and credit notes by number, by its digits alone, or by total; those of one total newest first."""
    search = _Search(cur, wanted, scope, INVOICE_ROWS)
    if not wanted.is_amount:
        await search.exact(_INVOICES_EXACT)
        if wanted.number:
            await search.ordered(_INVOICE_DIGITS, str(wanted.number), ())
    if wanted.amount:
        total = Between("total", wanted.amount, wanted.amount)
        await search.ordered(_INVOICE_TOTAL, str(wanted.amount), (total,))
    return await search.group(SearchKind.INVOICE, INVOICE_FIELDS)


async def find_accounts(cur: Cursor, wanted: SearchText, scope: Scope) -> FoundGroup:
    """Accounts by number, and by name those that belong to no customer (others are found by his)."""
    if wanted.is_amount or wanted.is_empty:
        return FoundGroup(SearchKind.ACCOUNT)
    values: dict[str, Any] = {
        "codes": list(wanted.codes), "text": wanted.text, "beginning": _like(wanted.text), "words": list(wanted.words),
        "legal_entities": list(scope or ()), "limit": GROUP_ROWS + 1, "candidates": CANDIDATES,
        "begins": len(wanted.text) >= BEGINNING_CHARS and " " not in wanted.text,
    }  # fmt: skip
    await cur.execute(_ACCOUNTS.replace("{scope}", "true" if scope is None else _ACCOUNT_SCOPE), values)
    rows = await named_rows(cur)
    exact = sum(row["is_exact"] for row in rows[:GROUP_ROWS])
    by_number = (TextIs("account", Match.STARTS, wanted.text),) if values["begins"] else ()
    is_by_number = all(row["customer_number"] for row in rows)
    return FoundGroup(
        SearchKind.ACCOUNT, tuple(rows[:GROUP_ROWS]), exact, len(rows) > GROUP_ROWS, by_number if is_by_number else ()
    )


@dataclass(slots=True)
class _Search:
    """The rows found of one source so far, best first, until there are enough."""

    cur: Cursor
    wanted: SearchText
    scope: Scope
    source: ListSource
    keys: dict[int, None] = field(default_factory=dict)
    exact_count: int = 0
    conditions: tuple[Condition, ...] = ()

    @property
    def is_full(self) -> bool:
        return len(self.keys) > GROUP_ROWS

    async def exact(self, statement: str) -> None:
        """Rows that the text names."""
        values = {
            "codes": list(self.wanted.codes), "phone": self.wanted.phone, "email": self.wanted.email,
            "number": self.wanted.number,
        }  # fmt: skip
        await self._add(statement, values, ())
        self.exact_count = min(len(self.keys), GROUP_ROWS)

    async def ordered(self, statement: str, beginning: str, conditions: tuple[Condition, ...]) -> None:
        """Rows in the order of an index."""
        await self._add(statement, {"beginning": beginning}, conditions)

    async def best(self, statement: str, values: dict[str, Any], conditions: tuple[Condition, ...]) -> None:
        """The best of the first CANDIDATES rows."""
        await self._add(statement, {"words": list(self.wanted.words), **values}, conditions)

    async def group(self, kind: SearchKind, names: Sequence[str]) -> FoundGroup:
        """The rows as their list shows them."""
        keys = [str(key) for key in list(self.keys)[:GROUP_ROWS]]
        if not keys:
            return FoundGroup(kind)
        rows = await rows_by_key(self.cur, self.source, self._question(), keys, names)
        by_key = {row["row_key"]: row for row in rows}
        shown = tuple(by_key[key] for key in keys if key in by_key)
        return FoundGroup(kind, shown, self.exact_count, self.is_full, self.conditions if self.is_full else ())

    async def _add(self, statement: str, values: dict[str, Any], conditions: tuple[Condition, ...]) -> None:
        if self.is_full or self.wanted.is_empty:
            return
        scoped = "true" if self.scope is None else self.source.legal_entity
        values |= {"legal_entities": list(self.scope or ()), "limit": 2 * GROUP_ROWS + 2, "candidates": CANDIDATES}
        values["folded"] = self.wanted.folded
        values["folded_beginning"] = _like(self.wanted.folded)
        await self.cur.execute(statement.replace("{scope}", scoped), values)
        found = [int(row[0]) for row in await self.cur.fetchall()]
        self.keys |= dict.fromkeys(key for key in found if key not in self.keys)
        if self.is_full:
            self.conditions = conditions

    def _question(self) -> Question:
        return Question(legal_entities=None if self.scope is None else tuple(self.scope))


def _customer_beginnings(wanted: SearchText) -> Iterable[tuple[str, str]]:
    if len(wanted.text) >= BEGINNING_CHARS and " " not in wanted.text:
        yield _CUSTOMER_BEGINS, _like(wanted.text)
    if len(wanted.phone) >= PHONE_BEGINNING:
        yield _PHONE_BEGINS, _like(wanted.phone)


def _like(text: str) -> str:
    """A pattern of texts that begin so."""
    return text.translate(_ESCAPED) + "%"


_ESCAPED: Final = str.maketrans({"\\": "\\\\", "%": "\\%", "_": "\\_"})

#: A lead of its own for each index; the conditions of the indexes stand in full, or they are not used.
_CUSTOMERS_EXACT: Final = """
    WITH named AS MATERIALIZED (
        SELECT id FROM customers WHERE number = ANY(%(codes)s::text[])
        UNION SELECT b.customer_id FROM accounts a JOIN billing_accounts b ON b.account_id = a.id
        WHERE a.number = ANY(%(codes)s::text[])
        UNION SELECT id FROM customers
        WHERE %(phone)s <> '' AND search_phone(contacts ->> 'phone') COLLATE "C" = %(phone)s
          AND contacts ->> 'phone' <> ''
        UNION SELECT id FROM customers
        WHERE %(email)s <> '' AND lower(contacts ->> 'email') COLLATE "C" = %(email)s AND contacts ->> 'email' <> ''
        UNION SELECT id FROM customers
        WHERE (details ->> 'inn') COLLATE "C" = ANY(%(codes)s::text[]) AND details ->> 'inn' <> ''
    )
    SELECT c.id FROM customers c WHERE c.id IN (SELECT id FROM named) AND {scope} ORDER BY c.id LIMIT %(limit)s
"""
_CUSTOMER_BEGINS: Final = """
    SELECT c.id FROM customers c WHERE (c.number) COLLATE "C" LIKE %(beginning)s AND {scope}
    ORDER BY (c.number) COLLATE "C", c.id LIMIT %(limit)s
"""
_PHONE_BEGINS: Final = """
    SELECT c.id FROM customers c
    WHERE search_phone(c.contacts ->> 'phone') COLLATE "C" LIKE %(beginning)s AND c.contacts ->> 'phone' <> ''
      AND {scope}
    ORDER BY search_phone(c.contacts ->> 'phone') COLLATE "C" LIMIT %(limit)s
"""
_NAME_BEGINS: Final = """
    SELECT c.id FROM customers c WHERE search_fold(c.name) COLLATE "C" LIKE %(beginning)s AND {scope}
    ORDER BY search_fold(c.name) COLLATE "C", c.id LIMIT %(limit)s
"""
_BEST: Final = """
    SELECT id FROM candidates
    ORDER BY NOT name LIKE %(folded_beginning)s, strpos(name, %(folded)s) = 0, name COLLATE "C", id LIMIT %(limit)s
"""
_NAME_HOLDS: Final = f"""
    WITH candidates AS MATERIALIZED (
        SELECT c.id, search_fold(c.name) AS name FROM customers c
        WHERE search_grams(c.name) @> (
            SELECT array_agg(DISTINCT g.gram) FROM unnest(%(parts)s::text[]) part, unnest(search_grams(part)) g (gram))
          AND NOT EXISTS (SELECT FROM unnest(%(parts)s::text[]) part WHERE strpos(search_fold(c.name), part) = 0)
          AND {{scope}}
        LIMIT %(candidates)s
    ) {_BEST}
"""
#: Every word is one of the name's, or begins one, or is another form of one.
_WORDS_QUERY: Final = """(
    SELECT string_agg('(' || concat_ws(' | ', '''' || word || ''':*',
                                       nullif(plainto_tsquery('russian', word)::text, '')) || ')', ' & ')::tsquery
    FROM unnest(%(words)s::text[]) word)"""
_NAME_WORDS: Final = f"""
    WITH candidates AS MATERIALIZED (
        SELECT c.id, search_fold(c.name) AS name FROM customers c
        WHERE search_words(c.name) @@ {_WORDS_QUERY} AND c.name <> '' AND {{scope}}
        LIMIT %(candidates)s
    ) {_BEST}
"""
_ORDERS_EXACT: Final = """
    SELECT o.id FROM orders o
    WHERE (o.number = ANY(%(codes)s::text[]) OR (o.id = %(number)s::bigint AND o.number IS NULL)) AND {scope}
    ORDER BY o.id LIMIT %(limit)s
"""
_ORDER_BEGINS: Final = """
    SELECT o.id FROM orders o WHERE (coalesce(o.number, '#' || o.id)) COLLATE "C" LIKE %(beginning)s AND {scope}
    ORDER BY (coalesce(o.number, '#' || o.id)) COLLATE "C", o.id LIMIT %(limit)s
"""
_ISSUED: Final = """
    SELECT i.id FROM ({numbers}) n JOIN invoices i ON i.id = n.id
    JOIN invoice_blocks k ON k.id = i.id >> 20 JOIN invoice_series s ON s.id = k.series_id
    WHERE {{scope}} ORDER BY i.id LIMIT %(limit)s
"""
_INVOICES_EXACT: Final = _ISSUED.format(
    numbers="""
        SELECT (nk.id << 20) + (d.digits::bigint - nk.first_number) AS id
        FROM unnest(%(codes)s::text[]) code JOIN invoice_series ns ON starts_with(code, ns.prefix)
        CROSS JOIN LATERAL (SELECT substring(substr(code, length(ns.prefix) + 1) from '^[0-9]{1,18}$') AS digits) d
        JOIN invoice_blocks nk ON nk.series_id = ns.id AND nk.state = 'issued'
         AND d.digits::bigint >= nk.first_number AND d.digits::bigint < nk.first_number + nk.invoices_count
        WHERE d.digits = lpad(ltrim(d.digits, '0'), greatest(ns.digits, length(ltrim(d.digits, '0'))), '0')"""
)
#: The digits of a number without its prefix and zeroes.
_INVOICE_DIGITS: Final = _ISSUED.format(
    numbers="""
        SELECT (nk.id << 20) + (%(beginning)s::bigint - nk.first_number) AS id FROM invoice_blocks nk
        WHERE nk.state = 'issued' AND nk.first_number <= %(beginning)s::bigint
          AND %(beginning)s::bigint < nk.first_number + nk.invoices_count"""
)
_INVOICE_TOTAL: Final = """
    SELECT i.id FROM invoices i JOIN invoice_blocks k ON k.id = i.id >> 20 JOIN invoice_series s ON s.id = k.series_id
    WHERE i.total_minor = %(beginning)s::bigint AND k.state <> 'void' AND {scope}
    ORDER BY i.total_minor DESC, i.id DESC LIMIT %(limit)s
"""
_ACCOUNT_SCOPE: Final = """EXISTS (
    SELECT FROM billing_accounts sb
    WHERE sb.account_id = a.id AND sb.legal_entity_id = ANY(%(legal_entities)s::integer[]))"""
_ACCOUNTS: Final = f"""
    WITH named AS MATERIALIZED (
        SELECT a.id, 0 AS place FROM accounts a WHERE a.number = ANY(%(codes)s::text[]) AND {{scope}}
        UNION ALL
        (SELECT a.id, 1 FROM accounts a
         WHERE %(begins)s AND (a.number) COLLATE "C" LIKE %(beginning)s AND {{scope}}
         ORDER BY (a.number) COLLATE "C" LIMIT %(candidates)s)
        UNION ALL
        (SELECT a.id, 2 FROM (
             SELECT a.id FROM accounts a WHERE search_words(a.name) @@ {_WORDS_QUERY} AND a.name <> '' AND {{scope}}
             LIMIT {ACCOUNT_CANDIDATES}) a
         WHERE NOT EXISTS (SELECT FROM billing_accounts b WHERE b.account_id = a.id) LIMIT %(candidates)s)
    ), best AS (
        SELECT id, min(place) AS place FROM named GROUP BY id
    )
    SELECT a.number, coalesce(nullif(c.name, ''), a.name) AS name, a.balance_minor AS balance, a.currency, a.state,
           coalesce(c.number, '') AS customer_number, best.place = 0 AS is_exact
    FROM best JOIN accounts a ON a.id = best.id JOIN account_kinds k ON k.kind = a.kind
    LEFT JOIN billing_accounts b ON b.account_id = a.id LEFT JOIN customers c ON c.id = b.customer_id
    WHERE NOT k.is_system ORDER BY best.place, a.number COLLATE "C" LIMIT %(limit)s
"""
