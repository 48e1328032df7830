"""What the rating bench compares is the same charge: on a few events every contender gives what the kernel gives."""

import os
import subprocess
import sys
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from loadtests.bench_rating import judged_per_s
from loadtests.figures import BenchError
from loadtests.rating_contest import (
    Contender,
    Outcome,
    duckdb_calls,
    duckdb_graduated,
    hold,
    kernel,
    numpy_calls,
    numpy_graduated,
    numpy_per_unit,
    numpy_volume,
    polars_calls,
    polars_graduated,
)
from loadtests.rating_usage import Usage, cases, number_of, random_rates, random_usage
from ratingcore.digits import pack_number, pack_numbers
from ratingcore.tariff import PerUnit

RATES = random_rates(300)
CASES = cases(RATES)
#: Few accounts, so that every tier is reached.
USAGE = random_usage(3_000, 40, pack_numbers([rate.prefix for rate in RATES]))


def contenders(charge: str, usage: Usage) -> list[Contender]:
    price = CASES["per_unit"].tariff.steps[0]
    assert isinstance(price, PerUnit)
    return {
        "graduated": [numpy_graduated(usage), duckdb_graduated(usage, 2), polars_graduated(usage)],
        "calls": [numpy_calls(usage, RATES), duckdb_calls(usage, RATES, 2), polars_calls(usage, RATES)],
        "volume": [numpy_volume(usage)],
        "per_unit": [numpy_per_unit(usage, price.price_micro)],
    }[charge]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("charge", ["graduated", "calls", "volume", "per_unit"])
def test_every_contender_gives_the_kernels_amounts(charge: str, threads: int) -> None:
    for usage in (USAGE, replace(USAGE, account=np.sort(USAGE.account))):
        ours = kernel(CASES[charge], usage, threads)
        amounts = ours.read(ours.run())
        assert len(np.unique(amounts)) > 100
        for contender in contenders(charge, usage):
            found = contender.read(contender.run())
            assert found.dtype == np.int64, contender.name
            assert found.tolist() == amounts.tolist(), contender.name


@pytest.mark.parametrize("name", CASES)
def test_every_case_of_the_bench_is_rated_as_the_judge_says(name: str) -> None:
    assert judged_per_s(name, CASES[name], USAGE) > 0


def test_a_contender_who_is_a_micro_off_ends_the_contest() -> None:
    ours = kernel(CASES["graduated"], USAGE, 1)
    wrong = Contender("wrong", ours.run, lambda rated: ours.read(rated) + (np.arange(len(USAGE.account)) == 2_999))
    with pytest.raises(BenchError, match="wrong and kernel give other amounts"):
        hold("graduated", [ours, wrong], "", 1)


def test_usage_calls_numbers_of_eleven_digits_under_prefixes_of_the_card() -> None:
    numbers = [number_of(key) for key in USAGE.destination.tolist()]
    assert [pack_number(number) for number in numbers] == USAGE.destination.tolist()
    assert {len(number) for number in numbers} == {11}
    prefixes = tuple(rate.prefix for rate in RATES[1:])
    assert sum(number.startswith(prefixes) for number in numbers) > 0.9 * len(numbers)


@pytest.mark.slow
def test_the_contest_is_a_program_that_names_everybody() -> None:
    argv = [sys.executable, "-m", "loadtests.rating_contest", "2", "4000", "1"]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run(argv, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr.decode()
    outcomes = msgspec.json.decode(done.stdout, type=list[Outcome])
    assert {(one.charge, one.contender) for one in outcomes} >= {
        (charge, who) for charge in ("graduated", "graduated_sorted", "calls") for who in ("kernel", "duckdb", "polars")
    }
