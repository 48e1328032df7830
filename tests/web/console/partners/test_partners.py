"""Partners, as people look at them and an administrator manages them."""

import re
from dataclasses import fields

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from adapters.protocols import contract_from_json
from billing.language import language_of
from gateway.partners.records import PartnerRow
from tests.web.console.payments.test_payments import money, plain
from web.console.partners.partners import SettlementTotal, contract_words, settlement_totals


def test_everyone_sees_partners_and_only_an_administrator_their_contract(site):
    viewer, administrator = site.person("vera"), site.person("anna")
    page = viewer.get("/partners")
    assert "QIWI Терминалы" in page.words
    assert 'href="/partners/osmp"' not in page.text
    contract = administrator.get("/partners/osmp")
    assert '"protocol": "osmp"' in contract.words  # as stored, folded
    assert "Наименьший платёж 0,01 ₽" in plain(contract)
    assert "Отмена возможна в течение" in contract.words
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


def test_every_term_of_a_contract_is_told_in_words_of_the_readers_language():
    body = {"protocol": "osmp", "min_minor": 5_000, "date_past_s": None, "date_future_s": 90, "display": ["name"]}
    contract = contract_from_json(1, "osmp", 1, body, True)
    english = dict(contract_words(language_of("en"), contract).terms)
    assert english["Smallest payment"] == "₽50.00"
    assert english["The partner's time may lie behind by"] == "without limit"
    assert english["The partner's time may lie ahead by"].replace("\u00a0", " ") == "1 min 30 sec"
    assert english["The payer sees"] == "the subscriber's name"
    assert english["Addresses requests are accepted from"] == "any"
    assert english["The partner may cancel a payment"] == "no"
    russian = contract_words(language_of("ru"), contract)
    assert len(russian.terms) == len(english)
    assert dict(russian.dialect).keys() == {field.name for field in fields(contract.dialect)}
    told = [value for what, value in russian.terms + russian.dialect if "pattern" not in what and "RE2" not in what]
    assert not [value for value in told if re.search(r"[\[\]{}()']|None|True|False", value)]
