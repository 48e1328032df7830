"""What was sent and what was heard, written down by the load itself: the auditor's only witness.

An append-only file of JSON lines, one before each request goes out and one for each answer, so that a request whose
answer never came is on record too. Nothing in it was asked of the provider.

Rules. Times are seconds of the machine's clock. Instants of payments are ISO 8601 in UTC. The numbers of requests
count from 1 in the order of sending.

Does not know: what the answers should have been.
"""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from loadtests.partners import SILENCE, Heard, Meaning

#: Forms of a request: as the protocol wants it; with a wrong signature or password; not a request at all.
GOOD: Final = "good"
FORGED: Final = "forged"
MALFORMED: Final = "malformed"


@dataclass(frozen=True, slots=True)
class Sent:
    """One request as it was sent. amount: minor units; time: the payment's, ISO UTC; empty where the verb has none."""

    partner: str
    op: str
    key: str
    form: str = GOOD
    account: str = ""
    amount: int = 0
    service: str = ""
    time: str = ""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and what was heard, with the instants of both; an answer that never came is SILENCE."""

    number: int
    sent_at: float
    sent: Sent
    heard: Heard = SILENCE
    heard_at: float = float("inf")


class Recorder:
    """Writes the file. Lines are complete or absent, whatever happens to the writer."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab")
        self._numbers = itertools.count(1)
        self._encode = msgspec.json.Encoder().encode

    def sent(self, sent: Sent) -> int:
        """Note a request before it goes out; returns its number."""
        number = next(self._numbers)
        self._write("s", number, [getattr(sent, name) for name in Sent.__slots__])
        return number

    def heard(self, number: int, heard: Heard) -> None:
        """Note the answer to request ``number``."""
        self._write("h", number, [getattr(heard, name) for name in Heard.__slots__])

    def _write(self, kind: str, number: int, values: list[object]) -> None:
        self._file.write(self._encode([kind, number, time.time(), values]) + b"\n")

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_record(path: Path) -> list[Exchange]:
    """Every exchange in the order of sending.

    Raises:
        ValueError: a line that is none of ours, or an answer to what was never sent.
    """
    exchanges: dict[int, Exchange] = {}
    for kind, number, at, values in _lines(path):
        if kind == "s":
            exchanges[number] = Exchange(number, at, Sent(*values))
        elif number in exchanges:
            heard = Heard(Meaning(values[0]), *values[1:])
            exchanges[number] = replace(exchanges[number], heard=heard, heard_at=at)
        else:
            raise ValueError(f"{path}: an answer to request {number}, which was never sent")
    return list(exchanges.values())


def _lines(path: Path) -> Iterator[tuple[str, int, float, list[Any]]]:
    decode = msgspec.json.Decoder(tuple[str, int, float, list[Any]]).decode
    with path.open("rb") as file:
        for line in file:
            yield decode(line)
