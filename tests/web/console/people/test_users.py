"""Users, as an administrator manages them."""

import re

import pytest

from tests.web import seed


def roles_of(site, login):
    rows = site.rows(
        "SELECT r.name FROM users u JOIN user_roles ur ON ur.user_id = u.id JOIN roles r ON r.id = ur.role_id "
        "WHERE u.login = %s ORDER BY r.name",
        login,
    )
    return [name for (name,) in rows]


def secret(answer):
    return re.search(r'class="code secret">([^<]+)<', answer.text)[1]


def test_a_new_user_gets_a_temporary_password_that_works_once_and_is_not_kept(own_site):
    person = own_site.person("anna")
    answer = person.post("/users", {"login": "Boris", "role": ["operator", "viewer"]}, "/users")
    assert answer.status == 200
    password = secret(answer)
    assert password not in person.get("/users").text
    told = "SELECT count(*) FROM audit WHERE detail::text LIKE %s OR changes::text LIKE %s"
    assert own_site.rows(told, f"%{password}%", f"%{password}%") == [(0,)]
    assert roles_of(own_site, "boris") == ["operator", "viewer"]
    newcomer = own_site.newcomer("boris", password)
    assert newcomer.get("/payments").location == "/profile"
    new = {"current": password, "password": "my own words 7", "repeat": "my own words 7"}
    newcomer.post("/profile", new, "/profile")
    assert newcomer.get("/payments").status == 200


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"login": "vera", "role": "viewer"}, "Логин vera уже есть"),
        ({"login": "Вера", "role": "viewer"}, "от 2 до 64 знаков"),
        ({"login": "boris", "role": "root"}, "Роли root нет"),
        ({"login": "boris"}, "У пользователя есть хотя бы одна роль"),
    ],
)
def test_a_user_that_cannot_be_added_is_told_beside_the_field(site, fields, message):
    answer = site.person("anna").post("/users", fields, "/users")
    assert answer.status == 400
    assert message in answer.words
    assert f'value="{fields["login"]}"' in answer.text


def test_roles_state_and_password_of_another_user_change_and_end_his_sessions(own_site):
    anna, oleg = own_site.person("anna"), own_site.newcomer("oleg")
    page = "/users/oleg"
    assert anna.post(page, {"do": "roles", "role": "viewer", "had": "operator"}, page).status == 303
    assert "Роли пользователя oleg: Наблюдатель." in anna.get(page).words
    assert oleg.get("/payments.csv").status == 403  # from the next request on
    anna.post(page, {"do": "disabled"}, page)
    assert oleg.get("/payments").status == 303
    assert own_site.person().sign_in("oleg", seed.PASSWORD).status == 401
    anna.post(page, {"do": "active"}, page)
    oleg = own_site.newcomer("oleg")
    password = secret(anna.post(page, {"do": "password"}, page))
    assert oleg.get("/payments").status == 303
    assert own_site.newcomer("oleg", password).get("/payments").location == "/profile"
    rows = own_site.rows(
        "SELECT action, changes FROM audit WHERE object_kind = 'user' AND actor = 'user:anna' ORDER BY id"
    )
    assert [action for action, _ in rows] == [
        "signed_in", "user_role_set", "user_state_set", "user_state_set", "user_password_reset",
    ]  # fmt: skip
    assert rows[1][1] == {"roles": [["operator"], ["viewer"]]}
    assert "Роли Оператор Наблюдатель" in anna.get("/audit").words.replace("operator", "Оператор").replace(
        "viewer", "Наблюдатель"
    )


def test_of_two_administrators_who_change_one_user_the_second_is_told(own_site):
    anna, page = own_site.person("anna"), "/users/vera"
    assert anna.post(page, {"do": "roles", "role": "operator", "had": "viewer"}, page).status == 303
    late = anna.post(page, {"do": "roles", "role": "administrator", "had": "viewer"}, page)
    assert late.status == 400
    assert "тем временем изменили" in late.words
    assert roles_of(own_site, "vera") == ["operator"]


def test_an_administrator_does_not_change_himself_and_nonsense_changes_nobody(site):
    person = site.person("anna")
    for form in ({"do": "disabled"}, {"do": "roles", "role": "viewer"}, {"do": "password"}):
        answer = person.post("/users/anna", form, "/users/anna")
        assert answer.status == 400
        assert "Себя отключить или понизить нельзя" in answer.words
    assert person.post("/users/vera", {"do": "dance"}, "/users").status == 400
    assert person.post("/users/vera", {"do": "roles", "role": "root"}, "/users").status == 400
    assert person.post("/users/nobody", {"do": "password"}, "/users").status == 404
    assert person.get("/users/nobody").status == 404
    assert roles_of(site, "vera") == ["viewer"]


def test_sessions_of_others_are_seen_and_ended_with_the_right_to(own_site):
    anna, oleg = own_site.person("anna"), own_site.newcomer("oleg")
    assert "Python" not in anna.get("/users/oleg").words  # http.client says nothing of itself
    assert "127.0.0.1" in anna.get("/users/oleg").words
    anna.post("/users/oleg", {"do": "sessions", "session": "x"}, "/users/oleg")
    assert oleg.get("/payments").status == 303
    assert "Сеансов нет" in anna.get("/users/oleg").words
