"""Off-by-ones planted in every kernel: each must be caught by the test named beside it.

A copy of ratingcore and its tests is built with one line changed, and that one test is run on it; it must fail, and on
the copy as it is it must pass. Slow, for every mutant is a compilation: ``pytest -m slow tests/ratingcore``.
"""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
JUDGE = "test_rate.py::test_the_kernel_equals_the_judge_on_random_tariffs_events_batches_and_threads"
LARGEST = "test_rate.py::test_the_largest_amount_is_rated_and_the_next_is_rejected_never_wrapped"
EDGES = "test_rate.py::test_calls_around_an_edge_of_bands_are_rated_second_by_second_as_the_judge_says"
WIDE = "test_rate.py::test_curves_where_64_bits_end_are_rated_as_the_judge_says"
PREFIXES = "test_rate.py::test_every_prefix_is_found_from_its_first_number_to_its_last"
WAITING = "test_rate.py::test_calls_that_wait_for_others_are_rated_as_if_they_had_not"
CALLS = "test_rate.py::test_calls_where_30_bits_end_are_rated_as_the_judge_says"
HORIZON = "test_rate.py::test_a_catalogue_is_good_from_its_first_second_to_its_last"
HALVES = "test_rate.py::test_half_a_micro_goes_away_from_zero_on_both_sides"
NO_TRACE = "test_rate.py::test_a_rejected_event_leaves_meters_and_pools_as_they_were"
WHOLES = "test_lines.py::test_two_halves_make_a_whole_and_a_micro_less_does_not"
SUM = "test_lines.py::test_a_line_is_the_exact_sum_of_its_accepted_events_however_they_are_batched"
TIES = "test_lines.py::test_every_mode_agrees_with_the_one_rounding_function_around_every_tie"
TAX = "test_lines.py::test_tax_is_the_rounded_share_and_net_with_tax_is_gross"
SHARES = "test_lines.py::test_shares_sum_to_the_whole_and_equal_the_slow_twin"
PARTS = "test_shares.py::test_halves_go_away_from_zero_and_bounds_are_within_on_both_sides_of_64_bits"
PACK = "test_digits.py::test_the_kernel_packs_as_python_does"


@dataclass(frozen=True)
class Mutant:
    """``kernel`` with ``line`` (found once) replaced by ``planted``, to be caught by ``caught_by``."""

    kernel: str
    line: str
    planted: str
    caught_by: str


MUTANTS = [
    Mutant("_rate", "while quantity > tiers[low].upper:", "while quantity >= tiers[low].upper:", JUDGE),
    Mutant("_rate", "if quantity > tiers[middle].upper:", "if quantity >= tiers[middle].upper:", JUDGE),
    Mutant(
        "_rate",
        "(tier.rest + tier.price * (quantity - tier.origin) + step.per // 2)",
        "(tier.rest + tier.price * (quantity - tier.origin) + (step.per - 1) // 2)",
        JUDGE,
    ),
    Mutant(
        "_rate",
        "(quantity - tier.origin + step.per - 1) // <uint64_t>",
        "(quantity - tier.origin + step.per) // <uint64_t>",
        JUDGE,
    ),
    Mutant(
        "_rate",
        "part * ((quantity - tier.origin + step.per - 1) //",
        "part * ((quantity - tier.origin + step.per) //",
        WIDE,
    ),
    Mutant(
        "_rate",
        "(part * (quantity - tier.origin) + tier.rest",
        "(part * (quantity - tier.origin - 1) + tier.rest",
        WIDE,
    ),
    Mutant("_rate", "if after <= step.narrow:\n        frame", "if after <= step.narrow * 8:\n        frame", WIDE),
    Mutant("_rate", "(low[half].start <= destination)", "(low[half].start < destination)", PREFIXES),
    Mutant(
        "_rate",
        "= book.ranges + index[0], index[1] - index[0] + 1",
        "= book.ranges + index[0], index[1] - index[0]",
        PREFIXES,
    ),
    Mutant(
        "_rate",
        "for i in range(count):\n        _rate_call(",
        "for i in range(count - 1):\n        _rate_call(",
        WAITING,
    ),
    Mutant("_rate", "calls[waiting].row = i", "calls[waiting].row = number", WAITING),
    Mutant("_rate", "(beyond + next - 1)", "(beyond + next)", CALLS),
    Mutant("_rate", "if quantity <= rate.grace:", "if quantity < rate.grace:", CALLS),
    Mutant("_rate", "return owed if owed > rate.minimum else", "return owed if owed < rate.minimum else", CALLS),
    Mutant("_rate", "(frame.seen - first + next - 1)", "(frame.seen - first + next)", JUDGE),
    Mutant("_rate", "if event_quantity > grace and", "if event_quantity >= grace and", EDGES),
    Mutant("_rate", "if not frame.connected:", "if True:", EDGES),
    Mutant(
        "_rate",
        "if owed < frame.paid:\n        owed = frame.paid",
        "if owed < frame.paid:\n        owed = frame.paid + 1",
        EDGES,
    ),
    Mutant("_rate", "if meters[step.slot] <= step.per:", "if meters[step.slot] < step.per:", JUDGE),
    Mutant(
        "_rate",
        "cdef int64_t drawn = step.a - meters[step.slot]",
        "cdef int64_t drawn = step.a - meters[step.slot] + 1",
        JUDGE,
    ),
    Mutant("_rate", "cdef int64_t drawn = pools[step.first]", "cdef int64_t drawn = pools[step.first] - 1", JUDGE),
    Mutant(
        "_rate",
        "= -((-frame.amount * step.a + MICRO // 2) // MICRO)",
        "= (frame.amount * step.a + MICRO // 2) // MICRO",
        HALVES,
    ),
    Mutant(
        "_rate",
        "= (frame.amount * step.a + MICRO // 2) // MICRO",
        "= (frame.amount * step.a + MICRO // 2 - 1) // MICRO",
        HALVES,
    ),
    Mutant(
        "_rate",
        "(after if after < step.a else <int128>step.a) -",
        "(after if after < step.a else <int128>step.a + 1) -",
        JUDGE,
    ),
    Mutant("_rate", "frame.amount += step.a - after", "frame.amount += step.a - after + 1", JUDGE),
    Mutant("_rate", "book.edges[edge + 1] <= event.time_s:", "book.edges[edge + 1] < event.time_s:", EDGES),
    Mutant("_rate", "book.edges[edge + 1] < end_s:", "book.edges[edge + 1] <= end_s:", EDGES),
    Mutant(
        "_rate",
        "wide * elapsed_s // event.duration_s",
        "(wide * elapsed_s + event.duration_s - 1) // event.duration_s",
        EDGES,
    ),
    Mutant("_rate", ".since_s > event.time_s:", ".since_s >= event.time_s:", JUDGE),
    Mutant("_rate", "or event.time_s >= book.end_s:", "or event.time_s > book.end_s:", HORIZON),
    Mutant("_rate", "memcpy(pools, pools_before, book.pools * sizeof(int64_t))", "pass", NO_TRACE),
    Mutant("_rate", "memcpy(meters, meters_before, slots * sizeof(int64_t))", "pass", NO_TRACE),
    Mutant("_rate", "(total > MAX_EVENT_MICRO or", "(total >= MAX_EVENT_MICRO or", LARGEST),
    Mutant("_rate", "if wide > MAX_EVENT_MICRO or", "if wide >= MAX_EVENT_MICRO or", LARGEST),
    Mutant("_rate", "event.quantity > MAX_QUANTITY:", "event.quantity >= MAX_QUANTITY:", LARGEST),
    Mutant("_lines", "parts >= MICRO:", "parts > MICRO:", WHOLES),
    Mutant("_lines", "if reject[i] == 0:", "if reject[i] <= 1:", SUM),
    Mutant("_lines", "(2 * rest == MICRO and whole >= 0)", "(2 * rest == MICRO and whole > 0)", TIES),
    Mutant("_lines", "(2 * rest == MICRO and (whole & 1))", "(2 * rest == MICRO and not (whole & 1))", TIES),
    Mutant("_lines", "up = whole < 0", "up = whole <= 0", TIES),
    Mutant("_lines", "half = denominator // 2", "half = denominator // 2 - 1", TAX),
    Mutant("_lines", "<int64_t>900_000_000_000:", "<int64_t>9_000_000_000_000:", TAX),
    Mutant("_lines", "if left > 0 and", "if left > 1 and", SHARES),
    Mutant(
        "_shares", "<uint64_t>product + <uint64_t>(den // 2)", "<uint64_t>product + <uint64_t>((den - 1) // 2)", PARTS
    ),
    Mutant("_shares", "if amount >= 0 and not too_large", "if not too_large", PARTS),
    Mutant("_shares", "(wide + den // 2) // den\n", "(wide + (den - 1) // 2) // den\n", PARTS),
    Mutant("_shares", "if rest[0] < 0:", "if rest[0] <= 0:", PARTS),
    Mutant("_shares", "if wide > <int128>max_minor * MICRO", "if wide >= <int128>max_minor * MICRO", PARTS),
    Mutant("_digits", "if i < 16:", "if i < 15:", PACK),
    Mutant("_digits", "if digit > 9:", "if digit > 10:", PACK),
]

#: Hypothesis fails as soon as it finds an example and looks for the same ones every time.
CONFTEST = """
from hypothesis import Phase, settings
settings.register_profile("mutants", phases=[Phase.generate], database=None, deadline=None, derandomize=True)
settings.load_profile("mutants")
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False)


def build(folder: Path) -> None:
    built = run(folder, "setup.py", "-q", "build_ext", "--inplace")
    assert built.returncode == 0, built.stderr[-2000:]


def trial(folder: Path, test: str) -> subprocess.CompletedProcess[str]:
    """The copy comes first on the path: -m pytest puts its folder there."""
    return run(folder, "-m", "pytest", "-q", "-x", "--import-mode=importlib", f"tests/ratingcore/{test}")


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built copy in which every named test passes."""
    folder = tmp_path_factory.mktemp("healthy")
    ignore = shutil.ignore_patterns("*.so", "__pycache__", "test_mutants.py")
    shutil.copytree(ROOT / "ratingcore", folder / "ratingcore", ignore=ignore)
    shutil.copytree(ROOT / "tests" / "ratingcore", folder / "tests" / "ratingcore", ignore=ignore)
    (folder / "tests" / "conftest.py").write_text(CONFTEST)
    # Nothing here measures speed.
    (folder / "setup.py").write_text((ROOT / "setup.py").read_text().replace("-O3", "-O0"))
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
    build(folder)
    for test in sorted({mutant.caught_by for mutant in MUTANTS}):
        passed = trial(folder, test)
        assert passed.returncode == 0, passed.stdout[-2000:]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: re.sub(r"\W+", "-", f"{mutant.kernel} {mutant.planted}"))
def test_a_planted_off_by_one_is_caught_by_the_test_named(mutant: Mutant, healthy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mutant"
    shutil.copytree(healthy, folder, ignore=shutil.ignore_patterns("__pycache__", "build"))
    source = folder / "ratingcore" / f"{mutant.kernel}.pyx"
    text = source.read_text()
    assert text.count(mutant.line) == 1, "the line to be mutated is there once"
    source.write_text(text.replace(mutant.line, mutant.planted))
    for kernel in (folder / "ratingcore").glob(f"{mutant.kernel}.*.so"):
        kernel.unlink()
    others = [path for path in (folder / "ratingcore").glob("*.pyx") if path != source]
    for path in others:
        path.unlink()
    build(folder)
    caught = trial(folder, mutant.caught_by)
    assert caught.returncode == 1, f"not caught: {mutant}\n{caught.stdout[-1000:]}{caught.stderr[-1000:]}"
    assert "ERROR" not in caught.stdout, caught.stdout[-2000:]
