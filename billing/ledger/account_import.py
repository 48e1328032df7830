"""Many accounts from a CSV file, in one transaction.

Rules. The file is read as a stream and written in slices, so its length costs no memory. Any mistake, anywhere, and
nothing is kept; every mistake up to MAX_PROBLEMS is told with file and line. An account that exists already is left
as it is and gets no opening balance again; the same number twice in one file is a mistake.

Does not know: where the file came from.
"""

import codecs
import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

from billing.database.cursors import Cursor
from billing.ledger.account_store import create_accounts, ids_by_number, new_opening, opened_now, system_account
from billing.ledger.accounts import NewAccount, problem_with
from billing.ledger.transfer_store import post_transfers
from billing.ledger.transfers import Transfer
from billing.refusals import Refusal
from ratingcore.money import Minor, parse_minor

COLUMNS = ("number", "name", "kind", "currency", "state", "balance")
SLICE = 5_000
MAX_PROBLEMS = 20
MAX_LINE_CHARS = 10_000


class ImportRefused(Refusal):
    """The file holds mistakes; ``problems`` are lines ``file:line: what is wrong``."""

    default_code = "file_refused"

    def __init__(self, problems: list[str], more: bool) -> None:
        super().__init__(f"{len(problems)}{' or more' if more else ''} lines are wrong")
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Imported:
    """lines: of accounts in the file; opened: accounts opened; existing: left as they were."""

    lines: int
    opened: int
    existing: int


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    account: NewAccount
    opening: Minor


async def import_accounts(
    cur: Cursor,
    source: IO[bytes],
    name: str,
    actor: str,
    *,
    keep: bool = True,
    charset: str = "utf-8",
    progress: Callable[[int], None] = lambda _lines: None,
) -> Imported:
    """Open every account of a CSV file.

    Args:
        cur: aiopg cursor inside the caller's transaction.
        source: the file; name: what messages call it.
        keep: False looks at everything and leaves nothing in the transaction.
        charset: of the file. progress: told the lines done so far.

    Raises:
        ImportRefused: the file holds mistakes; the caller must roll back.
    """
    await cur.execute("SAVEPOINT import_accounts")
    problems = _Problems(name)
    posting_id = 0
    lines = opened = 0
    for rows in _slices(_rows(source, problems, charset)):
        lines += len(rows)
        progress(lines)
        if problems.found:
            continue  # the rest is only read, to tell every mistake at once
        new = set(await create_accounts(cur, [row.account for row in rows]))
        await _find_repeats(cur, [row for row in rows if row.account.number not in new], problems)
        opened += len(new)
        paying = [row for row in rows if row.opening and row.account.number in new]
        if paying:
            posting_id = posting_id or await new_opening(cur, name, actor)
            await _post_openings(cur, posting_id, paying)
    if problems.found:
        raise ImportRefused(problems.found, problems.more)
    if not keep:
        await cur.execute("ROLLBACK TO SAVEPOINT import_accounts")
    return Imported(lines, opened, lines - opened)


class _Problems:
    """Mistakes found so far."""

    def __init__(self, name: str) -> None:
        self.found: list[str] = []
        self.more = False
        self._name = name

    def add(self, line: int, what: str) -> None:
        if len(self.found) < MAX_PROBLEMS:
            self.found.append(f"{self._name}:{line}: {what}")
        else:
            self.more = True


def _rows(source: IO[bytes], problems: _Problems, charset: str) -> Iterator[_Row]:
    """The file's good rows, until too much is wrong."""
    lines = _decoded(source, problems, charset)
    first = next(lines, "")
    delimiter = max(",;\t", key=first.count)
    header = [cell.strip().lower() for cell in next(csv.reader([first], delimiter=delimiter), [])]
    if not _header_is_good(header, problems):
        return
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    seen_in_slice: dict[str, int] = {}
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            problems.add(reader.line_num + 1, f"not CSV: {error}")
            return
        if cells is None or problems.more:
            return
        if not cells:
            continue  # an empty line
        line = reader.line_num + 1  # the header was taken before
        row = _row(line, header, cells, problems)
        if row is None:
            continue
        if len(seen_in_slice) >= SLICE:
            seen_in_slice.clear()
        earlier = seen_in_slice.setdefault(row.account.number, line)
        if earlier != line:
            problems.add(line, f"account {row.account.number} stands on line {earlier} already")
            continue
        yield row


def _decoded(source: IO[bytes], problems: _Problems, charset: str) -> Iterator[str]:
    """Lines as text; a line in another charset ends the reading, for what follows it cannot be trusted."""
    for number, line in enumerate(iter(lambda: source.readline(MAX_LINE_CHARS * 4), b""), 1):
        try:
            text = (line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).decode(charset)
        except UnicodeDecodeError:
            problems.add(number, f"not {charset}")
            return
        if len(text) > MAX_LINE_CHARS:
            problems.add(number, f"longer than {MAX_LINE_CHARS} characters")
            return
        if "\x00" in text:
            problems.add(number, "holds a zero byte: not a text file")
            return
        yield text


def _header_is_good(header: list[str], problems: _Problems) -> bool:
    if "number" not in header:
        problems.add(1, f"the first line must name the columns, number among them; known are {', '.join(COLUMNS)}")
        return False
    unknown = [name for name in header if name not in COLUMNS]
    if unknown:
        problems.add(1, f"column {unknown[0][:40]!r} is not known; known are {', '.join(COLUMNS)}")
    if len(set(header)) != len(header):
        problems.add(1, "a column stands twice")
    return not problems.found


def _row(line: int, header: list[str], cells: list[str], problems: _Problems) -> _Row | None:
    if len(cells) != len(header):
        problems.add(line, f"{len(cells)} cells, and {len(header)} columns")
        return None
    values = {name: cell.strip() for name, cell in zip(header, cells, strict=True) if cell.strip()}
    balance = values.pop("balance", "0")
    account = NewAccount(**{"number": "", **values})
    problem = problem_with(account)
    opening = Minor(0)
    try:
        opening = parse_minor(balance)
    except ValueError as error:
        problem = problem or f"balance: {error}"
    if problem:
        problems.add(line, problem)
        return None
    return _Row(line, account, opening)


def _slices(rows: Iterator[_Row]) -> Iterator[list[_Row]]:
    part: list[_Row] = []
    for row in rows:
        part.append(row)
        if len(part) == SLICE:
            yield part
            part = []
    if part:
        yield part


async def _find_repeats(cur: Cursor, rows: list[_Row], problems: _Problems) -> None:
    """Of accounts not opened now, those this very transaction opened stand twice in the file."""
    if not rows:
        return
    repeated = await opened_now(cur, [row.account.number for row in rows])
    for row in rows:
        if row.account.number in repeated:
            problems.add(row.line, f"account {row.account.number} stands in the file already")


async def _post_openings(cur: Cursor, posting_id: int, rows: list[_Row]) -> None:
    currencies = {row.account.currency for row in rows}
    adjustments = {currency: await system_account(cur, "adjustment", "", currency) for currency in sorted(currencies)}
    ids = await ids_by_number(cur, [row.account.number for row in rows])
    transfers = []
    for row in rows:
        account_id, currency = ids[row.account.number], row.account.currency
        step = f"open-{account_id}"
        transfers.append(Transfer("manual", posting_id, step, adjustments[currency], account_id, row.opening, currency))
    posting = await post_transfers(cur, transfers)
    if posting.refused:
        transfer, refusal = posting.refused[0]
        raise ValueError(f"opening balance of account {transfer.credit_account_id} refused: {refusal.value}")
