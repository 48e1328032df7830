"""``kopeck bill`` as an operator types it."""

import json
from collections.abc import Iterator

import pytest

from billing.cycle.plan import NewRun
from billing.cycle.run import start_run
from tests.billing.cycle.base import FEBRUARY, Base, cycle_base


@pytest.fixture
def base(database) -> Iterator[Base]:
    with cycle_base(database.dsn, database.owner_dsn) as made:
        yield made


def test_a_run_is_told_and_listed(kopeck, base: Base) -> None:
    account = base.subscriber("S1")
    base.order(account)
    base.call(account, "2026-01-15T12:00:00+03:00", 5)
    said = kopeck("bill", "run", "--date", "2026-02-01")
    assert (said.status, said.err) == (0, "")
    assert said.out.startswith("run 1 of 2026-02-01: done\nby system:cli:")
    assert "shards: 0 due, 0 drafted, 1 posted, 0 failed\n" in said.out
    assert "1 paying accounts, 1 orders, 1 events, 1 periods; 1 invoices, 2 lines\n" in said.out
    assert "RUB: net 250.00, tax 55.00, total 305.00\n" in said.out
    assert "\nreconciled: lines = invoices = transfers\n" in said.out
    again = kopeck("bill", "run", "--date", "2026-03-01")
    assert "compared with run 1 of 2026-02-01: +0 invoices\n  RUB: -5.00 (-1.6 %)\n" in again.out
    listed = kopeck("bill", "status").out.splitlines()
    assert [line.split("\t")[:7] for line in listed[1:]] == [
        ["2", "2026-03-01", "post", "done", "1/1", "1", "0"],
        ["1", "2026-02-01", "post", "done", "1/1", "1", "0"],
    ]
    assert "run 1 of 2026-02-01: done\n" in kopeck("bill", "status", "1").out


def test_failures_are_listed_and_the_status_says_so(kopeck, base: Base) -> None:
    base.order(base.subscriber("S1"))
    base.order(base.subscriber("S2"), plan="gone")
    said = kopeck("bill", "run", "--date", "2026-02-01")
    assert said.status == 1
    assert "failures: 1: 1 unknown_plan (1 accounts)\n  S2 order " in said.out
    assert ": unknown_plan: catalogue cycle has no plan gone\n" in said.out
    assert "1 invoices" in said.out


def test_a_run_speaks_to_programs_in_integers(kopeck, base: Base) -> None:
    base.order(base.subscriber("S1"))
    told = json.loads(kopeck("bill", "run", "--date", "2026-02-01", "--account", "S1", "--json").out)
    money = [{"currency": "RUB", "net_minor": 24590, "tax_minor": 5410, "total_minor": 30000}]
    assert (told["run"], told["state"], told["account"], told["money"]) == (1, "done", "S1", money)
    assert told["shards"] == {"due": 0, "drafted": 0, "posted": 1, "failed": 0}
    assert told["reconciled"] == {"agrees": True, "lines": money, "invoices": money, "transfers": money}
    assert json.loads(kopeck("bill", "status", "--json").out)[0]["run"] == 1
    assert json.loads(kopeck("bill", "status", "1", "--json").out)["invoices"] == 1


def test_a_review_is_approved_or_voided(kopeck, base: Base) -> None:
    base.order(base.subscriber("S1"))
    said = kopeck("bill", "run", "--date", "2026-02-01", "--review")
    assert said.status == 0
    assert said.out.startswith("review 1 of 2026-02-01: reviewed\n")
    assert "\nreconciled: lines = invoices\n" in said.out
    refused = kopeck("bill", "run", "--date", "2026-03-01")
    assert refused.status == 2
    assert "the review 1 of 2026-02-01 is reviewed: `kopeck bill approve` or `kopeck bill void-review`" in refused.err
    assert kopeck("bill", "resume").status == 2
    assert kopeck("bill", "void-review").out == "run 1 is void; what it drafted is due again\n"
    assert kopeck("bill", "run", "--date", "2026-02-01", "--review").out.startswith(
        "review 2 of 2026-02-01: reviewed\n"
    )
    approved = kopeck("bill", "approve", "2")
    assert approved.status == 0
    assert approved.out.startswith("review 2 of 2026-02-01: done\n")
    assert [number for number, _, _ in base.invoices()] == ["I-000001"]


def test_a_run_that_failed_is_resumed(kopeck, base: Base) -> None:
    account = base.subscriber("S1")
    base.order(account)
    base.rows(f"ALTER TABLE invoices ADD CONSTRAINT broken CHECK (account_id <> {account})")
    said = kopeck("bill", "run", "--date", "2026-02-01")
    assert said.status == 1
    assert 'shard 0 failed: the database refused: ERROR: new row for relation "invoices"' in said.out
    assert said.err == "kopeck: run 1 is not complete: `kopeck bill resume` tries again\n"
    base.rows("ALTER TABLE invoices DROP CONSTRAINT broken")
    assert kopeck("bill", "resume").status == 0
    assert kopeck("bill", "resume").err == "kopeck: no run is under way: see `kopeck bill status`\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--date", "tomorrow"], "'tomorrow' is no date such as 2026-01-31"),
        (["--date", "2999-01-01"], "2999-01-01 has not come yet, and usage up to it would be closed for good: --ahead"),
        (["--date", "2999-01-01", "--ahead"], "no run on 2999-01-01: 2999-01-01 is outside the calendar's years"),
        (["--date", "2026-02-01", "--account", "nobody"], "there is no account 'nobody'"),
        (["--date", "2026-02-01", "--workers", "2", "--dask", "tcp://x:1"], "with --dask the cluster has its own"),
    ],
)
def test_what_cannot_be_run_is_refused_in_a_sentence(kopeck, base: Base, arguments: list[str], sentence: str) -> None:
    base.order(base.subscriber("S1"))
    said = kopeck("bill", "run", *arguments)
    assert said.status == 2
    assert sentence in said.err
    assert base.one("SELECT count(*) FROM bill_runs") == 0
    assert base.one("SELECT open_from FROM usage_open") is None


def test_a_database_that_is_away_is_a_sentence(kopeck, monkeypatch) -> None:
    monkeypatch.setenv("KOPECK_DATABASE__DSN", "postgresql://nobody@127.0.0.1:1/none")
    said = kopeck("bill", "status")
    assert said.status == 1
    assert said.err.startswith("kopeck: the database is away: connection to server at")


def test_a_cluster_that_does_not_answer_is_a_sentence(kopeck, base: Base) -> None:
    base.order(base.subscriber("S1"))
    said = kopeck("bill", "run", "--date", "2026-02-01", "--dask", "nowhere")
    assert said.status == 1
    assert "no Dask scheduler answers at nowhere" in said.err
    assert "`kopeck bill resume` goes on with run 1" in said.err


def test_a_run_is_given_up_with_a_reason(kopeck, base: Base) -> None:
    base.order(base.subscriber("S1"))
    start_run(base.dsn, NewRun(FEBRUARY, "post", "test"))
    assert kopeck("bill", "abandon").status == 2
    said = kopeck("bill", "abandon", "--why", "wrong date")
    assert said.status == 0
    assert "run 1 of 2026-02-01: done\n" in said.out
    assert "given up by system:cli:" in said.out
    assert ": wrong date; what was left is due again\nshards: 1 due, 0 drafted, 0 posted, 0 failed\n" in said.out
    assert json.loads(kopeck("bill", "status", "1", "--json").out)["abandoned_why"] == "wrong date"
    assert "is done: nothing of it is left" in kopeck("bill", "abandon", "1", "--why", "again").err
    assert kopeck("bill", "run", "--date", "2026-02-01").status == 0
