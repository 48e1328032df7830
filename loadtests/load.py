"""`make load`: a real installation under load and faults, then the auditor and `kopeck verify`.

Environment, with defaults:

    LOAD_PAYMENTS   100000       payments at least; more are made for as long as faults are still to come
    LOAD_PROCESSES  2            gateway processes
    LOAD_USERS      48           aggregators' connections at a time
    LOAD_SEED       1            of the deck of stories
    LOAD_ACCOUNTS   2000         subscribers
    LOAD_FAULTS     6            how many of the schedule of faults; 0 for none
    LOAD_PAUSE_S    20           how long the journal server stands still
    LOAD_DIR        build/load   where the throw-away installation is made
    LOAD_KEEP       0            1 keeps it; after a difference it is kept anyway

Settings of the product come from its own ``KOPECK_`` variables.

The run is told by Locust users in a process of their own (`swarm`), hurt on a schedule (`faults`), and judged from
the users' own record (`auditor`). Exit status 1 on any difference.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table

from loadtests.auditor import Audit, Background, audit, read_books
from loadtests.faults import Struck, schedule, strike_when_due
from loadtests.partners import cyberplat_partner, open_line, osmp_partner
from loadtests.record import read_record
from loadtests.stand import Stand, StandError, new_folder
from loadtests.stories import PER_THOUSAND

#: How long the relay may take for what is left when the last story has been told; the embedded server does about
#: a thousand documents a second.
DRAIN_TIMEOUT_S: Final = 1_800.0
FIRST_ACCOUNT: Final = 79160000000


@dataclass(frozen=True, slots=True)
class Options:
    """What to run. faults: how many of the schedule; pause_s: how long the journal server stands still."""

    payments: int = 100_000
    processes: int = 2
    users: int = 48
    seed: int = 1
    accounts: int = 2_000
    faults: int = 6
    pause_s: int = 20
    folder: str = "build/load"
    keep: bool = False


#: Options that are numbers, and the least each may be: two gateways, or killing one leaves nobody to repeat to.
_NUMBERS: Final = (
    ("payments", 100),
    ("processes", 2),
    ("users", 1),
    ("seed", 0),
    ("accounts", 20),
    ("pause_s", 1),
    ("faults", 0),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run went. seconds: from the first story to the last; told: stories by kind; stats: Locust's rows."""

    audit: Audit
    verified: bool
    verify_text: str
    seconds: float
    told: Mapping[str, int]
    stats: list[list[Any]]
    struck: list[Struck]
    folder: Path

    @property
    def is_clean(self) -> bool:
        return not self.audit.differences and self.verified


def options_from(environ: Mapping[str, str]) -> Options:
    """Options from LOAD_ variables.

    Raises:
        ValueError: a variable that is not a number, or too small.
    """
    default = Options()
    numbers = {}
    for name, least in _NUMBERS:
        variable = f"LOAD_{name.upper()}"
        text = environ.get(variable, str(getattr(default, name)))
        if not text.isdigit() or int(text) < least:
            raise ValueError(f"{variable} must be a whole number of at least {least}, not {text!r}")
        numbers[name] = int(text)
    return Options(
        **numbers,
        folder=environ.get("LOAD_DIR", default.folder),
        keep=environ.get("LOAD_KEEP", "0") != "0",
    )


def run(options: Options, say: Console) -> Outcome:
    """One whole run.

    Raises:
        StandError: the product did not start, did not come back, or the swarm broke off.
    """
    stand = Stand(new_folder(options.folder), gateways=options.processes, keep=options.keep)
    with stand:
        partners = [osmp_partner("load-osmp", "aggregators-password"), cyberplat_partner("load-cyberplat")]
        numbers = [str(FIRST_ACCOUNT + index) for index in range(options.accounts)]
        stand.connect(partners)
        stand.open_accounts(numbers)
        record = stand.folder / "record.jsonl"
        order = {
            "host": "127.0.0.1",
            "port": stand.ports.partners,
            "partners": partners,
            "accounts": numbers,
            "payments": options.payments,
            "users": options.users,
            "seed": options.seed,
            "record": str(record),
        }
        say.print(f"{options.payments} payments, {options.users} users, {options.processes} gateway processes")
        started_at = time.monotonic()
        struck, news = _play(stand, order, options, say)
        seconds = time.monotonic() - started_at
        say.print(f"told in {seconds:.0f} s; waiting for the relay")
        stand.wait_until("empty: the outbox", lambda: stand.outbox_rows() == 0, DRAIN_TIMEOUT_S)
        lines = {partner.code: open_line(partner) for partner in partners}
        background = Background(lines, frozenset(numbers), tuple(struck))
        judged = audit(read_record(record), read_books(stand.dsn()), background)
        say.print(f"{len(judged.differences)} audit differences; waiting for kopeck verify")
        verify = stand.command("verify")
        outcome = Outcome(
            audit=judged,
            verified=verify.returncode == 0,
            verify_text=(verify.stdout + verify.stderr).strip(),
            seconds=seconds,
            told=news["kinds"],
            stats=news["stats"],
            struck=struck,
            folder=stand.folder,
        )
        if not outcome.is_clean:
            stand.keep()
        return outcome


def _play(stand: Stand, order: dict[str, Any], options: Options, say: Console) -> tuple[list[Struck], dict[str, Any]]:
    """Run the swarm as a process and the faults beside it; returns the faults and the swarm's last news."""
    path = stand.folder / "order.json"
    path.write_bytes(msgspec.json.encode(order))
    argv = [sys.executable, "-m", "loadtests.swarm", str(path)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdin is not None
    news: dict[str, Any] = {"told": 0}
    reader = threading.Thread(target=_follow, args=(process, news), daemon=True)
    reader.start()

    def share_told() -> float:
        if process.poll() is not None:
            raise StandError(f"the swarm ended with {process.returncode} before its time")
        return float(news["told"]) / options.payments

    struck = []
    try:
        for event in strike_when_due(stand, schedule(options.pause_s)[: options.faults], share_told):
            say.print(f"  {news['told']} told: {event.name}, healthy again after {event.over_at - event.at:.1f} s")
            struck.append(event)
        process.stdin.close()
        if process.wait() != 0:
            raise StandError(f"the swarm ended with {process.returncode}")
        reader.join()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    return struck, news


def _follow(process: "subprocess.Popen[str]", news: dict[str, Any]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        news.update(json.loads(line))


# ---- what a person sees ----


def show(outcome: Outcome, say: Console) -> None:
    """Tables of what was played, how Locust saw it, and what the auditor found."""
    played = Table("story", "times", title="Played")
    played.columns[1].justify = "right"
    for kind in ("plain", *PER_THOUSAND):
        count = outcome.told.get(kind, 0)
        played.add_row(kind, str(count))
    for struck in outcome.struck:
        played.add_row(f"[bold]{struck.name}", f"{struck.over_at - struck.at:.1f} s")
    say.print(played)
    requests = Table("request", "count", "no answer", "median ms", "p99 ms", title="Locust")
    for column in requests.columns[1:]:
        column.justify = "right"
    for name, count, failures, median, p99 in outcome.stats:
        requests.add_row(name, str(count), str(failures), f"{median:.0f}", f"{p99:.0f}")
    say.print(requests)
    books = Table("examined", "number", title="Auditor")
    books.columns[1].justify = "right"
    for name, count in outcome.audit.examined.items():
        books.add_row(name, f"{count:,}".replace(",", " "))
    say.print(books)
    for note in outcome.audit.notes:
        say.print(f"note: {note}")
    for difference in outcome.audit.differences[:50]:
        say.print(f"[red]{difference}", markup=True, highlight=False)
    say.print(f"{len(outcome.audit.differences)} audit differences; kopeck verify: ", end="")
    say.print("clean" if outcome.verified else "[red]DIFFERENCES")
    say.print(outcome.verify_text, markup=False, highlight=False)


def main() -> None:
    say = Console()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the stand is taken down with us
    try:
        outcome = run(options_from(os.environ), say)
    except (StandError, ValueError) as error:
        say.print(f"load: {error}", markup=False)
        sys.exit(2)
    show(outcome, say)
    if not outcome.is_clean:
        say.print(f"everything is kept in {outcome.folder}")
        sys.exit(1)


if __name__ == "__main__":
    main()
