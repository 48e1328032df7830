"""Users, as an administrator manages them."""

import re

import pytest

from tests.web import seed


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
        ({"login": "vera", "role": "viewer"}, "Логин vera уже есть"),
        ({"login": "Вера", "role": "viewer"}, "Логин — от 2 до 64 знаков"),
        ({"login": "boris", "role": "root"}, "Роли root нет"),
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
    roles = "SELECT r.code FROM users u JOIN user_roles ur ON ur.user_id = u.id JOIN roles r ON r.id = ur.role_id"
    assert site.rows(f"{roles} WHERE u.login = 'vera'") == [("viewer",)]
