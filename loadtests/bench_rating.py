"""Figures of rating: every kernel on one thread and two, beside its judge, NumPy, DuckDB and Polars.

Rules. Equal first: a sample of each case is held to the judge, two threads to one, contenders to the kernel
(``rating_contest``, which says how they compute); one other amount ends the bench. Amounts are exact integers
everywhere. Measurements go in turn, the best of several rounds counts. BENCH_SECONDS scales the number of events. A
figure's words say whether an aim of the project is reached; nothing depends on it.

Does not know: files, databases, invoices.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np

from loadtests.figures import BenchError, Figure, Setting
from loadtests.rating_contest import KERNEL, Outcome
from loadtests.rating_usage import (
    POOL,
    POOL_QUANTITY,
    SEED,
    Case,
    Usage,
    cases,
    catalogue_of,
    events_of,
    lines_of,
    number_of,
    pools_of,
    random_rates,
    random_usage,
)
from ratingcore import lines, reference
from ratingcore.arrays import Ints
from ratingcore.digits import pack_number, pack_numbers
from ratingcore.money import split_minor
from ratingcore.rate import RatedColumns, make_events, new_accumulators, rate_events
from ratingcore.rounding import MICRO_PER_MINOR, round_micro
from ratingcore.tariff import Tax

EVENTS_PER_S: Final = 400_000
ROUNDS: Final = 3
THREADS: Final = (1, 2)
#: The judge is given this long, or this many events, of as few accounts as make tiers and allowances run out.
JUDGE_S: Final = 0.25
JUDGE_EVENTS: Final = 2_000
JUDGE_ACCOUNTS: Final = 20
AIMS: Final[Mapping[str, float]] = {"graduated": 25e6, "calls": 8e6}
AIM_AHEAD: Final = 3.0
TAX: Final = Tax(220_000, inside=True)
PARTS: Final = 4


def figures(setting: Setting) -> Iterator[Figure]:
    """All figures of the group."""
    events = EVENTS_PER_S * setting.seconds
    rates = random_rates()
    usage = random_usage(events, events // 2, pack_numbers([rate.prefix for rate in rates]))
    for name, case in cases(rates).items():
        yield from _kernel(name, case, usage)
    for name, job in _line_jobs(usage).items():
        yield from _line_kernel(name, job)
    for threads in THREADS:
        yield from _contest(threads, events)


def _per_s(count: int, runs: Sequence[Callable[[], object]]) -> list[float]:
    """Events a second of each at its best, all in turn."""
    best = [float("inf")] * len(runs)
    for _ in range(ROUNDS):
        for place, run in enumerate(runs):
            started_at = time.perf_counter()
            run()
            best[place] = min(best[place], time.perf_counter() - started_at)
    return [count / seconds for seconds in best]


def _speeds(name: str, what: str, per_s: Sequence[float], judged_per_s: float) -> Iterator[Figure]:
    """One kernel's three figures."""
    for threads, one in zip(THREADS, per_s, strict=True):
        key = f"rating_{name}_events_per_s_{threads}_thread" + "s" * (threads > 1)
        yield Figure(key, one, "events/s", what + _aim(AIMS.get(name, 0) * threads, one))
    yield Figure(f"rating_{name}_vs_judge", per_s[0] / judged_per_s, "x", "one thread to its judge, rows equal")


def _aim(aim: float, reached: float) -> str:
    """Whether, in words; nothing where there is no aim."""
    if not aim:
        return ""
    shown = f"{aim / 1e6:.0f} M/s" if aim > 1e5 else f"{aim:.0f}x"
    return f"; aim {shown} {'reached' if reached >= aim else 'NOT reached'}"


# ---- kernels that rate


def _kernel(name: str, case: Case, usage: Usage) -> Iterator[Figure]:
    made, events, pools = lines_of(case, usage.accounts), events_of(case, usage), pools_of(usage.accounts)

    def run(threads: int) -> RatedColumns:
        return rate_events(made, new_accumulators(made, pools), events, threads)

    alone, shared = run(1), run(2)
    if alone.reject.any():
        raise BenchError(f"{name}: event {int(np.flatnonzero(alone.reject)[0])} was rejected")
    if not np.array_equal(alone.amount_micro, shared.amount_micro):
        raise BenchError(f"{name}: two threads give other amounts than one")
    per_s = _per_s(len(usage.account), [lambda: run(1), lambda: run(2)])
    yield from _speeds(name, f"{case.what}; {usage.shown}", per_s, judged_per_s(name, case, usage))


def judged_per_s(name: str, case: Case, usage: Usage) -> float:
    """Events a second of the judge, on a sample in which the kernel gives the same.

    Raises:
        BenchError: it gives something else.
    """
    owners = range(JUDGE_ACCOUNTS)
    sample = [
        reference.Event(account, time_s, quantity, quantity if case.timed else 0, number_of(key))
        for account, time_s, quantity, key in zip(
            (usage.account[:JUDGE_EVENTS] % JUDGE_ACCOUNTS).tolist(),
            *(column[:JUDGE_EVENTS].tolist() for column in (usage.time_s, usage.quantity, usage.destination)),
            strict=True,
        )
    ]
    catalogue, made = catalogue_of(case), [reference.Line(owner, 0) for owner in owners]
    state = reference.State({}, {(owner, POOL): POOL_QUANTITY for owner in owners})
    judged: list[reference.Rated] = []
    started_at = time.perf_counter()
    while len(judged) < len(sample) and time.perf_counter() < started_at + JUDGE_S:
        one, state = reference.rate_event(catalogue, made, state, sample[len(judged)])
        judged.append(one)
    seconds = time.perf_counter() - started_at
    if _rows(_sampled(case, sample[: len(judged)])) != _rows(judged):
        raise BenchError(f"{name}: the kernel gives other amounts than the judge")
    return len(judged) / seconds


def _sampled(case: Case, sample: Sequence[reference.Event]) -> RatedColumns:
    """The kernel on the judge's events."""
    made = lines_of(case, JUDGE_ACCOUNTS)
    columns: dict[str, Any] = {
        name: [getattr(event, name) for event in sample] for name in ("line", "time_s", "quantity", "duration_s")
    }
    events = make_events(**columns, destination=pack_numbers([event.destination for event in sample]))
    return rate_events(made, new_accumulators(made, pools_of(JUDGE_ACCOUNTS)), events)


def _rows(rated: RatedColumns | Sequence[reference.Rated]) -> list[tuple[int, ...]]:
    names = ("amount_micro", "version", "tier", "rate", "reject")
    if isinstance(rated, RatedColumns):
        return list(zip(*(getattr(rated, name).tolist() for name in names), strict=True))
    return [tuple(int(getattr(one, name)) for name in names) for one in rated]


# ---- kernels of lines


@dataclass(frozen=True, slots=True)
class Job:
    """A kernel over rows. run, judge: what rows [low, high) come to, the latter slowly; both give the same lists."""

    what: str
    count: int
    run: Callable[[int, int], Any]
    shown: Callable[[Any], list[Any]]
    judge: Callable[[int, int], list[Any]]


def _line_kernel(name: str, job: Job) -> Iterator[Figure]:
    """Two threads take half of the rows each, as shards of accounts do."""
    sample, half = min(job.count, 10 * JUDGE_EVENTS), job.count // 2
    started_at = time.perf_counter()
    judged = job.judge(0, sample)
    seconds = time.perf_counter() - started_at
    if job.shown(job.run(0, sample)) != judged:
        raise BenchError(f"{name}: the kernel gives other rows than the judge")
    with ThreadPoolExecutor(2) as pool:

        def both() -> None:
            list(pool.map(job.run, (0, half), (half, job.count)))

        per_s = _per_s(job.count, [lambda: job.run(0, job.count), both])
    yield from _speeds(name, job.what, per_s, sample / seconds)


def _line_jobs(usage: Usage) -> dict[str, Job]:
    """Rated usage on its way to an invoice, and the packing of numbers before."""
    draw, count = np.random.default_rng(SEED + 2), len(usage.account)
    amount_micro = draw.integers(-(10**12), 10**13, count)
    amount_minor = amount_micro // MICRO_PER_MINOR
    numbers: Any = np.array([number_of(key) for key in usage.destination[: count // 4].tolist()], "S")
    return {
        "sum": _sum_job(usage, amount_micro),
        "round": _round_job(amount_micro),
        "tax": _tax_job(amount_minor),
        "split": _split_job(amount_minor[: count // PARTS], draw.integers(1, 1_000, count // PARTS * PARTS)),
        "pack": Job(
            "numbers of 11 digits as text to keys",
            len(numbers),
            lambda low, high: pack_numbers(numbers[low:high]),
            lambda keys: keys.tolist(),
            lambda low, high: [pack_number(number.decode()) for number in numbers[low:high].tolist()],
        ),
    }


def _sum_job(usage: Usage, amount_micro: Ints) -> Job:
    def run(low: int, high: int) -> lines.Sums:
        sums = lines.new_sums(usage.accounts)
        lines.add_events(sums, usage.account[low:high], amount_micro[low:high])
        return sums

    def judge(low: int, high: int) -> list[int]:
        sums = [0] * usage.accounts
        for account, amount in zip(usage.account[low:high].tolist(), amount_micro[low:high].tolist(), strict=True):
            sums[account] += amount
        return sums

    def shown(sums: lines.Sums) -> list[int]:
        pairs = zip(sums.whole.tolist(), sums.rest.tolist(), strict=True)
        return [whole * MICRO_PER_MINOR + rest for whole, rest in pairs]

    return Job(f"events added to lines' sums; {usage.shown}", len(amount_micro), run, shown, judge)


def _round_job(amount_micro: Ints) -> Job:
    whole, rest = np.divmod(amount_micro, MICRO_PER_MINOR)
    return Job(
        "sums of lines rounded to minor units, half away from zero",
        len(amount_micro),
        lambda low, high: lines.round_sums(lines.Sums(whole[low:high], rest[low:high])),
        lambda rounded: rounded.amount_minor.tolist(),
        lambda low, high: [round_micro(amount) for amount in amount_micro[low:high].tolist()],
    )


def _tax_job(amount_minor: Ints) -> Job:
    rate_ppm, inside = np.full(len(amount_minor), TAX.rate_ppm), np.ones(len(amount_minor), np.uint8)
    return Job(
        "22 % tax inside rounded lines",
        len(amount_minor),
        lambda low, high: lines.tax_lines(amount_minor[low:high], rate_ppm[low:high], inside[low:high]),
        lambda taxed: list(
            zip(taxed.net_minor.tolist(), taxed.tax_minor.tolist(), taxed.gross_minor.tolist(), strict=True)
        ),
        lambda low, high: [reference.tax_of(amount, TAX) for amount in amount_minor[low:high].tolist()],
    )


def _split_job(total_minor: Ints, weight: Ints) -> Job:
    def run(low: int, high: int) -> Ints:
        return lines.split_lines(
            total_minor[low:high], np.arange(high - low + 1) * PARTS, weight[low * PARTS : high * PARTS]
        )

    def judge(low: int, high: int) -> list[int]:
        weights = weight.reshape(-1, PARTS)[low:high].tolist()
        shares = (split_minor(*pair) for pair in zip(total_minor[low:high].tolist(), weights, strict=True))
        return [int(part) for parts in shares for part in parts]

    return Job(f"totals shared out over {PARTS} weights", len(total_minor), run, lambda parts: parts.tolist(), judge)


# ---- beside others


def _contest(threads: int, events: int) -> Iterator[Figure]:
    """The contest in its process, as figures: what each does, and how far the kernel is ahead."""
    argv = [sys.executable, "-m", "loadtests.rating_contest", str(threads), str(events), str(ROUNDS)]
    done = subprocess.run(argv, capture_output=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"rating contest: {done.stderr.decode(errors='replace').strip()[-500:]}")
    outcomes = msgspec.json.decode(done.stdout, type=list[Outcome])
    if not outcomes:
        raise BenchError("rating contest: nobody took part")
    ours = {outcome.charge: outcome.per_s for outcome in outcomes if outcome.contender == KERNEL}
    own = "1 thread each" if threads == 1 else f"{threads} threads each"
    for outcome in outcomes:
        name = f"rating_{outcome.charge}_{outcome.contender}_events_per_s_{threads}_thread" + "s" * (threads > 1)
        yield Figure(name, outcome.per_s, "events/s", f"{outcome.shown}, {own}")
        if outcome.contender == KERNEL:
            continue
        ahead = ours[outcome.charge] / outcome.per_s
        aim = _aim(AIM_AHEAD if outcome.contender != "numpy" else 0, ahead)
        name = f"rating_{outcome.charge}_vs_{outcome.contender}" + (f"_{threads}_threads" if threads > 1 else "")
        yield Figure(name, ahead, "x", f"kernel to {outcome.contender}, {own}, same arrays, amounts equal{aim}")
