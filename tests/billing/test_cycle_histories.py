"""Two years of random lives, billed by the program and by the judge: the same to the kopeck, run by run.

The short form has a few customers over the change of the tax rate; `make sim` runs five hundred over two years.
"""

import asyncio
from contextlib import asynccontextmanager
from datetime import date, timedelta

import aiopg
import pytest

from billing import cycle_run
from billing.catalogue_store import Source, save_version
from billing.cycle_plan import NewRun
from billing.cycle_shard import Job, ShardWorker
from tests.billing.cycle_histories import CATALOGUE, NEVER, History, with_connection
from tests.billing.cycle_judge import Bill, Book, Line, Record, World, bill, note

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


def run_program(dsn, bill_on):
    """A run by the program; its shards are done in this process, a few payers each."""
    run_id = cycle_run.start_run(dsn, NewRun(bill_on, "post", "sim", shard_payers=5))
    worker = ShardWorker(Job(dsn, run_id))
    with with_connection(dsn) as connection, connection.cursor() as cur:
        cur.execute("SELECT shard_no FROM bill_shards WHERE run_id = %s ORDER BY 1", (run_id,))
        for (shard_no,) in cur.fetchall():
            done = worker.do(shard_no)
            assert done.state == "posted", done.why
    worker.close()
    outcome = cycle_run.go_on(dsn, run_id, cycle_run.Crew(1))
    assert outcome.summary.state == "done"
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
    return line._replace(start=0, end=0) if line.kind in ("manual", "adjustment") else line


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
    failed, should = ({payer for payer, *_ in one.failures} for one in (program, judge))
    found += [f"payer {payer} fails for one of the two alone" for payer in sorted(failed ^ should)]
    return found


def unequal(ours, theirs):
    theirs = [shown(line) for line in theirs]
    length = max(len(ours), len(theirs))
    pairs = zip(ours + [None] * (length - len(ours)), theirs + [None] * (length - len(theirs)), strict=True)
    return [pair for pair in pairs if pair[0] != pair[1]]


def live(database, customers, seed, runs):
    """A history through these run dates, compared after each; returns how many lines were compared."""
    history = History(database.dsn, customers, seed)
    book, lines = Book(), 0
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
            world: World = history.world()
            judged = bill(world, catalogue, bill_on, book)
            billed = read_bill(database.dsn, run_program(database.dsn, bill_on))
            assert differences(billed, judged) == [], f"seed {seed}, run of {bill_on}"
            note(book, judged)
            lines += sum(map(len, judged.invoices.values()))
            before = bill_on
    finally:
        history.close()
    return lines


def months(first, count, dice_days=(1,)):
    """Run dates, one a month."""
    return [
        date(
            first.year + (first.month - 1 + number) // 12,
            (first.month - 1 + number) % 12 + 1,
            dice_days[number % len(dice_days)],
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_few_lives_are_billed_as_the_judge_bills_them(database, seed):
    assert live(database, 12, seed, months(date(2025, 11, 1), 4, (1, 5, 28))) > 50
    assert NEVER > 0
