"""What a worker and its child process say to each other: records, each behind its length, over a pair of sockets.

Rules. The child speaks first only when it was told to run a job. What it asks (Save, Rows, BeginFile, FilePart,
EndFile) is answered by one Answer in the order of asking; what it tells (Told, Said) is not. Ended is its last word of
a job.

Does not know: what is done with them.
"""

import struct
from typing import Final, Literal, TypeAlias

import msgspec

from billing.work.jobs.records import RowOutcome
from kopeck.databases.stores import Stores
from kopeck.settings import Settings

LENGTH: Final = struct.Struct(">I")
#: A part of a file, or a portion of rows, is the largest.
FRAME_MAX: Final = 4 << 20


class _Frame(msgspec.Struct, frozen=True, tag=True):
    """A record with its name in it."""


class Setup(_Frame, frozen=True):
    """To the child, first: what its work may use."""

    settings: Settings
    stores: Stores


class Run(_Frame, frozen=True):
    """To the child: do this job. place: ``module:function``. arguments, saved: JSON; saved may be empty."""

    place: str
    job_id: int
    attempt: int
    kind: str
    asked_by: str
    arguments: str
    saved: str


class Stop(_Frame, frozen=True):
    """To the child: the work should stop as soon as it can."""


class Answer(_Frame, frozen=True):
    """To the child: what it asked is in the database. value: an id. refused: a sentence instead."""

    value: int = 0
    refused: str = ""


class Told(_Frame, frozen=True):
    """How far the work is."""

    done: int
    total: int | None
    doing: str


class Said(_Frame, frozen=True):
    """Lines for the log."""

    lines: list[str]


class Save(_Frame, frozen=True):
    """Where the next attempt goes on, as JSON."""

    place: str


class Row(msgspec.Struct, frozen=True, array_like=True):
    """What became of an object."""

    ref: str
    outcome: RowOutcome
    detail: str
    label: str


class Rows(_Frame, frozen=True):
    """What became of objects."""

    rows: list[Row]


class BeginFile(_Frame, frozen=True):
    """Begin a result; the answer is its id."""

    name: str
    media_type: str


class FilePart(_Frame, frozen=True):
    """The next part of it."""

    file_id: int
    no: int
    content: bytes


class EndFile(_Frame, frozen=True):
    """It is complete."""

    file_id: int


class Ended(_Frame, frozen=True):
    """The work ended. result: JSON, or empty. rss_bytes: what the process holds now."""

    how: Literal["done", "cancelled", "refused", "error"]
    message: str
    result: str
    rss_bytes: int


ToChild: TypeAlias = Setup | Run | Stop | Answer
ToWorker: TypeAlias = Told | Said | Save | Rows | BeginFile | FilePart | EndFile | Ended

_encoder = msgspec.msgpack.Encoder()
_to_child = msgspec.msgpack.Decoder(ToChild)
_to_worker = msgspec.msgpack.Decoder(ToWorker)


class FrameError(Exception):
    """Bytes that are no frame: the other side is broken."""


def encode(frame: ToChild | ToWorker) -> bytes:
    """A frame behind its length. Raises FrameError where it is too large."""
    body = _encoder.encode(frame)
    if len(body) > FRAME_MAX:
        raise FrameError(f"a frame of {len(body)} bytes; {FRAME_MAX} are the most")
    return LENGTH.pack(len(body)) + body


def length_of(head: bytes) -> int:
    """The length of the body behind this head. Raises FrameError."""
    (length,) = LENGTH.unpack(head)
    if length > FRAME_MAX:
        raise FrameError(f"a frame of {length} bytes; {FRAME_MAX} are the most")
    return int(length)


def for_child(body: bytes) -> ToChild:
    """A body on the child's side. Raises FrameError."""
    try:
        frame: ToChild = _to_child.decode(body)
    except msgspec.DecodeError as error:
        raise FrameError(str(error)) from error
    return frame


def for_worker(body: bytes) -> ToWorker:
    """A body on the worker's side. Raises FrameError."""
    try:
        frame: ToWorker = _to_worker.decode(body)
    except msgspec.DecodeError as error:
        raise FrameError(str(error)) from error
    return frame
