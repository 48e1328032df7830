"""``kopeck usage`` as an operator types it."""

import gzip
import json
import re
from contextlib import closing
from datetime import UTC, datetime, timedelta

import psycopg2
import pytest

from tests.billing.usage.usage_files import CALLS, CALLS_HEADER, call

BEGUN = (datetime.now(UTC) - timedelta(days=2)).strftime("%d.%m.%Y %H:%M:%S")


@pytest.fixture
def desk(kopeck, tmp_path, monkeypatch):
    """A working folder with format ``calls`` and file ``calls.csv``, and an account."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "usage-formats").mkdir()
    (tmp_path / "usage-formats" / "calls.toml").write_text(CALLS, "utf-8")
    lines = [call(1, begun=BEGUN), call(2, phone="79010000002", begun=BEGUN), call(3, minutes="x", begun=BEGUN)]
    (tmp_path / "calls.csv").write_text(CALLS_HEADER + "".join(lines), "utf-8")
    assert kopeck("account", "add", "79010000001").status == 0
    return tmp_path


def test_formats_are_listed_with_what_is_wrong(kopeck, desk) -> None:
    (desk / "usage-formats" / "bad.toml").write_text("kind = 1\n", "utf-8")
    said = kopeck("usage", "formats")
    assert "calls\tcsv\tswitch\tid\tgood\n" in said.out
    assert "bad\t-\t-\t-\tusage-formats/bad.toml:1: kind: expected" in said.out


def test_a_format_is_checked_against_a_sample_without_a_database(kopeck, desk, monkeypatch) -> None:
    monkeypatch.setenv("KOPECK_DATABASE__DSN", "postgresql://nobody@127.0.0.1:1/none")
    assert kopeck("usage", "check-format", "calls").out.startswith(
        "usage-formats/calls.toml: a good format of kind csv"
    )
    said = kopeck("usage", "check-format", "calls", "calls.csv")
    assert said.status == 1
    assert "line=2  account=79010000001  item=voice  quantity=1.5" in said.out
    assert "3 lines, 2 good, 1 rejected\n" in said.out
    assert "calls.csv:4: quantity: minutes 'x' is no number" in said.err


def test_a_wrong_format_is_one_sentence_with_its_line(kopeck, desk) -> None:
    (desk / "mine.toml").write_text(CALLS.replace("key =", "keys ="), "utf-8")
    said = kopeck("usage", "import", "calls.csv", "--format", "mine.toml")
    assert (said.status, said.err) == (2, "kopeck: mine.toml:5: keys: there is no setting 'keys' here\n")
    assert "cannot read format usage-formats/none.toml" in kopeck("usage", "check-format", "none").err


def test_a_file_is_imported_and_its_rejects_are_corrected(kopeck, desk) -> None:
    said = kopeck("usage", "import", "calls.csv", "--format", "calls")
    assert said.out.startswith("import 1: 3 lines, 1 accepted (0 late), 0 repeated, 2 rejected; ")
    stages = r"s: waited for lines [0-9.]+ \(read in [0-9.]+\), keys [0-9.]+, events [0-9.]+, commit [0-9.]+\n"
    assert re.search(stages, said.out)
    again = kopeck("usage", "import", "calls.csv", "--format", "calls")
    assert again.out == "this very file is import 1 already: nothing to do (--again reads it again)\n"
    listed = kopeck("usage", "rejects", "list", "1").out
    assert "1 open: quantity\n1 open: unknown_account\n" in listed
    exported = kopeck("usage", "rejects", "export", "1", "--output", "rejects.txt")
    assert (exported.status, exported.out) == (0, "")
    text = (desk / "rejects.txt").read_text("utf-8")
    assert "#|line 4: minutes 'x' is no number" in text
    (desk / "rejects.txt").write_text(text.replace(";x;", ";3;"), "utf-8")
    kopeck("account", "add", "79010000002")
    assert "2 lines, 2 accepted" in kopeck("usage", "rejects", "refeed", "1", "rejects.txt").out
    assert kopeck("usage", "rejects", "refeed", "1").out.startswith("import 1 has no open rejects")
    imports = kopeck("usage", "imports").out
    assert "\tswitch\tcalls.csv\tdone\t3\t1\t0\t2\t0\t0\t-\n" in imports
    assert "\tswitch\trejects.txt\tdone\t2\t2\t0\t0\t0\t0\t-\n" in imports


def test_what_came_of_an_import_is_told_to_programs(kopeck, desk) -> None:
    first = json.loads(kopeck("usage", "import", "calls.csv", "--format", "calls", "--json").out)
    told = [first[name] for name in ("import", "same_as", "lines", "accepted", "repeated", "rejected", "late")]
    assert told == [1, None, 3, 1, 0, 2, 0]
    assert 10**7 < first["peak_bytes"] < 10**11
    assert first["took_s"] >= first["waited_s"] + first["keys_s"] + first["events_s"] + first["commit_s"] > 0
    assert json.loads(kopeck("usage", "import", "calls.csv", "--format", "calls", "--json").out)["same_as"] == 1


def test_rejects_are_dropped_with_a_reason(kopeck, desk) -> None:
    kopeck("usage", "import", "calls.csv", "--format", "calls")
    assert kopeck("usage", "rejects", "drop", "1", "--why", "test").status == 2
    assert kopeck("usage", "rejects", "drop", "1", "--all", "--why", "test").out == "2 rejects dropped\n"
    assert kopeck("usage", "rejects", "list", "9").err == "kopeck: there is no import 9\n"


def test_a_packed_file_is_unpacked_and_a_broken_one_refused_whole(kopeck, desk) -> None:
    packed = gzip.compress((desk / "calls.csv").read_bytes())
    (desk / "calls.csv.gz").write_bytes(packed[:-10])
    said = kopeck("usage", "import", "calls.csv.gz", "--format", "calls")
    assert (said.status, said.err[:33]) == (2, "kopeck: the packed file is broken")
    (desk / "calls.csv.gz").write_bytes(packed)
    assert "1 accepted" in kopeck("usage", "import", "calls.csv.gz", "--format", "calls").out


def test_standard_input_is_a_file_too(kopeck, desk) -> None:
    said = kopeck("usage", "import", "-", "--format", "calls", stdin=CALLS_HEADER + call(1, begun=BEGUN))
    assert "1 lines, 1 accepted" in said.out


def test_an_empty_file_and_a_wrong_header_are_told(kopeck, desk) -> None:
    (desk / "calls.csv").write_text("", "utf-8")
    assert kopeck("usage", "import", "calls.csv", "--format", "calls").err == "kopeck: the file is empty\n"
    (desk / "calls.csv").write_text("id;phone\n1;2\n", "utf-8")
    said = kopeck("usage", "import", "calls.csv", "--format", "calls")
    assert (said.status, said.err) == (2, "kopeck: the header has no column 'type': id, phone\n")


# ---- wrong events


def test_an_event_is_voided_and_corrected_with_a_reason_and_a_key(kopeck, desk) -> None:
    lines = [call(number, begun=BEGUN) for number in (1, 2, 3)]
    (desk / "calls.csv").write_text(CALLS_HEADER + "".join(lines), "utf-8")
    assert kopeck("usage", "import", "calls.csv", "--format", "calls").status == 0
    asked = ("--why", "test call", "--key", "T-1")
    assert kopeck("usage", "void", "1", *asked).out == "1 events are void\n"
    assert kopeck("usage", "void", "1", *asked).out == "1 events are void already\n"
    said = kopeck("usage", "void", "2", *asked)
    assert (said.status, said.err) == (2, "kopeck: key 'T-1' was used for other events\n")
    said = kopeck("usage", "correct", "2", "--quantity", "60", "--why", "half a minute", "--key", "T-2")
    assert re.fullmatch(r"1 events are corrected\nevent 2: event \d+ is in its place\n", said.out)
    (desk / "fixes.csv").write_text("event,quantity\n3,x\n", "utf-8")
    by_file = ("usage", "correct", "--file", "fixes.csv", "--why", "all", "--key", "T-3")
    said = kopeck(*by_file)
    assert (said.status, said.err.partition("'x'")[0]) == (2, "kopeck: fixes.csv:2: quantity: ")
    (desk / "fixes.csv").write_text("event,quantity\n3,7\n", "utf-8")
    assert kopeck(*by_file).out.startswith("1 events are corrected\n")
    listed = kopeck("usage", "voids").out
    assert len(listed.splitlines()) == 4
    assert "test call" in listed
    # The same file brings nothing back.
    again = kopeck("usage", "import", "calls.csv", "--format", "calls", "--again")
    assert "0 accepted (0 late), 3 repeated" in again.out


def test_what_to_void_is_named_once(kopeck, desk) -> None:
    for command in (("void",), ("correct",), ("correct", "1", "--file", "-"), ("void", "1", "--file", "-")):
        said = kopeck("usage", *command, "--why", "w", "--key", "k")
        assert said.status == 2
        assert "Usage: " in said.err


def test_usage_that_is_on_no_invoice_is_listed_with_its_reason(kopeck, desk, database) -> None:
    assert kopeck("usage", "import", "calls.csv", "--format", "calls").status == 0
    with closing(psycopg2.connect(database.owner_dsn)) as owner, owner.cursor() as cur:
        cur.execute("UPDATE usage_open SET open_from = now()")
        owner.commit()
    said = kopeck("usage", "unbilled")
    assert said.out.splitlines()[0].split("\t") == ["account", "item", "why", "events", "quantity", "first", "last"]
    assert said.out.splitlines()[1].split("\t")[:5] == ["79010000001", "voice", "no order", "1", "1.5"]
    (row,) = json.loads(kopeck("usage", "unbilled", "--json", "--account", "79010000001").out)
    assert (row["why"], row["events"], row["quantity"]) == ("no order", 1, "1.5")
    assert json.loads(kopeck("usage", "unbilled", "--json", "--account", "nobody").out) == []


def test_a_boundary_that_went_too_far_is_moved_back(kopeck, desk, database) -> None:
    assert kopeck("usage", "reopen").out.startswith("usage is open from the beginning, as runs over all payers need it")
    with closing(psycopg2.connect(database.owner_dsn)) as owner, owner.cursor() as cur:
        cur.execute("UPDATE usage_open SET open_from = '2031-01-01'")
        owner.commit()
    said = kopeck("usage", "reopen")
    assert said.status == 0
    assert "and is now from the beginning" in said.out
    assert kopeck("usage", "import", "calls.csv", "--format", "calls").status == 0
