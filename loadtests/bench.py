"""`make bench`: the figures of this machine in one run, printed as a table and written as flat JSON.

Environment: BENCH_JSON names the file for ``{name: number}``; BENCH_ONLY, names of groups separated by commas, runs
those alone; BENCH_SECONDS (5) is the length of one measurement; BENCH_PAYMENTS (1000000) how many payments the search
page has; BENCH_CUSTOMERS (200000) how many customers the lists have, with ten invoices each; BENCH_DIR (build/bench)
is where the throw-away installation lives.

Rules. Figures are printed, never asserted. A run whose answers are wrong is no figure and ends the bench. Everything
shares this machine's cores: generator, gateways and PostgreSQL; who generates the load and what it could do at most is
among the figures. A group is a function that yields figures; a new one is a line in `GROUPS`.

Does not know: which figures are good enough.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import tornado
from rich.console import Console
from rich.table import Table

from loadtests import bench_deliveries, bench_lists, bench_payments, bench_rating, bench_search, bench_usage
from loadtests.figures import BenchError, Figure, Setting
from loadtests.stand import StandError

#: Groups of figures by name, in the order they run.
GROUPS: Final[Mapping[str, Callable[[Setting], Iterator[Figure]]]] = {
    "payments": bench_payments.figures,
    "search": bench_search.figures,
    "lists": bench_lists.figures,
    "usage": bench_usage.figures,
    "rating": bench_rating.figures,
    "deliveries": bench_deliveries.figures,
}


@dataclass(frozen=True, slots=True)
class Options:
    """What to run. json_path: empty for none."""

    groups: tuple[str, ...]
    setting: Setting
    json_path: str = ""


def options_from(environ: Mapping[str, str]) -> Options:
    """Options from BENCH_ variables.

    Raises:
        ValueError: an unknown group, or a length that is no number of seconds.
    """
    chosen = tuple(name.strip() for name in environ.get("BENCH_ONLY", "").split(",") if name.strip())
    for name in chosen:
        if name not in GROUPS:
            raise ValueError(f"BENCH_ONLY: no group {name!r}; there are {', '.join(GROUPS)}")
    text = environ.get("BENCH_SECONDS", "5")
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"BENCH_SECONDS must be a whole number of seconds, not {text!r}")
    payments = environ.get("BENCH_PAYMENTS", str(Setting().payments))
    if not payments.isdigit() or int(payments) < 1_000:
        raise ValueError(f"BENCH_PAYMENTS must be a whole number of 1000 or more, not {payments!r}")
    customers = environ.get("BENCH_CUSTOMERS", str(Setting().customers))
    if not customers.isdigit() or int(customers) < 1_000:
        raise ValueError(f"BENCH_CUSTOMERS must be a whole number of 1000 or more, not {customers!r}")
    setting = Setting(int(text), environ.get("BENCH_DIR", "build/bench"), int(payments), int(customers))
    return Options(chosen or tuple(GROUPS), setting, environ.get("BENCH_JSON", ""))


def run(options: Options, say: Console) -> list[Figure]:
    """Every figure of the chosen groups, each said as it comes where somebody is looking."""
    found = []
    for group in options.groups:
        for figure in GROUPS[group](options.setting):
            if say.is_terminal:
                say.print(f"  {figure.name} {figure.shown}", highlight=False)
            found.append(figure)
    return found


def table(figures: list[Figure]) -> Table:
    """All figures for a person."""
    shown = Table("figure", "value", "unit", "what it is", title=f"Kopeck on {machine()}")
    shown.columns[1].justify = "right"
    shown.caption = (
        "Load by loadtests.generator on the same cores. PostgreSQL answered before the first payment that fsync, "
        "synchronous_commit and full_page_writes are on."
    )
    for figure in figures:
        shown.add_row(figure.name, figure.shown, figure.unit, figure.what)
    return shown


def write_json(figures: list[Figure], path: Path) -> None:
    """All figures for a program: one flat object of name and number."""
    flat = {figure.name: round(figure.value, 3) for figure in figures}
    path.write_text(json.dumps(flat, indent=1) + "\n", "utf-8")


def machine() -> str:
    """What the figures are of."""
    return (
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, Tornado {tornado.version}"
    )


def main() -> None:
    say = Console(width=None if sys.stdout.isatty() else 140)
    started_at = time.monotonic()
    try:
        options = options_from(os.environ)
        figures = run(options, say)
    except (BenchError, StandError, ValueError) as error:
        say.print(f"bench: {error}", markup=False)
        sys.exit(2)
    say.print(table(figures))
    say.print(f"{time.monotonic() - started_at:.0f} s")
    if options.json_path:
        write_json(figures, Path(options.json_path))


if __name__ == "__main__":
    main()
