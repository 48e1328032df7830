"""The audit record, as an administrator reads it."""

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from billing.language import language_of
from web.access.audit import ACTIONS, CHANGES
from web.console.listings import LISTINGS
from web.console.system.audit import detail_told, list_filter_told


def test_the_audit_record_is_searched_by_person_object_and_action(own_site):
    wanted = own_site.seeded.ids["posted"]
    own_site.person("vera").get(f"/payments/{wanted}")
    person = own_site.person("anna")
    answer = person.find("/audit", q="vera")
    assert "Просмотр платежа" in answer.words
    assert f'href="/payments/{wanted}"' in answer.text
    assert "Просмотр платежа № " in person.find("/audit", q=str(wanted)).words
    only = person.find("/audit", action="signed_in")
    assert set(only.column("Действие")) == {"Вход"}
    assert "Записей не найдено" in person.find("/audit", q="nobody-at-all").words
    assert person.get("/audit", after="x").status == 400


def test_the_audit_record_can_leave_out_looking_and_tells_details_in_words(own_site):
    own_site.person("oleg").find("/payments", q="7916", period="year", state="posted", min="5")
    person = own_site.person("anna")
    person.post("/partners/osmp/state", {"state": "paused"}, "/partners/osmp")
    page = person.find("/audit")
    assert "Поиск: 7916, период: год, состояние: зачислен, сумма от: 5" in page.words
    link = re.search(r'class="button" href="(/audit[^"]+)"', page.text)[1].replace("&amp;", "&")
    page = person.find(link)
    assert page.column("Действие") == ["Приостановка партнёра"]
    assert 'aria-current="true">Только изменения' in page.text


def test_every_action_is_a_change_or_one_of_those_that_only_look_or_sign_in():
    looking = {action for action in ACTIONS if action.endswith(("_listed", "_viewed", "_exported"))}
    assert set(ACTIONS) - set(CHANGES) == looking | {
        *("signed_in", "sign_in_failed", "signed_out", "password_change_failed", "denied", "searched", "job_file_read")
    }


@pytest.mark.parametrize(
    ("detail", "words"),
    [
        ({}, ""),
        ({"filter": ""}, ""),
        ({"filter": "from=01.11.2026&to=02.11.2026&kind=conflict"}, "С: 01.11.2026, по: 02.11.2026, вид: конфликт"),
        ({"filter": "state=held&state=sent&state=posted&state=voided"}, "Состояние: выбрано: 4"),
        ({"filter": "q=state.posted&unheard=of"}, "Поиск: state.posted, unheard: of"),
        ({"reason": "ok", "note": "ошибка кассира"}, "Причина: ошибка кассира; Ответ: Успешно"),
        ({"role": "viewer"}, "Роль: Наблюдатель"),
        ({"version": 3}, "Версия: 3"),
        ({"unheard": 3}, "unheard: 3"),
        (
            {"email": ["", "a@example.ru"], "due_days": [14, 30]},
            "Срок оплаты, дней: 14 → 30; Эл. почта: — → a@example.ru",
        ),
        ({"state": ["", "active"]}, "Состояние: — → действует"),
        ({"account A-1: state": ["active", "closed"]}, "Лицевой счёт A-1: состояние: действует → закрыт"),
        ({"sha256": "0123456789abcdef" * 4}, "Контрольная сумма: 0123456789ab"),
        ({"amount_minor": -150_050}, "Сумма: −1\u00a0500,50"),
    ],
)
def test_a_detail_is_told_in_words_and_what_is_unheard_of_as_it_is(detail, words):
    assert detail_told(language_of("ru"), detail) == words


def test_the_audit_record_is_read_page_by_page(own_site):
    own_site.rows(
        "INSERT INTO audit (actor, action, object_id)"
        " SELECT 'user:robot', 'signed_in', n FROM generate_series(1, 230) n"
    )
    person = own_site.person("anna")
    path, seen = "/audit?q=robot", []
    while path:
        answer = person.find(path)
        seen += [int(number) for number in answer.column("Объект")]
        following = re.search(r'rel="next" href="([^"]+)"', answer.text)
        path = following and following[1].replace("&amp;", "&")
    assert seen == list(range(230, 0, -1))


def test_what_was_asked_of_a_list_is_told_in_the_words_of_that_list():
    query = "number=42&number.match=equals&state=active"
    told = list_filter_told(
        language_of("ru"), LISTINGS["customers"], query, datetime.now(UTC), ZoneInfo("Europe/Moscow")
    )
    assert "42" in told
    assert not re.search("match|equals|active|state", told)
