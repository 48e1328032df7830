"""``kopeck schedule``: everything an operator does with schedules, and what it is told when it cannot be."""

import json
from typing import Any

import pytest

from tests.billing.work.schedules.hosts import rows

CALENDAR = "date,kind,note\n2027-01-01,off,New Year\n2027-01-09,working,Saturday\n"


def add(kopeck: Any, name: str = "bills", rule: str = "daily at 02:00", *more: str) -> Any:
    return kopeck("schedule", "add", name, "bill.run", *rule.split(), "--zone", "Europe/Moscow", *more)


def listed(kopeck: Any) -> dict[str, Any]:
    return {found["name"]: found for found in json.loads(kopeck("schedule", "list", "--json").out)}


def test_a_schedule_is_added_listed_and_shown_with_what_comes(kopeck: Any) -> None:
    said = add(kopeck, "bills", "Daily at 2:00", "--argument", "date={date}", "--argument", "review=true")
    assert (said.status, said.err) == (0, "")
    lines = said.out.splitlines()
    assert lines[0] == "bills: daily at 02:00 (Europe/Moscow) is on"
    assert len(lines) == 6
    assert all("02:00 MSK (+03:00)" in line for line in lines[1:])
    found = listed(kopeck)["bills"]
    assert (found["rule"], found["arguments"]) == ("daily at 02:00", {"date": "{date}", "review": True})
    assert found["next"].endswith("23:00:00Z")
    row = kopeck("schedule", "list").out.splitlines()[1].split("\t")
    assert row[:8] == ["bills", "bill.run", "daily at 02:00", "Europe/Moscow", "on", "-", "-", "-"]
    assert row[8].endswith("02:00 MSK (+03:00)")
    shown = kopeck("schedule", "show", "bills").out
    assert "bills: Billing run (bill.run), daily at 02:00, Europe/Moscow" in shown
    assert "one run stands for missed ones (late after 10 min)" in shown


def test_the_zone_of_the_pages_is_taken_where_none_is_named(kopeck: Any) -> None:
    kopeck("schedule", "add", "bills", "bill.run", "daily at 02:00")
    assert listed(kopeck)["bills"]["zone"] == "Europe/Moscow"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("add", "Bills", "bill.run", "daily at 02:00"), "'Bills' is no name of a schedule"),
        (
            ("add", "bills", "bill.walk", "daily at 02:00"),
            "'bill.walk' is no kind of job; there are: approvals.expire,",
        ),
        (("add", "bills", "bill.run", "sometimes"), "'sometimes' is no rule: it names no hours"),
        (("add", "bills", "bill.run", "daily at 02:00", "--zone", "Mars"), "no time zone 'Mars': an IANA name"),
        (("add", "bills", "bill.run", "daily at 02:00", "--argument", "date={day}"), "'{day}' names nothing"),
        (("add", "bills", "bill.run", "daily at 02:00", "--argument", "date"), "'date' is no NAME=VALUE"),
        (("add", "bills", "bill.run", "daily at 02:00", "--stops-after", "soon"), "'soon' is no instant such as"),
        (
            ("add", "bills", "bill.run", "daily at 02:00", "--stops-after", "2020-01-01"),
            "comes at no instant after now",
        ),
        (("add", "bills", "bill.run", "daily at 02:00", "--note", "x" * 501), "500 printable characters at most"),
        (("add", "there", "bill.run", "daily at 02:00"), "there is a schedule there already"),
        (("change", "nowhere", "--rule", "daily at 02:00"), "there is no schedule nowhere"),
        (("change", "there"), "say what to change"),
        (("change", "there", "--rule", "never"), "'never' is no rule"),
        (("pause", "there", "--reason", " "), "say why: the reason is kept"),
        (("pause", "nowhere", "--reason", "x"), "there is no schedule nowhere"),
        (("resume", "nowhere"), "there is no schedule nowhere"),
        (("remove", "nowhere", "--reason", "x"), "there is no schedule nowhere"),
        (("run", "nowhere"), "there is no schedule nowhere"),
        (("show", "nowhere"), "there is no schedule nowhere"),
        (("skip", "there", "2100-01-01T03:00", "--reason", "x"), "schedule there does not come at that instant"),
        (("skip", "there", "2020-01-01T02:00", "--reason", "x"), "that instant has come already"),
        (("unskip", "there", "2100-01-01T02:00"), "nobody skipped that instant"),
        (("calendar", "show", "2027"), "the working days of 2027 are not loaded"),
        (("preview", "daily"), "'daily' is no rule"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence_and_changes_nothing(
    kopeck: Any, arguments: tuple[str, ...], sentence: str
) -> None:
    add(kopeck, "there")
    before = kopeck("schedule", "list", "--json").out
    said = kopeck("schedule", *arguments)
    assert said.status == 2
    assert sentence in said.err
    assert kopeck("schedule", "list", "--json").out == before


def test_a_change_keeps_what_is_not_named(kopeck: Any) -> None:
    add(kopeck, "bills", "daily at 02:00", "--argument", "review=true", "--missed", "each", "--missed-max", "3")
    said = kopeck("schedule", "change", "bills", "--rule", "weekly on mon at 03:00", "--overlap", "queue",
                  "--late-after", "30", "--clock-change", "as-shown", "--stops-after", "2099-12-31T23:59")  # fmt: skip
    assert (said.status, said.err) == (0, "")
    found = listed(kopeck)["bills"]
    kept = {name: found[name] for name in ("arguments", "missed", "missed_max", "zone", "kind")}
    assert kept == {
        "arguments": {"review": True}, "missed": "each", "missed_max": 3, "zone": "Europe/Moscow", "kind": "bill.run"
    }  # fmt: skip
    changed = {name: found[name] for name in ("rule", "overlap", "late_after_s", "clock_change", "stops_after")}
    assert changed == {
        "rule": "weekly on mon at 03:00", "overlap": "queue", "late_after_s": 1800, "clock_change": "as_shown",
        "stops_after": "2099-12-31T20:59:00Z",
    }  # fmt: skip
    kopeck("schedule", "change", "bills", "--argument", "none=", "--stops-after", "never")
    found = listed(kopeck)["bills"]
    assert (found["arguments"], found["stops_after"]) == ({}, None)


def test_it_is_paused_resumed_and_removed(kopeck: Any) -> None:
    add(kopeck)
    assert kopeck("schedule", "pause", "bills", "--reason", "audit").out == "bills is paused\n"
    assert kopeck("schedule", "pause", "bills", "--reason", "audit").out == "bills is paused already\n"
    assert (listed(kopeck)["bills"]["state"], listed(kopeck)["bills"]["next"]) == ("paused", None)
    assert "paused: audit; changed by system:cli:" in kopeck("schedule", "show", "bills").out
    assert kopeck("schedule", "resume", "bills").out.startswith("bills is on; next ")
    assert kopeck("schedule", "remove", "bills", "--reason", "no more").out == "bills is removed\n"
    assert listed(kopeck) == {}
    assert add(kopeck).status == 0


def test_a_run_now_is_a_job_beside_the_plan(kopeck: Any) -> None:
    add(kopeck, "bills", "daily at 02:00", "--argument", "date={date}")
    said = kopeck("schedule", "run", "bills", "--note", "after the repair")
    assert said.out == "job 1 is queued: `kopeck job show 1` tells how it goes\n"
    [run] = json.loads(kopeck("schedule", "show", "bills", "--json").out)["runs"]
    assert (run["outcome"], run["job_id"], run["origin"], run["note"]) == ("waiting", 1, "person", "after the repair")
    assert "asked for by system:cli:" in kopeck("schedule", "show", "bills").out


def test_the_next_instant_is_skipped_and_let_run_after_all(kopeck: Any) -> None:
    add(kopeck)
    said = kopeck("schedule", "skip", "bills", "--reason", "inventory")
    assert said.out.startswith("bills does not run at ")
    found = listed(kopeck)["bills"]
    assert found["skipped"] == found["coming"][:1]
    assert "skipped" in kopeck("schedule", "show", "bills").out
    first = found["skipped"][0].replace("Z", "+00:00")
    again = kopeck("schedule", "skip", "bills", first, "--reason", "inventory")
    assert (again.status, "that instant is decided already" in again.err) == (2, True)
    assert kopeck("schedule", "unskip", "bills", first).out.startswith("bills runs at ")
    assert listed(kopeck)["bills"]["skipped"] == []


def test_what_people_do_is_on_record(kopeck: Any, database: Any) -> None:
    add(kopeck)
    kopeck("schedule", "change", "bills", "--rule", "daily at 03:00")
    kopeck("schedule", "pause", "bills", "--reason", "audit")
    kopeck("schedule", "pause", "bills", "--reason", "audit")
    found = rows(database.dsn, "SELECT action, object_id, changes FROM audit ORDER BY id")
    assert [action for action, _, _ in found] == ["schedule_added", "schedule_changed", "schedule_paused"]
    assert found[1][2] == {"rule": ["daily at 02:00", "daily at 03:00"]}


def test_a_rule_is_tried_without_a_schedule(kopeck: Any) -> None:
    said = kopeck("schedule", "preview", "Monthly on last  friday at 9:00", "--zone", "UTC", "--count", "3")
    lines = said.out.splitlines()
    assert lines[0] == "monthly on last fri at 09:00"
    assert len(lines) == 4
    assert all("Fri " in line and "09:00 UTC (+00:00)" in line for line in lines[1:])
    assert listed(kopeck) == {}


def test_working_days_are_loaded_from_a_file(kopeck: Any, tmp_path: Any) -> None:
    said = add(kopeck, "acts", "monthly on 1st working day of jan at 09:00")
    assert "depends on working days of" in said.err
    file = tmp_path / "ru.csv"
    file.write_text(CALENDAR, "utf-8")
    said = kopeck("schedule", "calendar", "load", str(file))
    assert (said.status, said.out) == (0, "working days of 2027 are loaded: 2 days\n")
    assert kopeck("schedule", "calendar", "show", "2027").out.splitlines()[1:] == [
        "2027-01-01\tfri\toff\tNew Year", "2027-01-09\tsat\tworking\tSaturday"
    ]  # fmt: skip
    assert kopeck("schedule", "calendar", "list").out.splitlines()[1].split("\t")[:3] == ["2027", "1", "1"]
    file.write_bytes("date,kind,note\n2027-01-01,off,Новый год\n".encode("cp1251"))
    said = kopeck("schedule", "calendar", "load", str(file))
    assert (said.status, f"{file}:2: not utf-8" in said.err) == (2, True)
    assert kopeck("schedule", "calendar", "load", str(file), "--charset", "cp1251").status == 0
    assert "Новый год" in kopeck("schedule", "calendar", "show", "2027").out
    said = kopeck("schedule", "calendar", "load", "-", stdin="date,kind\n2027-01-01,holiday\n")
    assert (said.status, said.err) == (
        2, "kopeck: standard input:2: 'holiday' is no kind of day: they are off and working\n"
    )  # fmt: skip


def test_a_schedule_that_nobody_decides_is_told_as_late(kopeck: Any, database: Any) -> None:
    add(kopeck)
    rows(database.dsn, "UPDATE schedules SET next_at = now() - interval '1 hour'")
    said = kopeck("schedule", "list")
    assert said.err == "kopeck: late: bills: is `kopeck serve schedules` running?\n"
    assert "late: is `kopeck serve schedules` running?" in kopeck("schedule", "show", "bills").out
    rows(database.dsn, "UPDATE schedules SET next_at = NULL, problem = 'no time zone'")
    assert "has a problem" in kopeck("schedule", "list").out
    assert "mend it, then `kopeck schedule resume bills`" in kopeck("schedule", "show", "bills").out
