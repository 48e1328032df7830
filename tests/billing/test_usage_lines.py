"""Lines of usage files: bounded, and a bad line is one reject."""

import io
import tracemalloc

import pytest

from billing.usage_format import parse_format
from billing.usage_lines import RAW_MAX_BYTES, UsageFileError, read_blocks
from tests.billing.usage_files import CALLS, CALLS_HEADER, calls


def read(data: bytes, made=None, block: int = 64) -> tuple[dict[int, str], dict[int, str]]:
    """Good lines and reasons, by number."""
    good: dict[int, str] = {}
    bad: dict[int, str] = {}
    for part in read_blocks(io.BytesIO(data), made or calls(), block):
        good.update(zip(part.numbers.tolist(), part.lines.to_pylist(), strict=True))
        bad.update({reject.line: reject.reason for reject in part.rejects})
    return good, bad


HEAD = CALLS_HEADER.encode()


@pytest.mark.parametrize("block", [1, 2, 7, 64, 1_000])
def test_lines_do_not_depend_on_blocks(block) -> None:
    data = HEAD + "a\r\n\r\n\nпривет\nb\x00c\nd\re\n".encode() + b"\xd0\n" + b"last"
    good, bad = read(data, block=block)
    assert good == {2: "a\r\n", 5: "привет\n"}
    assert bad == {6: "control_character", 7: "control_character", 8: "charset", 9: "cut_line"}


def test_a_rejected_line_keeps_its_bytes_as_they_came() -> None:
    made = parse_format(CALLS.replace('kind = "csv"', 'kind = "csv"\ncharset = "cp1251"'), "f")
    data = HEAD + "привет\n".encode("cp1251") + b"\x98\n" + b"x\x00\r\n"
    blocks = list(read_blocks(io.BytesIO(data), made))
    assert blocks[0].lines.to_pylist() == ["привет\n"]
    assert [reject.raw.data for reject in blocks[0].rejects] == [b"\x98", b"x\x00"]
    assert blocks[0].raw(2).data == "привет".encode("cp1251")


def test_a_byte_order_mark_is_passed_over_at_the_start_and_rejected_later() -> None:
    good, bad = read(b"\xef\xbb\xbf" + HEAD + b"a\n" + "\ufeffb\n".encode())
    assert (good, bad) == ({2: "a\n"}, {3: "byte_order_mark"})


def test_another_encoding_of_the_whole_file_is_named() -> None:
    with pytest.raises(UsageFileError, match="UTF-16"):
        read(CALLS_HEADER.encode("utf-16"))


def test_the_header_must_be_there_and_readable() -> None:
    with pytest.raises(UsageFileError, match="the file is empty"):
        read(b"")
    with pytest.raises(UsageFileError, match="line 1 names the columns and cannot be read"):
        read(b"\xd0\n1\n")
    made = parse_format(CALLS.replace('kind = "csv"', 'kind = "csv"\nskip_lines = 2'), "f")
    with pytest.raises(UsageFileError, match="ends before its first event"):
        read(b"report\nof\n", made)
    assert read(b"report\nof\n" + HEAD + b"a\n", made) == ({4: "a\n"}, {})


def test_lines_with_the_skipped_prefix_are_no_events() -> None:
    made = parse_format(CALLS.replace('kind = "csv"', 'kind = "csv"\nskip_prefix = "TRAILER"'), "f")
    assert read(HEAD + b"a\nTRAILER 1\n", made) == ({2: "a\n"}, {})


def test_a_last_line_without_its_end_is_taken_where_the_format_says_so() -> None:
    made = parse_format(CALLS.replace('kind = "csv"', 'kind = "csv"\nlast_line_ends = false'), "f")
    assert read(HEAD + b"a\nb", made) == ({2: "a\n", 3: "b\n"}, {})


class Endless(io.RawIOBase):
    """A file with a line of ``length`` bytes in its middle, made as it is read."""

    def __init__(self, length: int) -> None:
        self.parts = [HEAD + b"a\n", length, b"\nb\n"]

    def read(self, size: int = -1) -> bytes:
        if not self.parts:
            return b""
        part = self.parts[0]
        if isinstance(part, bytes):
            self.parts.pop(0)
            return part
        taken = min(part, size)
        self.parts[0] = part - taken
        if not self.parts[0]:
            self.parts.pop(0)
        return b"x" * taken


def test_a_line_of_two_gigabytes_is_one_reject_in_bounded_memory() -> None:
    tracemalloc.start()
    good, rejects = [], []
    for part in read_blocks(Endless(2 << 30), calls(), 1 << 20):
        good += part.lines.to_pylist()
        rejects += part.rejects
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert good == ["a\n", "b\n"]
    assert [(reject.line, reject.reason, len(reject.raw.data), reject.raw.cut) for reject in rejects] == [
        (3, "line_too_long", RAW_MAX_BYTES, True)
    ]
    assert "2147483648 bytes" in rejects[0].detail
    assert peak < 32 << 20


@pytest.mark.parametrize("line", [b"\n", b"\r\n", b"1\n"])
def test_fifty_megabytes_of_hardly_anything_are_read_in_bounded_memory(line) -> None:
    tracemalloc.start()
    count, numbers = 0, 0
    source = io.BytesIO(HEAD + line * ((50 << 20) // len(line)) + b"last\n")
    held, _ = tracemalloc.get_traced_memory()
    for part in read_blocks(source, calls()):
        count += len(part.lines)
        numbers = max([numbers, *part.numbers[-1:].tolist()])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 1 + (0 if not line.strip() else (50 << 20) // len(line))
    assert numbers == 2 + (50 << 20) // len(line)
    assert peak - held < 160 << 20


def test_what_follows_a_long_line_is_read_whole() -> None:
    data = HEAD + b"x" * 100_000 + b"\nb\nc\nd"
    assert read(data, block=70_000) == ({3: "b\n", 4: "c\n"}, {2: "line_too_long", 5: "cut_line"})
