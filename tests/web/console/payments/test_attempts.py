"""The list of partners' calls that changed nothing."""

import re

import pytest

from tests.web.console.payments.test_payments import plain
from web.console.payments.attempts import KINDS


def kinds(answer):
    return re.findall(r'data-kind="([a-z_]+)"', answer.text)


def test_every_kind_of_attempt_is_listed_with_its_words(site):
    answer = site.person("vera").get("/attempts")
    assert set(kinds(answer)) == set(KINDS)
    told = plain(answer)
    for words in ("Неверная подпись", "Чужой адрес", "198.51.100.9", "Неизвестный", "none of the 2 valid keys made it"):
        assert words in told


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_can_be_asked_for_alone(site, kind):
    assert set(kinds(site.person("vera").find("/attempts", kind=kind))) == {kind}


def test_conflicts_are_announced_and_lead_to_their_list_and_payment(site):
    person = site.person("vera")
    answer = person.get("/attempts")
    assert "1 конфликт." in answer.words
    link = re.search(r'href="(/attempts\?kind=conflict[^"]*)"', answer.text)
    answer = person.find(link[1].replace("&amp;", "&"))
    assert kinds(answer) == ["conflict"]
    assert "Зачислено 100,00 ₽, партнёр прислал 200,00 ₽" in plain(answer)
    assert f'href="/payments/{site.seeded.ids["conflicting"]}"' in answer.text


def test_the_partners_own_code_is_named_as_a_code(site):
    assert "Лицевой счёт не найден код 5" in site.person("vera").find("/attempts", kind="refusal").words


def test_an_attempt_is_found_by_account_key_payment_and_partner(site):
    person = site.person("vera")
    for query in ({"q": "79161234567"}, {"q": "9000000001"}, {"q": str(site.seeded.ids["posted"])}):
        assert "repeat" in kinds(person.find("/attempts", **query)), query
    assert set(kinds(person.find("/attempts", partner="cyberplat"))) == {"bad_signature", "bad_source"}
    assert person.get("/attempts", partner="nobody").status == 400
    assert person.get("/attempts", after="gibberish").status == 400


def test_calls_that_were_counted_together_say_how_many_they_were(site):
    page = site.person("vera").get("/attempts")
    assert page.text.count("Таких запросов за минуту: 1234") == 1
    assert "Requests like this" not in page.text


def test_a_strangers_request_is_shown_harmless(site):
    answer = site.person("vera").find("/attempts", kind="malformed")
    assert "<b>bold" not in answer.text
    assert "&lt;b&gt;bold" in answer.text
    assert "\u202e" not in answer.text
    assert "\\u202e" in answer.text


def test_looking_is_on_record(site):
    site.person("vera").find("/attempts", kind="conflict")
    last = site.rows("SELECT actor, detail FROM audit WHERE action = 'attempts_listed' ORDER BY id DESC LIMIT 1")
    assert last == [("user:vera", {"filter": "kind=conflict"})]
