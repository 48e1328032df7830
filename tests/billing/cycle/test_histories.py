"""Two years of random lives, billed by the program and by the judge: the same to the kopeck, run by run.

The short form has a few customers over the change of the tax rate; `make sim` runs five hundred over two years.
"""

import asyncio
import random
from collections import Counter
from contextlib import asynccontextmanager
from datetime import date, timedelta

import aiopg
import pytest

from billing.catalogue.store import Source, save_version
from billing.cycle import run as cycle_run
from billing.cycle.plan import NewRun
from billing.cycle.shard import ShardJob, ShardWorker
from billing.verification.cycle import verify_cycle
from billing.verification.ledger import verify_ledger
from billing.verification.usage import verify_usage
from tests.billing.cycle.histories import CATALOGUE, History, LateHistory, with_connection
from tests.billing.cycle.judge import Bill, Book, Line, Record, bill, note

#: Few, so that there are several shards however few customers there are.
SHARD_PAYERS = 7

_LINES = """
    SELECT i.account_id, coalesce(l.order_id, 0), l.kind, l.item, extract(epoch FROM l.period_start)::bigint,
           extract(epoch FROM l.period_end)::bigint, l.quantity, l.discount_minor, l.amount_minor, l.tax_ppm,
           l.tax_inside, l.net_minor, l.tax_minor
    FROM invoice_blocks b JOIN invoices i ON i.id >> 20 = b.id JOIN invoice_lines l ON l.invoice_id = i.id
    WHERE b.run_id = %s
    ORDER BY i.account_id, l.line
"""

_RECORDS = """
    SELECT order_id, part, extract(epoch FROM period_start)::bigint, extract(epoch FROM period_end)::bigint, outcome,
           active_num, active_den, amount_minor
    FROM order_periods WHERE run_id = %s
"""

_FAILURES = """
    SELECT payer_account_id, coalesce(order_id, 0), coalesce(extract(epoch FROM period_start)::bigint, 0),
           coalesce(part, '')
    FROM bill_failures WHERE run_id = %s
"""


@asynccontextmanager
async def transaction(dsn):
    connection = await aiopg.connect(dsn)
    try:
        cur = await connection.cursor()
        await cur.execute("BEGIN")
        yield cur
        await cur.execute("COMMIT")
    finally:
        await connection.close()


def load(dsn, tariffs):
    """The catalogue as it is now becomes the next version."""

    async def story():
        async with transaction(dsn) as cur:
            source = Source(CATALOGUE.name, {CATALOGUE.name: tariffs.text().encode()})
            await save_version(cur, source, tariffs.read(), "sim")

    asyncio.run(story())


def run_program(dsn, bill_on, how="post"):
    """A run by the program, in this process; a review is approved, or voided before a run that posts."""
    run_id = work_off(dsn, cycle_run.start_run(dsn, NewRun(bill_on, how.split()[0], "sim", shard_payers=SHARD_PAYERS)))
    if how == "post":
        return run_id
    if how == "review and void":
        cycle_run.void_review(dsn, run_id)
        return run_program(dsn, bill_on)
    cycle_run.approve(dsn, run_id, "sim")
    return work_off(dsn, run_id)


def work_off(dsn, run_id):
    """Do what is to be done of a run now."""
    worker = ShardWorker(ShardJob(dsn, run_id))
    with with_connection(dsn) as connection, connection.cursor() as cur:
        cur.execute("SELECT shard_no FROM bill_shards WHERE run_id = %s ORDER BY 1", (run_id,))
        shards = [shard_no for (shard_no,) in cur.fetchall()]
    for shard_no in shards:
        done = worker.do(shard_no)
        assert done.state in ("posted", "drafted"), done.why
    worker.close()
    outcome = cycle_run.go_on(dsn, run_id, cycle_run.Crew(1))
    assert outcome.summary.state in ("done", "reviewed")
    return run_id


def read_bill(dsn, run_id):
    """What the program wrote, as the judge would say it."""
    found = Bill()
    with with_connection(dsn) as connection, connection.cursor() as cur:
        cur.execute(_LINES, (run_id,))
        for account, *line in cur.fetchall():
            found.invoices.setdefault(account, []).append(shown(Line(*line)))
        cur.execute(_RECORDS, (run_id,))
        found.records = [Record(*row) for row in cur.fetchall()]
        cur.execute(_FAILURES, (run_id,))
        found.failures = set(cur.fetchall())
    return found


def shown(line):
    """A line without what the rules leave open."""
    is_open = line.kind == "manual" or (line.kind == "adjustment" and line.end <= line.start)
    return line._replace(start=0, end=0) if is_open else line


def differences(program, judge):
    """Every difference as a sentence."""
    found = [
        f"payer {payer}: program {one} judge {other}"
        for payer in sorted(program.invoices.keys() | judge.invoices.keys())
        for one, other in unequal(program.invoices.get(payer, []), judge.invoices.get(payer, []))
    ]
    ours, theirs = set(program.records), set(judge.records)
    found += [f"only the program records {one}" for one in sorted(ours - theirs)]
    found += [f"only the judge records {one}" for one in sorted(theirs - ours)]
    found += [f"only the program fails {one}" for one in sorted(program.failures - judge.failures)]
    found += [f"only the judge fails {one}" for one in sorted(judge.failures - program.failures)]
    return found


def unequal(ours, theirs):
    theirs = [shown(line) for line in theirs]
    length = max(len(ours), len(theirs))
    pairs = zip(ours + [None] * (length - len(ours)), theirs + [None] * (length - len(theirs)), strict=True)
    return [pair for pair in pairs if pair[0] != pair[1]]


def live(database, customers, seed, runs, lived=History):
    """A history through these run dates, compared after each; returns how many lines there were of each kind."""
    history = lived(database.dsn, customers, seed)
    book, kinds = Book(), Counter()
    load(database.dsn, history.tariffs)
    catalogue = history.tariffs.read()
    before = runs[0] - timedelta(days=30)
    history.begin(before)
    try:
        for bill_on in runs:
            history.live(before, bill_on, book)
            if history.dice.random() < 0.3:
                history.tariffs.change(history.dice, bill_on)
                load(database.dsn, history.tariffs)
                catalogue = history.tariffs.read()
            judged = bill(history.world(), catalogue, bill_on, book)
            how = history.dice.choice(("post", "post", "post", "review", "review and void"))
            billed = read_bill(database.dsn, run_program(database.dsn, bill_on, how))
            found = differences(billed, judged)
            assert not found, f"seed {seed}, run of {bill_on}, {len(found)} differences:\n" + "\n".join(found[:20])
            note(book, judged)
            kinds.update(line.kind for lines in judged.invoices.values() for line in lines)
            kinds["left"] += len(judged.failures)
            before = bill_on
        kinds["mended"] = history.mended
    finally:
        history.close()
    return kinds


def run_dates(first, last, seed):
    """The first of every month, but for some that are missed, and every day around New Year."""
    dice = random.Random(seed)
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    return [
        day
        for day in days
        if (day.day == 1 and dice.random() > 0.12) or (day.month, day.day) in ((12, 30), (12, 31), (1, 1), (1, 2))
    ]


#: Lines charged in advance of which notes and adjustments together gave back more than there was, or less than nothing.
_GIVEN_BACK_WRONG = """
    WITH ahead AS (
        SELECT p.order_id, p.period_start, p.period_end, l.invoice_id, l.line, l.item, l.amount_minor
        FROM order_periods p JOIN invoice_lines l ON l.invoice_id = p.invoice_id AND l.order_id = p.order_id
        WHERE p.part = 'advance' AND l.kind IN ('recurring', 'percentage') AND l.period_start >= p.period_start
          AND l.period_start < p.period_end
    ), off AS (
        SELECT a.*, (SELECT coalesce(sum(c.amount_minor), 0) FROM invoices n JOIN invoice_lines c ON c.invoice_id = n.id
                     WHERE n.corrects_id = a.invoice_id AND c.line = a.line) AS noted,
               (SELECT coalesce(sum(j.amount_minor + (
                           SELECT coalesce(sum(c.amount_minor), 0) FROM invoices n
                           JOIN invoice_lines c ON c.invoice_id = n.id AND c.line = j.line
                           WHERE n.corrects_id = j.invoice_id)), 0)
                FROM invoice_lines j
                WHERE j.kind = 'adjustment' AND j.order_id = a.order_id AND j.item = a.item
                  AND j.period_start >= a.period_start AND j.period_start < a.period_end
                  AND j.amount_minor * a.amount_minor < 0) AS adjusted
        FROM ahead a
    )
    SELECT * FROM off WHERE abs(noted + adjusted) > abs(amount_minor) OR (noted + adjusted) * amount_minor > 0
"""


def given_back_wrong(dsn):
    with with_connection(dsn) as connection, connection.cursor() as cur:
        cur.execute("SELECT count(*) FROM credit_notes")
        assert cur.fetchone()[0] > 3
        cur.execute(_GIVEN_BACK_WRONG)
        return cur.fetchall()


def found_by_verify(dsn, lines):
    """What the checks of `kopeck verify` find wrong. lines: how many are computed again; None: all."""

    async def story():
        async with transaction(dsn) as cur:
            checks = [*await verify_ledger(cur, dsn), *await verify_usage(cur), *await verify_cycle(cur, lines)]
        assert sum(check.examined for check in checks) > 0
        return [finding for check in checks for finding in check.findings]

    return asyncio.run(story())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_few_lives_are_billed_as_the_judge_bills_them(database, seed):
    kinds = live(database, 12, seed, run_dates(date(2025, 11, 1), date(2026, 3, 1), seed))
    assert kinds["recurring"] > 20
    assert kinds["usage"] > 20
    assert kinds["mended"] > 0
    assert found_by_verify(database.dsn, None) == []
    assert given_back_wrong(database.dsn) == []


#: Top-ups that late usage would have lowered, but for what credit notes took off them before.
_HELD = """
    SELECT count(*) FROM order_periods p JOIN invoice_lines l
      ON l.invoice_id = p.invoice_id AND l.order_id = p.order_id AND l.kind = 'minimum' AND l.amount_minor = 0
    WHERE p.part = 'late' AND l.period_start >= p.period_start AND l.period_start < p.period_end
"""


def test_late_usage_beside_credit_notes_is_billed_as_the_judge_bills_it(database):
    live(database, 12, 1, run_dates(date(2025, 11, 1), date(2026, 3, 1), 1), LateHistory)
    with with_connection(database.dsn) as connection, connection.cursor() as cur:
        cur.execute(_HELD)
        assert cur.fetchone()[0] > 0
    assert found_by_verify(database.dsn, None) == []
    assert given_back_wrong(database.dsn) == []


@pytest.mark.slow
def test_two_years_of_five_hundred_lives_are_billed_as_the_judge_bills_them(database):
    kinds = live(database, 500, 2025, run_dates(date(2025, 1, 1), date(2026, 12, 31), 2025))
    billed = {"recurring", "usage", "one_time", "percentage", "minimum", "adjustment", "manual"}
    assert set(kinds) == billed | {"left", "mended"}
    assert kinds["left"] > 20
    assert found_by_verify(database.dsn, 5_000) == []
    assert given_back_wrong(database.dsn) == []


LINE = Line(7, "recurring", "fee", 0, 86_400, 1, 0, 12_200, 220_000, True, 10_000, 2_200)
RECORD = Record(7, "arrears", 0, 86_400, "billed", 1, 1, 12_200)


@pytest.mark.parametrize(
    "other",
    [
        Bill({}, [RECORD]),
        Bill({1: [LINE]}, []),
        Bill({1: [LINE, LINE]}, [RECORD]),
        Bill({2: [LINE]}, [RECORD]),
        Bill({1: [LINE]}, [RECORD._replace(num=0)]),
        Bill({1: [LINE]}, [RECORD], {}, set(), {(3, 0, 0, "")}),
        *(
            Bill({1: [LINE._replace(**{name: value})]}, [RECORD])
            for name, value in (("amount", 12_201), ("end", 3_600), ("discount", 1), ("tax_ppm", 0), ("quantity", 2))
        ),
    ],
)
def test_the_comparison_sees_every_difference(other):
    known = Bill({1: [LINE]}, [RECORD])
    assert differences(known, known) == []
    assert differences(other, known) != []
    assert differences(known, other) != []
