"""Truths 1 and 2 on a live database: money is whole numbers, and the ledger adds up and cannot be rewritten.

Rules. Nothing is written, locked or repaired, and no snapshot is held for longer than a slice (billing.verify_slices).
A check tells how much it examined: one that examined nothing has proved nothing and says so.

Does not know: payments, the journal, how a report is printed.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from billing.verify_balances import check_balances
from billing.verify_records import MAX_LISTED, Check, check_of, listed
from billing.verify_slices import Say, silent, slices, together
from ratingcore.money import format_minor

#: The role the program runs as (migration 0001).
APP_ROLE: Final = "kopeck_app"


@dataclass(frozen=True, slots=True)
class Guard:
    """What keeps a table's rows: a trigger that refuses these verbs to everybody, and a role that never had them.

    trigger, role: verbs refused by the trigger, and verbs the program's role must not have.
    """

    table: str
    trigger: tuple[str, ...]
    role: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """A trigger by name that lets rows of a table be written only as they must be, and refuses the rest."""

    table: str
    trigger: str


GUARDS: Final = (
    Guard("transfers", ("UPDATE", "DELETE", "TRUNCATE"), ("UPDATE", "DELETE", "TRUNCATE")),
    Guard("manual_postings", ("UPDATE", "DELETE", "TRUNCATE"), ("UPDATE", "DELETE", "TRUNCATE")),
    Guard("accounts", ("DELETE", "TRUNCATE"), ("DELETE", "TRUNCATE")),
)

_MONEY_COLUMNS: Final = r"""
    SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod)
    FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'm', 'v')
      AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY c.relname, a.attnum
"""

_SUMS: Final = "SELECT currency, count(*), sum(balance_minor)::bigint FROM accounts GROUP BY currency ORDER BY currency"

_BROKEN_TRANSFERS: Final = """
    SELECT t.id, t.source, t.source_id, t.step, t.debit_account_id, d.currency, t.credit_account_id, c.currency,
           t.amount_minor, t.currency, m.id IS NULL AS has_no_source, count(*) OVER ()
    FROM transfers t
    LEFT JOIN accounts d ON d.id = t.debit_account_id
    LEFT JOIN accounts c ON c.id = t.credit_account_id
    LEFT JOIN manual_postings m ON t.source = 'manual' AND m.id = t.source_id
    WHERE t.id > %(after)s AND t.id <= %(last)s
      AND (d.id IS NULL OR c.id IS NULL OR d.currency <> t.currency OR c.currency <> t.currency
           OR t.amount_minor <= 0 OR d.id = c.id OR (t.source = 'manual' AND m.id IS NULL))
    ORDER BY t.id LIMIT %(limit)s
"""

_TRIGGERS: Final = """
    SELECT t.tgname, t.tgenabled::text, t.tgtype::int, p.prosrc
    FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE t.tgrelid = to_regclass(%(table)s) AND NOT t.tgisinternal
"""

_ROLE: Final = """
    SELECT r.rolsuper, pg_has_role(r.oid, c.relowner, 'MEMBER')
    FROM pg_roles r, pg_class c
    WHERE r.rolname = %(role)s AND c.oid = to_regclass(%(table)s)
"""

_PRIVILEGE: Final = """
    SELECT has_table_privilege(%(role)s, to_regclass(%(table)s), %(verb)s)
        OR (%(verb)s = 'UPDATE' AND has_any_column_privilege(%(role)s, to_regclass(%(table)s), 'UPDATE'))
"""

_STEP: Final = """
    SELECT t.tgenabled::text, p.prosrc
    FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE t.tgrelid = to_regclass(%(table)s) AND t.tgname = %(trigger)s AND NOT t.tgisinternal
"""

#: Functions that run as their owner, and those that triggers run: a table of the caller's must not deceive them.
_FUNCTIONS: Final = """
    SELECT n.nspname || '.' || p.proname, p.prosecdef,
           (SELECT substr(c, length('search_path=') + 1) FROM unnest(p.proconfig) c WHERE c LIKE 'search_path=%%'),
           has_function_privilege('public', p.oid, 'EXECUTE')
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
      AND (p.prosecdef OR p.prorettype = 'trigger'::regtype)
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
                      AND d.deptype = 'e')
    ORDER BY 1
"""

_SCHEMAS: Final = """
    SELECT nspname FROM pg_namespace
    WHERE nspname NOT IN ('pg_catalog', 'information_schema') AND nspname NOT LIKE 'pg\\_%%'
      AND has_schema_privilege(%(role)s, oid, 'CREATE')
    ORDER BY 1
"""

#: pg_trigger.tgtype: bits of BEFORE and of the verbs (PostgreSQL's catalog/pg_trigger.h).
_BEFORE: Final = 2
_VERB_BITS: Final = {"DELETE": 8, "UPDATE": 16, "TRUNCATE": 32}
_CALLERS: Final = "the caller's"
_INEXACT: Final = ("real", "double precision", "money")
_MONEY_WORDS: Final = ("amount", "balance", "sum", "price", "total", "fee", "minor", "micro")


async def verify_ledger(cur: Any, dsn: str, say: Say = silent) -> list[Check]:
    """Every check of truths 1 and 2.

    Args:
        cur: aiopg cursor, in no transaction.
        dsn: of the same database: transfers are added up over a connection of their own, in columns.

    Raises:
        billing.cycle_link.CycleStoreError: that connection was lost, or refused.
    """
    return [
        await check_money_columns(cur),
        await check_sums(cur),
        await asyncio.to_thread(check_balances, dsn, say),
        await check_transfers(cur, say),
        await check_guards(cur, 2, GUARDS),
        await check_functions(cur),
    ]


async def check_money_columns(cur: Any) -> Check:
    """Truth 1: minor and micro units are bigint, and no column of ours is a float."""
    await cur.execute(_MONEY_COLUMNS)
    examined = 0
    found = []
    for table, column, kind in await cur.fetchall():
        words = column.split("_")
        is_units = "minor" in words or "micro" in words
        examined += is_units
        if is_units and kind != "bigint":
            found.append(f"column {table}.{column} is {kind}, must be bigint")
        elif kind in _INEXACT:
            found.append(f"column {table}.{column} is {kind}: no float in this schema")
        elif kind.startswith("numeric") and any(word in _MONEY_WORDS for word in words):
            found.append(f"column {table}.{column} is {kind}: money is bigint of minor units")
    return check_of(1, "money is bigint of minor units", examined, "columns", found)


async def check_sums(cur: Any) -> Check:
    """Truth 2: over all accounts of a currency the balances sum to zero."""
    await cur.execute(_SUMS)
    rows = await cur.fetchall()
    found = [f"{currency}: {count} balances sum to {format_minor(total)}" for currency, count, total in rows if total]
    return check_of(2, "balances sum to zero in each currency", sum(row[1] for row in rows), "accounts", found)


async def check_transfers(cur: Any, say: Say = silent) -> Check:
    """Truth 2: a transfer moves a positive sum between two accounts that exist, in the currency of both."""
    checks = [Check(2, "each transfer has two accounts in its currency", 0, "transfers")]
    async for after, last in slices(cur, "transfers", say=say):
        examined = await count(cur, f"transfers WHERE id > {after} AND id <= {last}")
        await cur.execute(_BROKEN_TRANSFERS, {"after": after, "last": last, "limit": MAX_LISTED})
        found = await cur.fetchall()
        checks.append(listed(2, checks[0].name, examined, "transfers", found, _transfer_fault))
    return together(checks)


async def check_guards(cur: Any, truth: int, guards: Sequence[Guard]) -> Check:
    """Truths 2 and 4: triggers refuse changes to everybody, and the program's role has no right to them."""
    found: list[str] = []
    for guard in guards:
        found += await _trigger_faults(cur, guard)
        found += await _role_faults(cur, guard)
    name = "rows are append-only by trigger and by role"
    return check_of(truth, name, len(guards), "tables", found)


async def check_steps(cur: Any, truth: int, steps: Sequence[Step]) -> Check:
    """Truth 8: the triggers that let rows be written only in their order stand, are enabled and refuse."""
    found: list[str] = []
    for step in steps:
        await cur.execute(_STEP, {"table": step.table, "trigger": step.trigger})
        row = await cur.fetchone()
        if row is None:
            found.append(f"trigger {step.trigger} on {step.table} does not exist")
        elif row[0] not in ("O", "A"):
            found.append(f"trigger {step.trigger} on {step.table} is disabled")
        elif not ("RAISE EXCEPTION" in row[1].upper() or "NEW." in row[1].upper()):
            found.append(f"trigger {step.trigger} on {step.table} refuses nothing and sets nothing")
    return check_of(truth, "rows are written only in their order", len(steps), "triggers", found)


async def check_functions(cur: Any) -> Check:
    """Truth 2: the program's role can neither become the owner through a function nor deceive a trigger.

    A function of a trigger, or one that runs as its owner, names its search_path, which ends in pg_temp and does not
    begin with the caller's own schema; and the program's role creates nothing in a schema.
    """
    await cur.execute(_FUNCTIONS)
    rows = await cur.fetchall()
    found = []
    for name, is_definer, path, is_public in rows:
        words = [word.strip().strip('"') for word in (path or "").split(",")]
        if words[-1] != "pg_temp":
            found.append(f"function {name} does not look into pg_temp last: its search_path is {path or _CALLERS}")
        elif "$user" in words:
            found.append(f'function {name} looks into "$user": its search_path is {path}')
        if is_definer and is_public:
            found.append(f"function {name} runs as its owner and everybody may call it")
    await cur.execute(_SCHEMAS, {"role": APP_ROLE})
    found += [f"role {APP_ROLE} may create in schema {schema}" for (schema,) in await cur.fetchall()]
    name = "functions of triggers and of the owner look where they must"
    return check_of(2, name, len(rows), "functions", found)


# -- shared with gateway.verify ----------------------------------------------------------------------------------------


async def count(cur: Any, table: str) -> int:
    """Rows of a table of ours (the name is never input)."""
    await cur.execute(f"SELECT count(*) FROM {table}")
    return int((await cur.fetchone())[0])


# -- inside ------------------------------------------------------------------------------------------------------------


def _transfer_fault(row: Sequence[Any]) -> str:
    (transfer, source, source_id, step, debit, debit_currency, credit, credit_currency, amount, currency, orphan) = row[
        :11
    ]
    faults = []
    for side, account, of_account in (("debit", debit, debit_currency), ("credit", credit, credit_currency)):
        if of_account is None:
            faults.append(f"{side} account {account} does not exist")
        elif of_account != currency:
            faults.append(f"{side} account {account} is in {of_account}")
    if amount <= 0:
        faults.append("the sum is not positive")
    if debit == credit:
        faults.append("debit and credit are one account")
    if source == "manual" and orphan:
        faults.append("its manual posting does not exist")
    return f"transfer {transfer} ({source} {source_id} {step}, {format_minor(amount)} {currency}): {'; '.join(faults)}"


async def _trigger_faults(cur: Any, guard: Guard) -> list[str]:
    await cur.execute(_TRIGGERS, {"table": guard.table})
    refused: set[str] = set()
    for _name, enabled, kind, source in await cur.fetchall():
        if enabled in ("O", "A") and kind & _BEFORE and "RAISE EXCEPTION" in source.upper():
            refused |= {verb for verb, bit in _VERB_BITS.items() if kind & bit}
    return [f"no enabled trigger refuses {verb} on {guard.table}" for verb in guard.trigger if verb not in refused]


async def _role_faults(cur: Any, guard: Guard) -> list[str]:
    names = {"role": APP_ROLE, "table": guard.table}
    await cur.execute(_ROLE, names)
    row = await cur.fetchone()
    if row is None:
        return [f"role {APP_ROLE} or table {guard.table} does not exist"]
    faults = []
    if row[0]:
        faults.append(f"role {APP_ROLE} is a superuser")
    if row[1] and not row[0]:
        faults.append(f"role {APP_ROLE} is or belongs to the owner of {guard.table}")
    for verb in guard.role:
        await cur.execute(_PRIVILEGE, {**names, "verb": verb})
        if (await cur.fetchone())[0]:
            faults.append(f"role {APP_ROLE} may {verb} {guard.table}")
    return faults
