"""What is a person's own: sessions listed and ended, a new browser told of, tokens made once shown and revoked."""

import re
from html import unescape

from tests.web import seed

FIREFOX = {"User-Agent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0"}


def signed_in(site, login, agent=None):
    person = site.person()
    person.extra = agent or {}
    person.sign_in(login, seed.PASSWORD)
    return person


def test_sessions_are_listed_with_browser_and_address_and_ended_one_by_one_or_all(own_site):
    first, second, third = (signed_in(own_site, "oleg", FIREFOX) for _ in range(3))
    shown = first.get("/profile/sessions")
    assert shown.words.count("браузер замечен впервые") == 3
    assert "127.0.0.1" in shown.words
    assert shown.words.count("этот") == 1
    [one] = own_site.rows("SELECT id FROM sessions ORDER BY id OFFSET 1 LIMIT 1")
    other = own_site.rows("SELECT max(id) FROM sessions WHERE user_id <> (SELECT id FROM users WHERE login = 'oleg')")
    first.post("/profile/sessions", {"session": one[0]}, "/profile/sessions")
    assert second.get("/payments").status == 303
    assert third.get("/payments").status == 200
    first.post("/profile/sessions", {"session": "others"}, "/profile/sessions")
    assert third.get("/payments").status == 303
    assert first.get("/payments").status == 200
    assert first.post("/profile/sessions", {"session": "x"}, "/profile/sessions").status == 400
    assert other == [(None,)]


def test_nobody_ends_the_session_of_another(own_site):
    oleg, vera = signed_in(own_site, "oleg"), signed_in(own_site, "vera")
    [(number,)] = own_site.rows("SELECT s.id FROM sessions s JOIN users u ON u.id = s.user_id WHERE u.login = 'oleg'")
    vera.post("/profile/sessions", {"session": number}, "/profile/sessions")
    assert oleg.get("/payments").status == 200


def test_a_sign_in_with_a_new_browser_is_told_to_the_other_sessions_and_marked(own_site):
    first = signed_in(own_site, "oleg")
    assert "новом браузере" not in first.get("/profile").words
    second = signed_in(own_site, "oleg", FIREFOX)
    assert "вошёл под вашим именем в новом браузере: Firefox, Windows, 127.0.0.1" in first.get("/profile").words
    assert "новом браузере" not in first.get("/profile").words  # once
    assert "браузер замечен впервые" in second.get("/profile/sessions").words
    second.post("/sign-out", {}, "/profile")
    again = own_site.person()
    again.cookies = {name: value for name, value in second.cookies.items() if name.endswith("browser")}
    again.extra = FIREFOX
    again.sign_in("oleg", seed.PASSWORD)
    assert "новом браузере" not in first.get("/profile").words
    told = own_site.rows("SELECT detail FROM audit WHERE action = 'signed_in' AND actor = 'user:oleg' ORDER BY id")
    assert [detail.get("is_new_browser", False) for (detail,) in told] == [True, True, False]


def test_a_token_is_shown_once_kept_as_a_hash_and_revoked(own_site):
    oleg = signed_in(own_site, "oleg")
    form = {"name": "ночная загрузка", "days": "30", "right": ["payments.view", "money.post"]}
    made = oleg.post("/profile/tokens", form, "/profile/tokens")
    text = re.search(r'class="code secret">([^<]+)<', made.text)[1]
    assert text.startswith("kpk_")
    shown = oleg.get("/profile/tokens")
    assert text not in shown.text
    assert text[:12] in shown.words
    everything = own_site.rows("SELECT t::text FROM tokens t UNION ALL SELECT a::text FROM audit a")
    assert not [row for (row,) in everything if text[13:] in row]
    [(number,)] = own_site.rows("SELECT id FROM tokens")
    anna = signed_in(own_site, "anna")
    assert anna.post("/profile/tokens", {"revoke": number}, "/profile/tokens").status == 404
    assert oleg.post("/profile/tokens", {"revoke": number}, "/profile/tokens").status == 303
    assert "Отозван" in oleg.get("/profile/tokens").words
    assert own_site.rows("SELECT revoked_by FROM tokens") == [("user:oleg",)]


def test_a_token_gives_no_more_than_its_owner_has(own_site):
    vera = signed_in(own_site, "vera")
    for more, message in (
        ({"right": ["users.manage"]}, "Нельзя дать или отнять то, чего нет у вас самих"),
        ({"right": []}, "У токена есть хотя бы одно право"),
        ({"days": "0"}, "Токен живёт от 1 до 366 дней"),
        ({"days": "9999999"}, "Токен живёт от 1 до 366 дней"),
        ({"name": " "}, "Название токена"),
    ):
        form = {"name": "x", "days": "1", "right": ["payments.view"], **more}
        answer = vera.post("/profile/tokens", form, "/profile/tokens")
        assert (answer.status, message in answer.words) == (400, True), more
    assert own_site.rows("SELECT FROM tokens") == []


def test_a_session_that_ends_in_mid_form_loses_nothing_that_was_typed(own_site):
    oleg = signed_in(own_site, "oleg")
    form = {"name": "ночная <b>", "days": "30", "right": ["payments.view", "money.post"], "password": "secret words"}
    csrf = oleg.find("/profile/tokens").hidden("csrf")
    own_site.rows("DELETE FROM sessions")
    asked = oleg.post("/profile/tokens", {"csrf": csrf, **form})
    assert asked.status == 401
    assert "Ваш сеанс закончился" in asked.words
    assert "secret words" not in asked.text
    names, values = (
        [unescape(text) for text in re.findall(rf'"typed_{part}" value="([^"]*)"', asked.text)]
        for part in ("name", "value")
    )
    carried = {"typed_name": names, "typed_value": values, "next": asked.hidden("next"), "csrf": asked.hidden("csrf")}
    wrong = oleg.post("/sign-in", {**carried, "login": "oleg", "password": "not the password"})
    assert wrong.status == 401
    assert wrong.text.count('name="typed_name"') == len(names)
    again = oleg.post("/sign-in", {**carried, "login": "oleg", "password": seed.PASSWORD})
    assert again.status == 200
    assert "ночная <b>" in again.words
    assert own_site.rows("SELECT FROM tokens") == []  # until the person sends it
    sent = oleg.post("/profile/tokens", {**dict(form, password=""), "csrf": again.hidden("csrf")})
    assert sent.status == 200
    assert own_site.rows("SELECT name, rights FROM tokens") == [("ночная <b>", ["money.post", "payments.view"])]
