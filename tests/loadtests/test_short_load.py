"""`make load` in its short form: real processes, both protocols, every kind of fault, zero differences.

And the other way round: a record that claims a payment which never was makes the same auditor speak.
"""

import tempfile
from collections.abc import Iterator

import pytest
from rich.console import Console

from loadtests.faults import GATEWAY_KILLED, JOURNAL_KILLED, JOURNAL_STOPPED, POSTGRES_KILLED
from loadtests.load import Options, Outcome, options_from, run
from loadtests.stories import PER_THOUSAND

PAYMENTS = 2_000


@pytest.fixture(scope="module")
def outcome() -> Iterator[Outcome]:
    with tempfile.TemporaryDirectory(prefix="kopeck-") as folder:  # not pytest's own: closed to PostgreSQL's user
        options = Options(payments=PAYMENTS, users=24, accounts=200, faults=4, pause_s=2, folder=folder)
        yield run(options, Console(quiet=True))


def test_nothing_is_lost_and_nothing_doubled(outcome: Outcome) -> None:
    assert outcome.audit.differences == []
    assert outcome.audit.examined["keys heard done"] >= PAYMENTS
    assert outcome.audit.examined["keys never settled"] == 0


def test_the_live_database_and_the_journal_agree(outcome: Outcome) -> None:
    assert outcome.verified, outcome.verify_text


def test_every_kind_of_fault_took_place(outcome: Outcome) -> None:
    assert all(outcome.told[kind] >= 1 for kind in PER_THOUSAND)
    faults = [GATEWAY_KILLED, JOURNAL_STOPPED, POSTGRES_KILLED, JOURNAL_KILLED]
    assert [struck.name for struck in outcome.struck] == faults
    assert outcome.audit.examined["requests without an answer"] > 0
    assert outcome.audit.examined["conflicts heard"] > 0
    assert outcome.audit.examined["strangers denied"] > 0


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"LOAD_PAYMENTS": "many"}, "LOAD_PAYMENTS"),
        ({"LOAD_PAYMENTS": "-5"}, "LOAD_PAYMENTS"),
        ({"LOAD_PROCESSES": "1"}, "at least 2"),
        ({"LOAD_USERS": "0"}, "LOAD_USERS"),
    ],
)
def test_an_option_that_cannot_be_is_told(environ: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        options_from(environ)


def test_options_come_from_the_environment() -> None:
    options = options_from({"LOAD_PAYMENTS": "500", "LOAD_FAULTS": "0", "LOAD_SEED": "9"})
    assert (options.payments, options.faults, options.seed) == (500, 0, 9)
