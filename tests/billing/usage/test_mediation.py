"""Mediation: every line comes out once, whatever the file holds."""

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from billing.files.lines import UnreadableFile
from tests.billing.usage.usage_files import CALLS_HEADER, UNHURRIED, call, calls, reasons, run

PIECES = st.sampled_from(
    [
        b"1;79010000001;1;20.11.2026 10:00:00;1,5;\n",
        b"\n",
        b"\r\n",
        b'"',
        b";",
        b"\x00",
        b"\xd0",
        "ж".encode(),
        b"x",
        b"\r",
        b" ",
    ]
)


@UNHURRIED
@given(st.lists(PIECES | st.binary(max_size=20), max_size=30), st.sampled_from([8, 64, 1 << 16]))
def test_any_bytes_give_each_line_one_event_or_one_reject(pieces, block) -> None:
    body = b"".join(pieces)
    outcome = run(CALLS_HEADER.encode() + body + call("last").encode(), calls(), block=block)
    lines = [line for line in (body + call("last").encode()).split(b"\n")[:-1] if line not in (b"", b"\r")]
    assert outcome.lines == len(lines)
    numbers = [*outcome.events.column("line").to_pylist(), *reasons(outcome)]
    assert len(set(numbers)) == len(numbers)


@UNHURRIED
@given(st.binary(max_size=200))
def test_any_bytes_are_a_file_or_a_clear_error(data) -> None:
    with suppress(UnreadableFile):
        run(data, calls())


@UNHURRIED
@given(st.integers(1, 400))
def test_blocks_of_any_size_give_the_same(block) -> None:
    data = (CALLS_HEADER + "".join(call(key, minutes="x" if key % 3 == 0 else "1") for key in range(12))).encode()
    whole, parted = run(data, calls()), run(data, calls(), block=block)
    assert parted.events.equals(whole.events)
    assert [(one.line, one.reason, one.raw) for one in parted.rejects] == [
        (one.line, one.reason, one.raw) for one in whole.rejects
    ]
