"""Files of customers and orders as columns: read in parts, judged by distinct values, loaded whole or not at all.

Rules. The first line names the columns. Every line is a good row or a bad line with a reason; a bad line stops
nothing from being read, so that all of them are told at once. What is dear is done once for values that differ: a
million rows name a dozen plans. One load is one transaction, rolled back where a line is bad and bad ones are not to
be skipped.

Does not know: what a column means; the way of usage files (usage_lines, usage_columns) splits the lines.
"""

import codecs
import csv
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Final, Generic, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from billing.database.adbc import do, rows
from billing.database.cursors import ColumnConnection
from billing.files.columns import find_columns, split_block
from billing.files.format import AccountField, Format, ItemField, QuantityField, TimeField
from billing.files.lines import BLOCK_BYTES, UsageFileError, read_blocks
from billing.refusals import Refusal

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
T = TypeVar("T")

MAX_HEADER_BYTES: Final = 10_000
SEPARATORS: Final = ",;\t"
YES_NO: Final = {"yes": True, "no": False, "true": True, "false": False, "1": True, "0": False, "": False}


class ImportFileError(Refusal):
    """The file as a whole cannot be read. The message is for people."""

    default_code = "file_refused"


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line of the file and why it was not loaded."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class TablePart:
    """Rows of a part of the file: texts by column, empty where the file has no such column; lines: theirs."""

    texts: Mapping[str, pa.Array]
    lines: Ints
    bad: list[BadLine]

    @property
    def count(self) -> int:
        """Lines, good and bad."""
        return len(self.lines) + len(self.bad)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of a file. is_refused: lines were bad, so nothing was loaded."""

    lines: int
    added: int
    repeated: int
    bad: list[BadLine]
    is_refused: bool
    stages_s: Mapping[str, float]


@dataclass(slots=True)
class Problems:
    """Rows of a part that are bad, each with the first reason found."""

    found: dict[int, str] = field(default_factory=dict)

    def add(self, where: Any, reason: str) -> None:
        """Rows for which a column is true (null is not)."""
        flags = np.asarray(pc.fill_null(where, False)) if isinstance(where, pa.Array | pa.ChunkedArray) else where
        for row in np.flatnonzero(flags).tolist():
            self.found.setdefault(row, reason)

    def add_coded(self, codes: Ints, wrong: Mapping[int, str]) -> None:
        """Rows whose code is wrong, each with that code's reason."""
        if wrong:
            for row in np.flatnonzero(np.isin(codes, list(wrong))).tolist():
                self.found.setdefault(row, wrong[int(codes[row])])

    def good(self, count: int) -> Flags:
        keep = np.ones(count, np.bool_)
        keep[list(self.found)] = False
        return keep

    def lines(self, part: TablePart) -> list[BadLine]:
        return [BadLine(int(part.lines[row]), reason) for row, reason in sorted(self.found.items())]


@dataclass(frozen=True, slots=True)
class Coded(Generic[T]):
    """A column of few values: which value each row has."""

    codes: Ints
    values: Sequence[T]

    def at(self, row: int) -> T:
        """The value of a row."""
        return self.values[int(self.codes[row])]


def read_parts(
    source: IO[bytes],
    known: Sequence[str],
    needed: Sequence[str],
    block_bytes: int = BLOCK_BYTES,
    *,
    charset: str = "utf-8",
) -> Iterator[TablePart]:
    """The file in parts of some hundred thousand lines. charset: one of usage_format.CHARSETS.

    Raises:
        ImportFileError: no header, or one that lacks a needed column, repeats one or has one that is not known.
    """
    header, separator = _header(source, known, needed, charset)
    made = _format(header, separator, charset)
    places = find_columns(made, None)
    try:
        for block in read_blocks(source, made, block_bytes):
            columns = split_block(block, made, places)
            bad = [BadLine(one.line + 1, one.detail) for one in [*block.rejects, *columns.rejects]]
            empty = pa.repeat(pa.scalar(""), len(columns.numbers))
            texts = {name: columns.texts.get(name, empty) for name in known}
            yield TablePart(texts, columns.numbers + 1, bad)
    except UsageFileError as error:
        raise ImportFileError(str(error)) from error


def _header(source: IO[bytes], known: Sequence[str], needed: Sequence[str], charset: str) -> tuple[list[str], str]:
    line = source.readline(MAX_HEADER_BYTES)
    try:
        text = line.removeprefix(codecs.BOM_UTF8).decode(charset).rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise ImportFileError(f"line 1 is not {charset}") from error
    separator = max(SEPARATORS, key=text.count)
    names = [cell.strip().lower() for cell in next(csv.reader([text], delimiter=separator), [])]
    what = f"line 1 must name the columns, {' and '.join(needed)} among them; known are {', '.join(known)}"
    if not set(needed) <= set(names):
        raise ImportFileError(what)
    for name in names:
        if name not in known:
            raise ImportFileError(f"line 1: column {name[:40]!r} is not known; known are {', '.join(known)}")
        if names.count(name) > 1:
            raise ImportFileError(f"line 1: column {name} stands twice")
    return names, separator


def _format(header: Sequence[str], separator: str, charset: str) -> Format:
    """As lines of usage, of which every column is part of the key: so all are read."""
    return Format(
        kind="csv",
        source="import",
        key=tuple(header),
        account=AccountField(column=header[0]),
        item=ItemField(value="x"),
        time=TimeField(column=header[0], format="unix_s"),
        quantity=QuantityField(value=1),
        charset=charset,
        delimiter=separator,
        columns=tuple(header),
        header=False,
        last_line_ends=False,
    )


# ---- by distinct values


def coded(texts: pa.Array) -> Coded[str]:
    """A column of text by its distinct values."""
    found = texts.dictionary_encode()
    return Coded(np.asarray(found.indices).astype(np.int64), found.dictionary.to_pylist())


def distinct_rows(columns: Sequence[Coded[Any]]) -> tuple[Ints, Ints]:
    """(which combination each row has, a row of each combination) of columns of one length, at least one."""
    code, width = columns[0].codes, len(columns[0].values)
    for column in columns[1:]:
        if len(column.values) < 2:
            continue
        if width * len(column.values) >= 1 << 62:
            _, code = np.unique(code, return_inverse=True)
            width = len(code)
        code = code * len(column.values) + column.codes
        width *= len(column.values)
    _, firsts, inverse = np.unique(code, return_index=True, return_inverse=True)
    return inverse.astype(np.int64), firsts


def each(columns: Sequence[Coded[Any]], work: Callable[..., T], none: T, problems: Problems, what: str) -> Coded[T]:
    """``work`` once for every combination of values; where it raises ValueError the rows are bad and have ``none``."""
    codes, firsts = distinct_rows(columns)
    values: list[T] = []
    wrong: dict[int, str] = {}
    for number, row in enumerate(firsts.tolist()):
        try:
            values.append(work(*(column.at(row) for column in columns)))
        except ValueError as error:
            wrong[number] = f"{what}: {error}" if what else str(error)
            values.append(none)
    problems.add_coded(codes, wrong)
    return Coded(codes, values)


def numbers(found: Coded[int]) -> Ints:
    """A column of numbers, row by row."""
    return np.array(found.values, np.int64)[found.codes] if len(found.values) else np.zeros(0, np.int64)


def flags(found: Coded[bool]) -> Flags:
    """A column of truth values, row by row."""
    return np.array(found.values, np.bool_)[found.codes] if len(found.values) else np.zeros(0, np.bool_)


def yes_or_no(text: str) -> bool:
    """yes, no, true, false, 1, 0; empty is no. Raises ValueError."""
    if text.lower() not in YES_NO:
        raise ValueError(f"{text[:40]!r} is not yes or no")
    return YES_NO[text.lower()]


def whole_number(text: str, default: int) -> int:
    """Up to eighteen digits, with a sign or without; empty is the default. Raises ValueError."""
    digits = text.removeprefix("-")
    if text and not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
        raise ValueError(f"{text[:40]!r} is no whole number")
    return int(text) if text else default


def unprintable(texts: pa.Array, longest: int) -> Any:
    """Rows whose text is longer than that, or holds what cannot be printed."""
    return pc.or_(
        pc.greater(pc.utf8_length(texts), longest),
        pc.and_(pc.invert(pc.utf8_is_printable(texts)), pc.not_equal(texts, "")),
    )


# ---- staging

#: No loops: the planner knows nothing of tables that the file itself fills, and would look each line up among all.
SESSION: Final = ("SET LOCAL work_mem = '128MB'", "SET LOCAL enable_nestloop = off", "SET LOCAL jit = off")

#: Rows that a load will not take, told from inside the database.
BAD_TABLE: Final = "CREATE TEMPORARY TABLE import_bad (line bigint, reason text) ON COMMIT DROP"

_BAD: Final = "SELECT line, reason FROM import_bad ORDER BY line"


def stage(opened: ColumnConnection, table: str, data: pa.Table) -> None:
    """Append rows to a temporary table by binary COPY."""
    if data.num_rows:
        with opened.cursor() as cur:
            cur.adbc_ingest(table, data, mode="append", temporary=True)


def set_aside(opened: ColumnConnection, table: str, found: str) -> None:
    """Take lines out of a staging table; ``found`` selects (line, reason) of them, a null reason for harmless ones."""
    do(opened, f"INSERT INTO import_bad {found}")
    do(opened, f"DELETE FROM {table} s USING import_bad b WHERE b.line = s.line")


def bad_lines(opened: ColumnConnection) -> tuple[list[BadLine], int]:
    """(lines set aside with a reason, how many without one)."""
    found = rows(opened, _BAD)
    return [BadLine(line, reason) for line, reason in found if reason], sum(reason is None for _, reason in found)


# ---- a load


@dataclass(frozen=True, slots=True)
class Target:
    """Where a file goes.

    columns: it may have these; needed: it must have these. staging: the table that rows are copied to; rows: the table
    that holds those to add when all is checked.
    """

    columns: Sequence[str]
    needed: Sequence[str]
    staging: str
    rows: str


@dataclass(frozen=True, slots=True)
class Steps:
    """What is done to a file, all in the transaction of the load.

    judge: rows to stage and bad lines of a part. check: sets aside what the database says is bad. add: what is left.
    """

    judge: Callable[[TablePart], tuple[pa.Table, list[BadLine]]]
    check: Callable[[], None]
    add: Callable[[Loaded], None]


@dataclass(frozen=True, slots=True)
class How:
    """What the caller wants.

    keep: False looks at everything and keeps nothing. skip_bad: load the good lines although others are bad.
    progress: told the lines read so far. charset: of the file.
    """

    keep: bool = True
    skip_bad: bool = False
    progress: Callable[[int], None] = lambda _lines: None
    charset: str = "utf-8"


def load_file(opened: ColumnConnection, source: IO[bytes], target: Target, steps: Steps, how: How) -> Loaded:
    """Read, judge and stage a file, check it as a whole, and add it: commits, or rolls back what is not to be kept.

    Raises:
        ImportFileError: the file as a whole is wrong; the caller's connection rolls back.
    """
    clock = _Clock()
    bad: list[BadLine] = []
    count = 0
    for part in read_parts(source, target.columns, target.needed, charset=how.charset):
        clock.spend("read")
        staged, refused = steps.judge(part)
        clock.spend("judge")
        stage(opened, target.staging, staged)
        bad += part.bad + refused
        count += part.count
        how.progress(count)
        clock.spend("stage")
    steps.check()
    more, repeated = bad_lines(opened)
    bad = sorted([*bad, *more], key=lambda one: one.line)
    is_refused = bool(bad) and not how.skip_bad
    added = 0 if is_refused else int(rows(opened, f"SELECT count(*) FROM {target.rows}")[0][0])
    clock.spend("check")
    found = Loaded(count, added, repeated, bad, is_refused, clock.spent_s)
    if is_refused or not how.keep:
        opened.rollback()
    else:
        steps.add(found)
        clock.spend("store")
        opened.commit()
    clock.spend("commit")
    return found


class _Clock:
    """Where the time of a load went, by stage."""

    def __init__(self) -> None:
        self.spent_s = dict.fromkeys(("read", "judge", "stage", "check", "store", "commit"), 0.0)
        self._at = time.monotonic()

    def spend(self, stage_name: str) -> None:
        """Add the time since the last call to a stage."""
        now = time.monotonic()
        self.spent_s[stage_name] += now - self._at
        self._at = now
