"""The load's own record: what goes in comes out, and a broken one is refused."""

from pathlib import Path

import msgspec
import pytest

from loadtests.partners import SILENCE, Heard, Meaning
from loadtests.record import FORGED, Recorder, Sent, read_record

PAY = Sent("o", "pay", "10000000000000000001", FORGED, "79160000001", 25_000, "1", "2026-11-23T10:00:00+00:00")
HEARD = Heard(Meaning.DONE, 0, 884213, "2026-11-23T13:00:05", 25_000)


def test_what_was_sent_and_heard_is_read_back_equal(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "record.jsonl")
    first, second = recorder.sent(PAY), recorder.sent(PAY)
    recorder.heard(second, HEARD)
    recorder.close()
    unanswered, answered = read_record(tmp_path / "record.jsonl")
    assert (unanswered.number, unanswered.sent, unanswered.heard) == (first, PAY, SILENCE)
    assert (answered.number, answered.sent, answered.heard) == (second, PAY, HEARD)
    assert unanswered.heard_at > answered.heard_at >= answered.sent_at


def test_an_answer_to_what_was_never_sent_is_refused(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "record.jsonl")
    recorder.heard(7, HEARD)
    recorder.close()
    with pytest.raises(ValueError, match="never sent"):
        read_record(tmp_path / "record.jsonl")


def test_a_line_that_is_none_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "record.jsonl").write_bytes(b'["s",1]\n')
    with pytest.raises(msgspec.ValidationError):
        read_record(tmp_path / "record.jsonl")
