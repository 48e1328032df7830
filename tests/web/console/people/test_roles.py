"""Roles on their pages: the matrix, limits, versions, a second person."""

import re

from tests.web import seed


def fields(answer):
    return {"key": answer.hidden("key"), "version": answer.hidden("version")}


def role_id(site, name):
    return site.one("SELECT id FROM roles WHERE name = %s", name)


def add(person, **more):
    page = person.find("/roles/new")
    form = {"name": "Касса", "right": ["money.post", "payments.view"], "above.money.post": "5 000,50", **more}
    return person.post("/roles/new", {"key": page.hidden("key"), **form}, "/roles/new")


def test_a_role_is_added_changed_given_and_removed(own_site):
    anna = own_site.person("anna")
    assert add(anna).location == "/roles"
    assert "Роль сохранена." in anna.get("/roles").words
    assert own_site.rows("SELECT rights, limits, changed_by FROM roles WHERE name = 'Касса'") == [
        (["money.post", "payments.view"], {"money.post": 500_050}, "user:anna")
    ]
    page = f"/roles/{role_id(own_site, 'Касса')}"
    shown = anna.get(page)
    assert 'value="5000.50"' in shown.text
    anna.post("/users/vera", {"do": "roles", "role": ["Касса"], "had": "viewer"}, "/users/vera")
    vera = own_site.newcomer("vera")
    assert vera.get("/payments").status == 200
    assert vera.get("/attempts").status == 403
    changed = anna.post(page, {"name": "Касса", "right": ["attempts.view"], "do": "save", **fields(shown)}, page)
    assert changed.location == "/roles"
    assert vera.get("/attempts").status == 200  # from the next request on
    assert vera.get("/payments").status == 403
    used = anna.post(page, {"do": "remove", **fields(anna.get(page))}, page)
    assert "сначала снимите её" in used.words
    anna.post("/users/vera", {"do": "roles", "role": ["viewer"], "had": "Касса"}, "/users/vera")
    assert anna.post(page, {"do": "remove", **fields(anna.get(page))}, page).location == "/roles"
    assert anna.get(page).status == 404
    told = own_site.rows("SELECT action, changes FROM audit WHERE object_kind = 'role' ORDER BY id")
    assert [action for action, _ in told] == ["role_added", "role_changed", "role_removed"]
    assert told[1][1]["rights"] == [["money.post", "payments.view"], ["attempts.view"]]


def test_of_two_administrators_who_edit_one_role_the_second_is_told(own_site):
    anna = own_site.person("anna")
    add(anna)
    page = f"/roles/{role_id(own_site, 'Касса')}"
    first, second = anna.get(page), anna.get(page)
    assert anna.post(page, {"name": "Касса", "right": ["audit.view"], **fields(first)}, page).status == 303
    late = anna.post(page, {"name": "Касса", "right": ["users.manage"], **fields(second)}, page)
    assert late.status == 400
    assert "Тем временем роль изменил anna" in late.words
    assert own_site.one("SELECT rights FROM roles WHERE name = 'Касса'") == ["audit.view"]


def test_what_is_wrong_with_a_role_is_told_and_what_was_typed_stays(site):
    anna = site.person("anna")
    for more, message in (
        ({"above.money.post": "много"}, "Напишите сумму"),
        ({"name": ""}, "Название роли"),
        ({"name": "Viewer"}, "есть в каждой установке"),
        ({"right": []}, "хотя бы одно право"),
        ({"right": ["money.fly"]}, "Права money.fly нет"),
        ({"entity": ["main"]}, "не делится по юридическим лицам"),
        ({"entity": ["nowhere"]}, "Юридического лица nowhere нет"),
    ):
        answer = add(anna, **more)
        assert answer.status == 400, more
        assert message in answer.words, more
        assert f'value="{more.get("name", "Касса")}"' in answer.text or more == {"name": ""}
    assert site.rows("SELECT FROM roles WHERE code IS NULL") == []
    assert anna.get("/roles/999").status == 404


def test_a_system_role_is_shown_and_stays(site):
    anna = site.person("anna")
    number = site.one("SELECT id FROM roles WHERE code = 'viewer'")
    assert "не меняется" in anna.get(f"/roles/{number}").words
    assert len(re.findall(r'name="right"[^>]* disabled', anna.get(f"/roles/{number}").text)) > 30
    answer = anna.post(
        f"/roles/{number}", {"name": "viewer", "right": ["audit.view"], "version": "1", "key": "k"}, "/roles"
    )
    assert answer.status == 400


def test_a_role_that_needs_two_people_waits_for_the_second(own_site):
    anna = own_site.person("anna")
    add(anna, name="Осторожный", right=["roles.manage", "payments.view"], **{"above.roles.manage": "0"})
    anna.post("/users/oleg", {"do": "roles", "role": ["Осторожный"], "had": "operator"}, "/users/oleg")
    oleg = own_site.newcomer("oleg")
    asked = add(oleg, right=["payments.view"], why="для новой кассы")
    assert asked.location == "/approvals/1"
    assert "ждёт второго человека" in oleg.get("/approvals/1").words
    assert own_site.rows("SELECT FROM roles WHERE name = 'Касса'") == []
    assert "Роль Касса" in oleg.get("/approvals?view=mine").words
    assert "Роль Касса" not in oleg.get("/approvals").words
    assert oleg.post("/approvals/1", {"do": "approve"}, "/approvals/1").status == 400
    shown = anna.get("/approvals/1").words
    assert "для новой кассы" in shown
    assert "Видеть платежи" in shown
    assert anna.post("/approvals/1", {"do": "refuse"}, "/approvals/1").status == 400  # without a reason
    assert anna.post("/approvals/1", {"do": "approve"}, "/approvals/1").status == 303
    assert "Подтверждено и выполнено." in anna.get("/approvals/1").words
    assert anna.post("/approvals/1", {"do": "approve"}, "/approvals/1").status == 303  # a second press
    assert own_site.rows("SELECT changed_by FROM roles WHERE name = 'Касса'") == [("user:oleg",)]
    assert own_site.person("vera").get("/approvals/1").status == 404
    assert own_site.person("vera").get("/approvals").status == 200
    assert own_site.person().sign_in("vera", seed.PASSWORD).status == 303
