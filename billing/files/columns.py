"""Lines of a text file to columns of text: CSV and TSV by Arrow's reader, fixed width by slices, JSON by msgspec.

Rules. Every line gives one row or one reject, and a row knows its line. Quotes are judged before Arrow sees a line,
because an unclosed one would join it with its neighbours. Numbers in JSON stay text to the digit: none becomes a
float. Blanks around a value are not part of it. An absent or null JSON value is the empty text.

Does not know: what a column means.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from billing.files.layout import MAX_COLUMNS, Layout
from billing.files.lines import Block, Reject, UnreadableFile
from billing.files.times import Flags, Ints, flags

_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class Columns:
    """texts: by the wanted columns' names, of one length; numbers: the rows' lines."""

    texts: Mapping[str, pa.Array]
    numbers: Ints
    rejects: list[Reject]


def find_columns(layout: Layout, wanted: Sequence[str], header: str | None) -> dict[str, int]:
    """Where each wanted column of a csv or tsv stands, from 0, and under ``""`` how many there are; {} for other kinds.

    Raises:
        UnreadableFile: the header lacks a column, or has one twice.
    """
    if layout.kind not in ("csv", "tsv"):
        return {}
    names = list(layout.columns)
    if header is not None:
        names = _cells_of(header, layout)
    if len(names) > MAX_COLUMNS:
        raise UnreadableFile(f"the header names {len(names)} columns, and at most {MAX_COLUMNS} are taken")
    for name in wanted:
        if names.count(name) != 1:
            said = "has no column" if name not in names else "has more than one column"
            raise UnreadableFile(f"the header {said} {name!r}: {', '.join(names)[:300]}")
    return {**{name: names.index(name) for name in wanted}, "": len(names)}


def split_block(block: Block, layout: Layout, wanted: Sequence[str], places: Mapping[str, int]) -> Columns:
    """The block's good lines as columns of text; ``places`` are those of ``find_columns``."""
    if layout.kind == "jsonlines":
        found = _split_json(block, wanted)
    elif layout.kind == "fixed":
        found = _split_fixed(block, layout, wanted)
    else:
        found = _split_separated(block, layout, wanted, places)
    trimmed = {name: pc.ascii_trim(column, " \t") for name, column in found.texts.items()}
    return Columns(trimmed, found.numbers, found.rejects)


def _cells_of(line: str, layout: Layout) -> list[str]:
    whole = pa.array([line + "\n"])
    if not line or (layout.quote_character and _badly_quoted(whole, layout).any()):
        raise UnreadableFile(f"the header cannot be read: {line[:200]!r}")
    table = _read_separated(line.encode("utf-8") + b"\n", layout, (), None, [])
    return [column[0].as_py().strip() for column in table.columns]


def _split_separated(block: Block, layout: Layout, wanted: Sequence[str], places: Mapping[str, int]) -> Columns:
    lines, numbers = block.lines, block.numbers
    rejects: list[Reject] = []
    if layout.quote_character:
        bad = _badly_quoted(lines, layout)
        detail = f"the quotes ({layout.quote_character}) do not close before the line ends, or text stands outside them"
        rejects = [Reject(line, "quotes", detail, block.raw(line)) for line in numbers[bad].tolist()]
        if bad.any():
            lines, numbers = lines.filter(pa.array(~bad)), numbers[~bad]
    if not len(lines):
        return Columns({name: pa.array([], pa.string()) for name in wanted}, numbers, rejects)
    ragged: list[pacsv.InvalidRow] = []
    table = _read_separated(_bytes_of(lines), layout, wanted, places, ragged)
    if table.num_rows + len(ragged) != len(lines):
        raise AssertionError(f"{len(lines)} lines became {table.num_rows} rows and {len(ragged)} rejects")
    keep = np.ones(len(lines), np.bool_)
    for row in ragged:
        line = int(numbers[row.number - 1])
        detail = f"{row.actual_columns} columns, and {row.expected_columns} are named"
        rejects.append(Reject(line, "columns", detail, block.raw(line)))
        keep[row.number - 1] = False
    texts = {name: _one_array(table.column(str(places[name]))) for name in wanted}
    return Columns(texts, numbers[keep], rejects)


def _badly_quoted(lines: pa.Array, layout: Layout) -> Flags:
    """Lines in which a quoted value does not close, or a quote stands inside a value that is not quoted."""
    quote, separator = re.escape(layout.quote_character), re.escape(layout.separator)
    suspects = flags(pc.match_substring(lines, layout.quote_character))
    if not suspects.any():
        return suspects
    value = rf"(?:{quote}(?:[^{quote}\r\n]|{quote}{quote})*{quote}|[^{quote}{separator}\r\n]*)"
    sound = flags(pc.match_substring_regex(lines, rf"^{value}(?:{separator}{value})*\r?\n$"))
    return suspects & ~sound


def _read_separated(
    data: Any, layout: Layout, wanted: Sequence[str], places: Mapping[str, int] | None, ragged: list[Any]
) -> pa.Table:
    """Arrow's reader over whole lines; places None reads every column of one line."""

    def on_ragged(row: pacsv.InvalidRow) -> str:
        ragged.append(row)
        return "skip"

    names = [str(place) for place in range(places[""])] if places is not None else None
    included = [str(places[name]) for name in wanted] if places is not None else None
    return pacsv.read_csv(
        pa.BufferReader(data),
        # One thread: Arrow numbers rejected rows only then.
        read_options=pacsv.ReadOptions(
            column_names=names, autogenerate_column_names=names is None, use_threads=False, block_size=1 << 20
        ),
        parse_options=pacsv.ParseOptions(
            delimiter=layout.separator,
            quote_char=layout.quote_character or False,
            double_quote=True,
            escape_char=False,
            newlines_in_values=False,
            ignore_empty_lines=False,
            invalid_row_handler=on_ragged,
        ),
        convert_options=pacsv.ConvertOptions(
            column_types={name: pa.string() for name in names or [f"f{place}" for place in range(MAX_COLUMNS)]},
            include_columns=included,
            strings_can_be_null=False,
            quoted_strings_can_be_null=False,
            null_values=[],
        ),
    )


def _bytes_of(lines: pa.Array) -> Any:
    """The bytes under adjacent strings: whole lines again, without a copy."""
    offsets = np.frombuffer(lines.buffers()[1], np.int32)[lines.offset : lines.offset + len(lines) + 1]
    return lines.buffers()[2][int(offsets[0]) : int(offsets[-1])]


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _split_fixed(block: Block, layout: Layout, wanted: Sequence[str]) -> Columns:
    lines = pc.utf8_rtrim(block.lines, "\r\n")
    needed = max(last for name, (_, last) in layout.positions.items() if name in wanted)
    long_enough = flags(pc.greater_equal(pc.utf8_length(lines), needed))
    rejects = [
        Reject(line, "columns", f"the line ends before character {needed}", block.raw(line))
        for line in block.numbers[~long_enough].tolist()
    ]
    lines = lines.filter(pa.array(long_enough))
    texts = {
        name: pc.utf8_slice_codeunits(lines, layout.positions[name][0] - 1, layout.positions[name][1])
        for name in wanted
    }
    return Columns(texts, block.numbers[long_enough], rejects)


def _split_json(block: Block, wanted: Sequence[str]) -> Columns:
    decoder = msgspec.json.Decoder(float_hook=str)
    paths = [tuple(name.split(".")) for name in wanted]
    columns: list[list[str]] = [[] for _ in wanted]
    rejects: list[Reject] = []
    keep = np.ones(len(block.numbers), np.bool_)
    for row, text in enumerate(block.lines.to_pylist()):
        try:
            found = decoder.decode(text)
            values = [_value_at(found, path) for path in paths]
        except (msgspec.DecodeError, TypeError, RecursionError) as error:
            line = int(block.numbers[row])
            rejects.append(Reject(line, "json", f"not one JSON object: {str(error)[:200]}", block.raw(line)))
            keep[row] = False
            continue
        for column, value in zip(columns, values, strict=True):
            column.append(value)
    texts = {name: pa.array(column, pa.string()) for name, column in zip(wanted, columns, strict=True)}
    return Columns(texts, block.numbers[keep], rejects)


def _value_at(found: Any, path: Sequence[str]) -> str:
    """Raises TypeError where there is a list, a truth value or an object."""
    if not isinstance(found, dict):
        raise TypeError(f"it is a {type(found).__name__}")
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    if found is None:
        return ""
    if isinstance(found, bool) or not isinstance(found, str | int):
        raise TypeError(f"{'.'.join(path)[:_SHOWN]} is neither text nor a number")
    return str(found)
