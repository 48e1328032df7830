"""Lines of a usage file in blocks: bounded memory whatever the file holds, and every bad line by its number.

Rules. One line is one event: a quoted line end inside a value is not taken (a lost quote would swallow the rest of the
file). A line is rejected, and nothing else suffers, when it is too long, is not in the declared charset, or holds
control characters (NUL among them). A last line without its end may be half a line, so it is rejected too unless the
format says that the producer ends files so.

Does not know: columns, quotes, values.
"""

import codecs
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import IO, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from billing.usage_format import Format
from billing.usage_time import Ints, flags

BLOCK_BYTES: Final = 16 << 20
#: A block of more lines than this is read in pieces: columns cost some 60 bytes a line, and a line may be one byte.
LINES_MAX: Final = 1_000_000
PIECE_BYTES: Final = 1 << 20
#: What is kept of a rejected line.
RAW_MAX_BYTES: Final = 4_096
_LF, _CR, _TAB = 10, 13, 9
_FOREIGN_MARKS: Final = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}


class UsageFileError(Exception):
    """The file as a whole cannot be read; nothing of it is kept. The message is for people."""


@dataclass(frozen=True, slots=True)
class Raw:
    """A line as it came, without its end; cut: longer than RAW_MAX_BYTES, and the rest is not kept."""

    data: bytes
    cut: bool


@dataclass(frozen=True, slots=True)
class Reject:
    """A line that is no event: reason is a word for lists, detail a sentence about this line."""

    line: int
    reason: str
    detail: str
    raw: Raw


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of whole lines.

    lines: the good ones as UTF-8 strings, each with its end; numbers: theirs in the file. header: the header line, in
    the block where it stood. rejects: the bad ones. read_bytes: of the file so far. raw: any line of the block.
    """

    lines: pa.Array
    numbers: Ints
    header: str | None
    rejects: list[Reject]
    read_bytes: int
    raw: Callable[[int], Raw]


@dataclass(slots=True)
class _Reading:
    """Where the reading stands: number of the next line, bytes read, a header not met yet."""

    made: Format
    number: int = 1
    read_bytes: int = 0
    is_first: bool = True
    rejects: list[Reject] = field(default_factory=list)


def read_blocks(source: IO[bytes], made: Format, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """The file's lines, in order. Memory is a few times ``block_bytes`` at most.

    Raises:
        UsageFileError: no header, a header that cannot be read, another encoding of the whole file.
    """
    state = _Reading(made)
    rest = b""
    while data := source.read(block_bytes):
        state.read_bytes += len(data)
        if state.is_first:
            data = _without_mark(data, made)
            state.is_first = False
        rest += data
        end = rest.rfind(b"\n") + 1
        if end:
            yield from _pieces(rest[:end], state)
            rest = rest[end:]
        elif len(rest) > made.max_line_bytes:
            rest = yield from _skip_long_line(source, state, rest, block_bytes)
    end = rest.rfind(b"\n") + 1
    if end:
        yield from _pieces(rest[:end], state)
    if rest := rest[end:]:
        yield _last_line(rest, state)
    if state.number <= made.skip_lines + made.has_header:
        raise UsageFileError("the file ends before its first event" if state.read_bytes else "the file is empty")


def _without_mark(data: bytes, made: Format) -> bytes:
    for mark, name in _FOREIGN_MARKS.items():
        if data.startswith(mark):
            raise UsageFileError(f"the file is {name}; convert it, for example: iconv -f utf-16 -t utf-8")
    return data.removeprefix(codecs.BOM_UTF8) if made.charset == "utf-8" else data


def _skip_long_line(
    source: IO[bytes], state: _Reading, begun: bytes, block_bytes: int
) -> Generator[Block, None, bytes]:
    """Pass over a line that does not end within bounds; returns what follows it."""
    length, rest = len(begun), b""
    while data := source.read(block_bytes):
        state.read_bytes += len(data)
        end = data.find(b"\n")
        if end >= 0:
            length, rest = length + end, data[end + 1 :]
            break
        length += len(data)
    if state.number <= state.made.skip_lines + state.made.has_header:
        raise UsageFileError(f"line {state.number} is longer than {state.made.max_line_bytes} bytes")
    reject = Reject(state.number, "line_too_long", _too_long(length, state.made), Raw(begun[:RAW_MAX_BYTES], True))
    state.number += 1
    yield _only_reject(reject, state)
    return rest


def _only_reject(reject: Reject, state: _Reading) -> Block:
    return Block(
        pa.array([], pa.string()), np.zeros(0, np.int64), None, [reject], state.read_bytes, lambda _: reject.raw
    )


def _too_long(length: int, made: Format) -> str:
    return f"the line has {length} bytes, and at most {made.max_line_bytes} are taken"


def _last_line(rest: bytes, state: _Reading) -> Block:
    if not state.made.last_line_ends or state.number <= state.made.skip_lines + state.made.has_header:
        return _block(rest + b"\n", state)
    detail = "the file ends inside this line, or its last line end is missing (last_line_ends = false takes it)"
    if len(rest) > state.made.max_line_bytes:
        detail = _too_long(len(rest), state.made)
    reject = Reject(state.number, "cut_line", detail, _raw_of(rest))
    state.number += 1
    return _only_reject(reject, state)


def _raw_of(line: bytes) -> Raw:
    line = line.removesuffix(b"\n").removesuffix(b"\r")
    return Raw(line[:RAW_MAX_BYTES], len(line) > RAW_MAX_BYTES)


def _pieces(data: bytes, state: _Reading) -> Iterator[Block]:
    """Whole lines to blocks: one, unless there are very many short lines."""
    if data.count(b"\n") <= LINES_MAX:
        yield _block(data, state)
        return
    start = 0
    while start < len(data):
        end = data.rfind(b"\n", start, start + PIECE_BYTES) + 1 or data.find(b"\n", start + PIECE_BYTES) + 1
        yield _block(data[start:end], state)
        start = end


def _block(data: bytes, state: _Reading) -> Block:
    """Whole lines to a block: what must not be read is taken out."""
    made, first = state.made, state.number
    octets = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(octets == _LF) + 1
    starts = np.concatenate([[0], ends[:-1]])
    count = len(ends)
    state.number += count

    def raw(number: int) -> Raw:
        index = number - first
        return _raw_of(data[starts[index] : min(ends[index], starts[index] + RAW_MAX_BYTES + 3)])

    reasons: dict[int, tuple[str, str]] = {}
    keep = np.ones(count, np.bool_)
    for index in np.flatnonzero(ends - starts > made.max_line_bytes).tolist():
        reasons[index] = ("line_too_long", _too_long(int(ends[index] - starts[index]), made))
    for index in _with_control_characters(octets, ends).tolist():
        reasons.setdefault(index, ("control_character", "the line holds a NUL or another control character"))
    lines = _decoded(data, octets, starts, ends, made, reasons)
    keep[list(reasons)] = False
    skipped = max(0, min(count, made.skip_lines + made.has_header - first + 1))
    header_index = made.skip_lines + 1 - first
    has_header = made.has_header and 0 <= header_index < count
    header = _header(lines, header_index, reasons, made) if has_header else None
    keep[:skipped] = False
    passed = np.arange(count) < skipped
    if made.skip_prefix:
        passed |= flags(pc.starts_with(lines, made.skip_prefix))
    lengths = ends - starts
    passed |= (lengths == 1) | ((lengths == 2) & (octets[starts] == _CR))
    keep &= ~passed
    rejects = [
        Reject(first + index, reason, detail, raw(first + index))
        for index, (reason, detail) in sorted(reasons.items())
        if not passed[index]
    ]
    good = lines if keep.all() else lines.filter(pa.array(keep))
    return Block(good, first + np.flatnonzero(keep), header, rejects, state.read_bytes, raw)


def _header(lines: pa.Array, index: int, reasons: dict[int, tuple[str, str]], made: Format) -> str:
    if index in reasons:
        raise UsageFileError(f"line {made.skip_lines + 1} names the columns and cannot be read: {reasons[index][1]}")
    return str(lines[index].as_py()).rstrip("\r\n")


def _with_control_characters(octets: NDArray[np.uint8], ends: Ints) -> Ints:
    """Indices of lines with bytes below 32 other than tab, and the line's end as LF or CR LF."""
    places = np.flatnonzero(octets < 32)
    found = octets[places]
    suspicious: Ints = places[(found != _LF) & (found != _TAB)]
    if not len(suspicious):
        return suspicious
    # The last byte is a line end, so there is always a next one.
    bad = suspicious[~((octets[suspicious] == _CR) & (octets[suspicious + 1] == _LF))]
    found_in: Ints = np.unique(np.searchsorted(ends, bad, side="right"))
    return found_in


def _decoded(
    data: bytes, octets: NDArray[np.uint8], starts: Ints, ends: Ints, made: Format, reasons: dict[int, tuple[str, str]]
) -> pa.Array:
    """All lines as UTF-8 strings; those that cannot be decoded become empty and are told in ``reasons``."""
    if data.isascii():
        return _strings(data, ends)
    if made.charset == "utf-8" and _decodes(data, "utf-8"):
        lines = _strings(data, ends)
    else:
        lines = _decoded_one_by_one(data, octets, starts, ends, made, reasons)
    # A mark in the middle of a file: files were joined. It would hide in the first column.
    for index in np.flatnonzero(flags(pc.starts_with(lines, "\ufeff"))).tolist():
        reasons.setdefault(
            index, ("byte_order_mark", "the line begins with a byte order mark: were files joined here?")
        )
    return lines


def _decodes(data: bytes, charset: str) -> bool:
    try:
        data.decode(charset)
    except UnicodeDecodeError:
        return False
    return True


def _decoded_one_by_one(
    data: bytes, octets: NDArray[np.uint8], starts: Ints, ends: Ints, made: Format, reasons: dict[int, tuple[str, str]]
) -> pa.Array:
    """For other charsets than UTF-8, and for blocks with a bad line: only lines beyond ASCII are looked at."""
    if made.charset != "utf-8" and _decodes(data, made.charset):
        text = data.decode(made.charset).encode("utf-8")
        return _strings(text, np.flatnonzero(np.frombuffer(text, np.uint8) == _LF) + 1)
    parts: list[bytes] = []
    done = 0
    for index in np.unique(np.searchsorted(ends, np.flatnonzero(octets >= 128), side="right")).tolist():
        start, end = int(starts[index]), int(ends[index])
        parts.append(data[done:start])
        try:
            parts.append(data[start:end].decode(made.charset).encode("utf-8"))
        except UnicodeDecodeError as error:
            reasons.setdefault(index, ("charset", f"not {made.charset} at byte {error.start + 1} of the line"))
            parts.append(b"\n")
        done = end
    text = b"".join([*parts, data[done:]])
    return _strings(text, np.flatnonzero(np.frombuffer(text, np.uint8) == _LF) + 1)


def _strings(data: bytes, ends: Ints) -> Any:
    """Lines over the same bytes, without a copy. A block is far below 2 GB."""
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    return pa.Array.from_buffers(pa.string(), len(ends), [None, pa.py_buffer(offsets), pa.py_buffer(data)])
