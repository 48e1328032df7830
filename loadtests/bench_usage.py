"""Figures of mediation: a usage file through `kopeck usage import` into PostgreSQL, new and once more, then rated.

The file is made here, the same every time but for its dates: keys without any order and accounts at random, the worst
case for every index. The commands run as an operator runs them, against an embedded database with the durability of
production, and their own words are the figures. Reading goes beside the other stages, so stages do not add up to the
whole. A line that was not accepted, or the second time not known again, or not rated, ends the bench. Rating is by
tiers, with no order that covers the use: prices that are everybody's.

Does not know: which figures are good enough, how usage is stored.
"""

import json
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from loadtests.figures import BenchError, Figure, Setting
from loadtests.stand import Stand, new_folder

ROWS_PER_SECOND_OF_BENCH: Final = 200_000
ACCOUNTS: Final = 20_000
FIRST_ACCOUNT: Final = 79160000001
SEED: Final = 2011
_DAYS: Final = 25
#: How long ago the newest use was.
_NEWEST_S: Final = 3_600
_CHUNK: Final = 200_000
#: Odd, so that multiplying by it modulo 2^64 gives every number another one.
_SCATTER: Final = np.uint64(0x9E3779B97F4A7C15)

FORMAT: Final = """\
kind = "csv"
source = "bench"
key = ["id"]

[account]
column = "msisdn"

[item]
column = "type"

[time]
column = "began"
format = "unix_s"

[quantity]
column = "amount"

[destination]
column = "called"
"""
#: Calls by the started minute and by tiers, messages by the piece, traffic by the started hundred with a cap.
CATALOGUE: Final = """\
kopeck_catalogue: 1
name: bench
currency: RUB
zone: UTC
valid: {from: <year>-01-01, until: <next>-01-01}
taxes:
  vat:
    name: {en: VAT}
    rates:
      - {from: 2019-01-01, percent: 20}
      - {from: 2026-01-01, percent: 22}
items:
  voice: {name: {en: Calls}, unit: s, tax: vat}
  sms: {name: {en: Messages}, unit: piece, tax: vat}
  data: {name: {en: Traffic}, unit: MB, tax: vat}
prices:
  - item: voice
    versions:
      - from: <year>-01-01
        steps:
          - increments: {first: 1 min, next: 1 min}
          - graduated:
              per: 1 min
              tiers:
                - {upto: 100 min, price: 2.00}
                - {upto: 1000 min, price: 1.50}
                - {price: 1.00}
  - item: sms
    versions:
      - from: <year>-01-01
        steps:
          - per_unit: {price: 1.10}
  - item: data
    versions:
      - from: <year>-01-01
        steps:
          - package: {price: 15.00, size: 100 MB}
          - cap: {maximum: 9000.00}
"""
HEADER: Final = "id,msisdn,type,began,amount,called\n"


def figures(setting: Setting) -> Iterator[Figure]:
    """All figures of the group."""
    rows = ROWS_PER_SECOND_OF_BENCH * setting.seconds
    with Stand(new_folder(setting.folder), gateways=1) as stand:
        stand.open_accounts([str(FIRST_ACCOUNT + index) for index in range(ACCOUNTS)])
        file, made, prices = (stand.folder / name for name in ("usage.csv", "bench.toml", "bench.yaml"))
        now_s = int(time.time())
        write_usage(file, rows, now_s)
        made.write_text(FORMAT, "utf-8")
        prices.write_text(catalogue_of(now_s), "utf-8")
        first = _imported(stand, file, made, "accepted", rows)
        rated = [_rated(stand, prices, month) for month in months_of(now_s)]
        again = _imported(stand, file, made, "repeated", rows, "--again")
    if (known := sum(month["rated"] for month in rated)) != rows:
        raise BenchError(f"{known} of {rows} usage rows were rated: {[month['rejects'] for month in rated]}")
    yield from figures_of(rows, first, again, rated)


def catalogue_of(now_s: int) -> str:
    """CATALOGUE with prices of the year before this moment on."""
    year = datetime.fromtimestamp(now_s, UTC).year
    return CATALOGUE.replace("<year>", str(year - 1)).replace("<next>", str(year + 2))


def months_of(now_s: int) -> list[str]:
    """The calendar months, YYYY-MM, that a file of this moment has usage in."""
    ends = (datetime.fromtimestamp(at, UTC) for at in (now_s - _NEWEST_S - _DAYS * 86_400, now_s - _NEWEST_S))
    return sorted({f"{end:%Y-%m}" for end in ends})


def figures_of(
    rows: int, first: dict[str, Any], again: dict[str, Any], rated: Sequence[dict[str, Any]]
) -> Iterator[Figure]:
    """What two imports of one file and the rating of its months told, as figures."""
    what = f"{rows / 1_000_000:g} M rows, {ACCOUNTS:,} accounts and keys at random"
    yield Figure("usage_import_rows_per_s", rows / first["took_s"], "rows/s", f"usage import, whole command: {what}")
    stages = {
        "read": "of it reading and sorting, beside the rest",
        "keys": "of it finding accounts, looking up and taking keys",
        "events": "of it storing events",
    }
    for stage, words in stages.items():
        pace = rows / max(0.001, first[f"{stage}_s"])
        yield Figure(f"usage_import_{stage}_rows_per_s", pace, "rows/s", words)
    yield Figure("usage_import_again_rows_per_s", rows / again["took_s"], "rows/s", "the same file again, all repeats")
    yield Figure("usage_import_peak_mb", first["peak_bytes"] / 1e6, "MB", "memory of the importing process at most")
    took_s = sum(month["took_s"] for month in rated)
    yield Figure("usage_rate_rows_per_s", rows / took_s, "rows/s", f"usage rate of them, {len(rated)} months in turn")
    peak = max(month["peak_bytes"] for month in rated)
    yield Figure("usage_rate_peak_mb", peak / 1e6, "MB", "memory of the largest rating process")


def write_usage(file: Path, rows: int, now_s: int) -> None:
    """A file of FORMAT; the same for the same ``now_s``."""
    chance = np.random.default_rng(SEED)
    items = ("voice", "sms", "data")
    with file.open("w", encoding="ascii") as out:
        out.write(HEADER)
        for first in range(0, rows, _CHUNK):
            count = min(_CHUNK, rows - first)
            columns = (
                (np.arange(first, first + count, dtype=np.uint64) * _SCATTER).tolist(),
                (FIRST_ACCOUNT + chance.integers(0, ACCOUNTS, count)).tolist(),
                chance.integers(0, len(items), count).tolist(),
                (now_s - _NEWEST_S - chance.integers(0, _DAYS * 86_400, count)).tolist(),
                chance.integers(1, 4_000, count).tolist(),
                (74_950_000_000 + chance.integers(0, 10_000_000, count)).tolist(),
            )
            out.writelines(
                f"{key:016x},{account},{items[item]},{began},{amount},{called}\n"
                for key, account, item, began, amount, called in zip(*columns, strict=True)
            )


def _rated(stand: Stand, prices: Path, month: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(stand.do("usage", "rate", "--period", month, "--catalog", str(prices), "--json"))
    return told


def _imported(stand: Stand, file: Path, made: Path, expected: str, rows: int, *options: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(stand.do("usage", "import", str(file), "--format", str(made), "--json", *options))
    if told[expected] != rows:
        raise BenchError(f"{told[expected]} of {rows} usage rows were {expected}: {told}")
    return told
