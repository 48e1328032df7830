"""Mediation: a usage file to events and rejects, block by block; the pure middle of an import.

Rules. A stage is rows -> (rows, rejects): every line that is not the header, blank or skipped comes out exactly once,
as an event or as a reject. What is wrong with the file as a whole raises, and the caller keeps nothing of it.

Does not know: the database; so accounts, repeats and keys that were used are judged later (billing.usage.load_store).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import pyarrow as pa

from billing.files.columns import find_columns, split_block
from billing.files.lines import BLOCK_BYTES, Block, Reject, read_blocks
from billing.usage.format import Format
from billing.usage.values import Known, read_values


@dataclass(frozen=True, slots=True)
class Mediated:
    """One block's outcome.

    events: a table of `billing.usage.values.SCHEMA`; late: how many of them count in a later period. rejects: the other
    lines, ascending. block: where any line's raw bytes are.
    """

    events: pa.Table
    late: int
    rejects: list[Reject]
    block: Block

    @property
    def lines(self) -> int:
        return int(self.events.num_rows) + len(self.rejects)


def mediate(
    source: IO[bytes], made: Format, late: str, known: Known, block_bytes: int = BLOCK_BYTES
) -> Iterator[Mediated]:
    """Read a usage file.

    Args:
        late: "accept" or "reject": what becomes of events in closed periods.

    Raises:
        UnreadableFile: the file as a whole cannot be read.
    """
    wanted = made.used_columns()
    places = {} if made.has_header else find_columns(made, wanted, None)
    for block in read_blocks(source, made, block_bytes):
        if block.header is not None:
            places = find_columns(made, wanted, block.header)
        columns = split_block(block, made, wanted, places)
        events = read_values(columns, block, made, late, known)
        rejects = sorted([*block.rejects, *columns.rejects, *events.rejects], key=lambda reject: reject.line)
        yield Mediated(events.table, events.late, rejects, block)
