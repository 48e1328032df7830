"""Schedules, as an operator sees them and an administrator runs, pauses and skips."""

import re
from datetime import date

import pytest

from billing.work.schedules.records import Missed, ScheduleTerms
from billing.work.schedules.schedules import add_schedule
from billing.work.schedules.store import database_clock
from tests.billing.work.schedules.hosts import done, look_once, rows
from web.console.system.schedule_days import last_days

KINDS = ("bill.run", "verify")


def add(site, name="bills", rule="daily at 02:00", zone="Europe/Moscow", **terms):
    wanted = ScheduleTerms("bill.run", rule, zone, **terms)
    return done(site.dsn, lambda cur: add_schedule(cur, database_clock, name, wanted, "user:anna", kinds=KINDS))


def press(person, name, do, **fields):
    """A button of the page, with the fields that its form carries."""
    page = person.get(f"/schedules/{name}")
    hidden = {"version": page.hidden("version"), "key": page.hidden("key")}
    return person.post(f"/schedules/{name}", {"csrf": page.hidden("csrf"), **hidden, "do": do, **fields})


def test_the_list_tells_rule_state_and_what_comes_in_both_languages(own_site):
    person = own_site.person("anna")
    assert "Расписаний пока нет" in person.get("/schedules").words
    add(own_site, "bills")
    add(own_site, "acts", "monthly on 10 or next working day of mar at 09:00", "Asia/Yekaterinburg")
    page = person.get("/schedules")
    assert "Ежедневно в 02:00" in page.words
    assert "Март: 10-е число или следующий рабочий день в 09:00" in page.words
    assert "Asia/Yekaterinburg" in page.words
    assert re.search(r"Рабочие дни 20\d\d(, 20\d\d)? не загружены", page.words)
    assert page.text.count('<svg class="strip strip-small"') == 2
    person.language = "en"
    person.post("/language", {"language": "en", "next": "/schedules"}, "/schedules")
    page = person.get("/schedules")
    assert "Monthly on the 10th or the next working day, in March, at 09:00" in page.words
    assert "Billing run" in page.words


def test_a_schedule_shows_what_comes_and_what_came(own_site):
    add(own_site, "bills", missed=Missed.EACH, missed_max=3, arguments={"date": "{date}"})
    rows(
        own_site.owner_dsn,
        "UPDATE schedules SET decided_until = now() - interval '3 days', next_at = now() - interval '2 days'",
    )
    look_once(own_site.dsn, database_clock)
    rows(
        own_site.owner_dsn,
        "UPDATE jobs SET state = 'failed', failure = 'error', message = 'no usage', finished_at = now(), "
        "started_at = now() - interval '90 s', attempt = 1",
    )
    page = own_site.person("anna").get("/schedules/bills")
    assert page.text.count("<time datetime=") > 5
    assert "Последние 3 выполняются друг за другом" in page.words
    assert "Не удался" in page.words
    assert "no usage" in page.words
    assert "Ждёт" in page.words
    assert "Выполнен с опозданием" in page.words
    assert "date={date}" in page.words
    assert re.search(r"Запуски за 30 дней: не удался: 1, ждёт: [12]", page.words)
    assert 'class="tone-bad"' in page.text


def test_run_now_pressed_twice_is_one_run(own_site):
    add(own_site)
    person = own_site.person("anna")
    page = person.get("/schedules/bills")
    form = {name: page.hidden(name) for name in ("csrf", "key", "version")} | {"do": "run"}
    assert [person.post("/schedules/bills", form).status for _ in range(2)] == [303, 303]
    assert own_site.rows("SELECT kind, asked_by FROM jobs") == [("bill.run", "user:anna")]
    page = person.get("/schedules/bills")
    assert "Запуск поставлен в очередь: задача № 1." in page.words
    assert "По просьбе: anna" in page.words


def test_it_is_paused_with_a_reason_and_resumed_on_record(own_site):
    add(own_site)
    person = own_site.person("anna")
    answer = press(person, "bills", "pause", reason=" ")
    assert (answer.status, "Укажите причину" in answer.words) == (400, True)
    assert press(person, "bills", "pause", reason="<b>аудит</b>").location == "/schedules/bills"
    page = person.get("/schedules/bills")
    assert "Приостановил anna: <b>аудит</b>" in page.words
    assert "<b>аудит" not in page.text
    assert press(person, "bills", "resume").status == 303
    assert "Расписание включено" in person.get("/schedules/bills").words
    actions = own_site.rows("SELECT action FROM audit WHERE object_kind = 'schedule' ORDER BY id")
    assert actions == [("schedule_paused",), ("schedule_resumed",)]


def test_a_stale_form_changes_nothing_and_keeps_what_was_typed(own_site):
    add(own_site)
    person = own_site.person("anna")
    stale = person.get("/schedules/bills").hidden("version")
    rows(own_site.owner_dsn, "UPDATE schedules SET version = version + 1, changed_by = 'user:oleg'")
    answer = press(person, "bills", "pause", version=stale, reason="аудит")
    assert answer.status == 409
    assert "Тем временем его изменил user:oleg" in answer.words
    assert 'value="аудит"' in answer.text
    assert own_site.one("SELECT state FROM schedules") == "on"


def test_a_coming_run_is_skipped_and_let_run_after_all(own_site):
    add(own_site)
    person = own_site.person("anna")
    instant = re.search(r'<option value="(\d+)"', person.get("/schedules/bills").text)[1]
    assert press(person, "bills", "skip", instant=instant, reason="").status == 400
    assert press(person, "bills", "skip", instant=instant, reason="инвентаризация").status == 303
    assert own_site.rows("SELECT decision, reason, note FROM schedule_runs") == [("skipped", "asked", "инвентаризация")]
    page = person.get("/schedules/bills")
    assert "пропускается" in page.words
    assert press(person, "bills", "skip", instant=instant, reason="x").status == 400
    assert press(person, "bills", "unskip", instant=instant).status == 303
    assert own_site.rows("SELECT * FROM schedule_runs") == []
    assert press(person, "bills", "skip", instant="12", reason="x").status == 400
    assert press(person, "bills", "skip", instant="x", reason="x").status == 400


def test_who_may_see_does_not_change_and_who_may_not_sees_nothing(own_site):
    add(own_site)
    assert own_site.person("vera").get("/schedules").status == 403
    operator = own_site.person("oleg")
    page = operator.get("/schedules/bills")
    assert page.status == 200
    assert "Запустить сейчас" not in page.words
    assert operator.post("/schedules/bills", {"csrf": page.hidden("csrf"), "do": "run"}).status == 403
    assert own_site.rows("SELECT * FROM jobs") == []


@pytest.mark.parametrize("path", ["/schedules/nowhere", "/schedules/Bad"])
def test_what_is_not_there_is_told(site, path):
    assert site.person("anna").get(path).status == 404
    assert site.person("anna").post(path, {"do": "run"}, "/profile").status == 404


def test_a_schedule_with_a_problem_says_what_to_do(own_site):
    add(own_site)
    rows(own_site.owner_dsn, "UPDATE schedules SET zone = 'Mars/Olympus', problem = 'no time zone', next_at = NULL")
    person = own_site.person("anna")
    assert "Неисправно" in person.get("/schedules").words
    page = person.get("/schedules/bills")
    assert "Оно ничего не решает, пока его не исправят и не возобновят" in page.words
    answer = press(person, "bills", "resume")
    assert (answer.status, "сначала исправьте правило или часовой пояс" in answer.words) == (400, True)


def test_a_day_of_the_strip_is_told_by_its_worst_run():
    today = date(2026, 12, 1)
    results = {today: {"done": 5, "skipped": 1}, date(2026, 11, 30): {"done": 5, "failed": 1}}
    days = last_days(results, today, 3)
    assert [(day.day.day, day.worst, day.total) for day in days] == [(29, "", 0), (30, "failed", 6), (1, "skipped", 6)]
