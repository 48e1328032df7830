"""Partners, users and the audit record, as an administrator works with them."""

import re
from functools import partial

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.contracts import PartnerRow
from tests.web import seed
from tests.web.test_payments import money, plain
from web import texts
from web.admin import SettlementTotal, detail_told, settlement_totals
from web.audit import ACTIONS, CHANGES


def test_everyone_sees_partners_and_only_an_administrator_their_contract(site):
    viewer, administrator = site.person("vera"), site.person("anna")
    page = viewer.get("/partners")
    assert "QIWI Терминалы" in page.words
    assert 'href="/partners/osmp"' not in page.text
    contract = administrator.get("/partners/osmp")
    assert '"protocol": "osmp"' in contract.words
    assert administrator.get("/partners/nobody").status == 404


def test_pausing_and_resuming_a_partner_acts_in_the_database_and_is_on_record(own_site):
    person = own_site.person("anna")
    for state, action, words in (
        ("paused", "partner_paused", "Партнёр osmp приостановлен."),
        ("active", "partner_resumed", "Партнёр osmp снова работает."),
    ):
        before = own_site.one("SELECT revision FROM contracts_revision")
        answer = person.post("/partners/osmp/state", {"state": state}, "/partners/osmp")
        assert answer.location == "/partners/osmp"
        assert words in person.get(answer.location).words
        assert own_site.one("SELECT state FROM partners WHERE code = 'osmp'") == state
        assert own_site.one("SELECT revision FROM contracts_revision") > before
        recorded = own_site.rows("SELECT actor, object_id FROM audit WHERE action = %s", action)
        assert recorded == [("user:anna", "osmp")]
    assert person.post("/partners/osmp/state", {"state": "gone"}, "/partners/osmp").status == 400
    assert person.post("/partners/nobody/state", {"state": "paused"}, "/partners/osmp").status == 404


def test_a_partners_keys_are_named_but_never_shown(own_site):
    own_site.rows(
        "INSERT INTO partner_keys (partner_id, purpose, material, created_by)"
        " SELECT id, 'secret', 'do-not-tell-anybody', 'test' FROM partners WHERE code = 'osmp'"
    )
    page = own_site.person("anna").get("/partners/osmp")
    assert "Общий секрет" in page.words
    assert "do-not-tell" not in page.text


def test_a_partners_short_or_shared_key_is_told_on_its_page(own_site):
    key = rsa.RSAPublicNumbers(65_537, (1 << 1023) + 0x10F).public_key()
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    own_site.one(
        "WITH keys AS (INSERT INTO partner_keys (partner_id, purpose, material, created_by)"
        " SELECT id, 'verify', %s, 'test' FROM partners WHERE code IN ('osmp', 'cyberplat') RETURNING 1)"
        " SELECT count(*) FROM keys",
        pem,
    )
    page = own_site.person("anna").get("/partners/osmp").text
    assert "1024 бит: замените ключом от 2048 бит." in page
    assert "Этот же ключ у партнёров: cyberplat." in page


def test_a_partner_whose_contract_is_broken_is_shown_as_such(own_site):
    own_site.rows(
        "INSERT INTO contracts (partner_id, version, body, created_by)"
        """ SELECT id, 2, '{"protocol": "none"}', 'test' FROM partners WHERE code = 'osmp'"""
    )
    person = own_site.person("anna")
    assert "Договор не читается" in person.get("/partners").words
    assert "Договор не читается" in person.get("/partners/osmp").words


def test_a_new_user_gets_a_temporary_password_that_works_once_and_is_not_kept(own_site):
    person = own_site.person("anna")
    answer = person.post("/users", {"login": "Boris", "role": "operator"}, "/users")
    assert answer.status == 200
    password = re.search(r'class="code secret">([^<]+)<', answer.text)[1]
    assert password not in person.get("/users").text
    assert own_site.rows("SELECT count(*) FROM audit WHERE detail::text LIKE %s", f"%{password}%") == [(0,)]
    newcomer = own_site.newcomer("boris", password)
    assert newcomer.get("/payments").location == "/profile"
    new = {"current": password, "password": "my own words 7", "repeat": "my own words 7"}
    newcomer.post("/profile", new, "/profile")
    assert newcomer.get("/payments").status == 200


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"login": "vera", "role": "viewer"}, "Такой логин уже есть"),
        ({"login": "Вера", "role": "viewer"}, "От 2 до 64 знаков"),
        ({"login": "boris", "role": "root"}, "Такой роли нет"),
    ],
)
def test_a_user_that_cannot_be_added_is_told_beside_the_field(site, fields, message):
    answer = site.person("anna").post("/users", fields, "/users")
    assert answer.status == 400
    assert message in answer.words
    assert f'value="{fields["login"]}"' in answer.text


def test_role_state_and_password_of_another_user_change_and_end_his_sessions(own_site):
    anna, oleg = own_site.person("anna"), own_site.newcomer("oleg")
    assert anna.post("/users/oleg", {"do": "role", "role": "viewer"}, "/users").status == 303
    assert "Роль пользователя oleg: Наблюдатель." in anna.get("/users").words
    assert oleg.get("/payments.csv").status == 403
    anna.post("/users/oleg", {"do": "disabled"}, "/users")
    assert oleg.get("/payments").status == 303
    assert own_site.person().sign_in("oleg", seed.PASSWORD).status == 401
    anna.post("/users/oleg", {"do": "active"}, "/users")
    oleg = own_site.newcomer("oleg")
    answer = anna.post("/users/oleg", {"do": "password"}, "/users")
    password = re.search(r'class="code secret">([^<]+)<', answer.text)[1]
    assert oleg.get("/payments").status == 303
    assert own_site.newcomer("oleg", password).get("/payments").location == "/profile"
    actions = own_site.rows("SELECT action FROM audit WHERE object_kind = 'user' AND actor = 'user:anna' ORDER BY id")
    assert [action for (action,) in actions] == [
        "signed_in", "user_role_set", "user_state_set", "user_state_set", "user_password_reset",
    ]  # fmt: skip


def test_an_administrator_does_not_change_himself_and_nonsense_changes_nobody(site):
    person = site.person("anna")
    for form in ({"do": "disabled"}, {"do": "role", "role": "viewer"}, {"do": "password"}):
        answer = person.post("/users/anna", form, "/users")
        assert answer.status == 400
        assert "Себя отключить или понизить нельзя" in answer.words
    assert person.post("/users/vera", {"do": "dance"}, "/users").status == 400
    assert person.post("/users/vera", {"do": "role", "role": "root"}, "/users").status == 400
    assert person.post("/users/nobody", {"do": "password"}, "/users").status == 404
    assert site.one("SELECT role FROM users WHERE login = 'vera'") == "viewer"


def test_the_audit_record_is_searched_by_person_object_and_action(own_site):
    wanted = own_site.seeded.ids["posted"]
    own_site.person("vera").get(f"/payments/{wanted}")
    person = own_site.person("anna")
    answer = person.find("/audit", q="vera")
    assert "Просмотр платежа" in answer.words
    assert f'href="/payments/{wanted}"' in answer.text
    assert "Просмотр платежа № " in person.find("/audit", q=str(wanted)).words
    only = person.find("/audit", action="signed_in")
    assert set(re.findall(r'class="c-action">([^<]+)<', only.text)) == {"Вход"}
    assert "Записей не найдено" in person.find("/audit", q="nobody-at-all").words
    assert person.get("/audit", after="x").status == 400


def test_the_audit_record_can_leave_out_looking_and_tells_details_in_words(own_site):
    own_site.person("oleg").find("/payments", q="7916", period="year", state="posted", min="5")
    person = own_site.person("anna")
    person.post("/partners/osmp/state", {"state": "paused"}, "/partners/osmp")
    page = person.find("/audit")
    assert "Поиск: 7916, период: год, состояние: зачислен, сумма от: 5" in page.words
    link = re.search(r'class="chip button" href="([^"]+)"', page.text)[1].replace("&amp;", "&")
    page = person.find(link)
    assert re.findall(r'class="c-action">([^<]+)<', page.text) == ["Приостановка партнёра"]
    assert 'aria-current="true">Только изменения' in page.text


def test_every_action_is_a_change_or_one_of_those_that_only_look_or_sign_in():
    looking = {action for action in ACTIONS if action.endswith(("_listed", "_viewed", "_exported"))}
    assert set(ACTIONS) - set(CHANGES) == looking | {"signed_in", "sign_in_failed", "signed_out", "denied"}


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
        ({"version": 3}, "version: 3"),
        ({"email": ["", "a@example.ru"], "due_days": [14, 30]}, "due_days: 14 → 30; email: — → a@example.ru"),
    ],
)
def test_a_detail_is_told_in_words_and_what_is_unheard_of_as_it_is(detail, words):
    assert detail_told(partial(texts.text, "ru"), detail) == words


def test_what_partners_owe_and_what_we_owe_is_told_apart_and_per_currency():
    def row(balance):
        return PartnerRow(1, "osmp", "QIWI", "active", "osmp", 1, balance, {})

    assert settlement_totals([(row(-500), None), (row(-100), None), (row(70), None)]) == [
        SettlementTotal("RUB", 600, 70)
    ]
    assert settlement_totals([]) == []


def test_partners_tell_who_owes_whom_and_their_total(site):
    [(owed,)] = site.rows("SELECT -sum(balance_minor)::bigint FROM accounts WHERE kind = 'clearing'")
    [(osmp,)] = site.rows("SELECT -balance_minor FROM accounts WHERE number = 'clearing:osmp:RUB'")
    told = plain(site.person("vera").get("/partners"))
    assert f"{money(osmp)} Партнёр должен нам" in told
    assert f"Всего, RUB {money(owed)} Партнёры должны нам" in told
    assert re.search(r"Остатки на \d\d\.\d\d\.\d{4} \d\d:\d\d", told)


def test_the_audit_record_is_read_page_by_page(own_site):
    own_site.rows(
        "INSERT INTO audit (actor, action, object_id)"
        " SELECT 'user:robot', 'signed_in', n FROM generate_series(1, 230) n"
    )
    person = own_site.person("anna")
    path, seen = "/audit?q=robot", []
    while path:
        answer = person.find(path)
        seen += [int(number) for number in re.findall(r'class="c-object">(\d+)<', answer.text)]
        following = re.search(r'rel="next" href="([^"]+)"', answer.text)
        path = following and following[1].replace("&amp;", "&")
    assert seen == list(range(230, 0, -1))
