"""What holds for every page: who may come, tokens, headers, cookies, errors, a database that is away."""

import asyncio
import re
from contextlib import closing
from typing import Final
from urllib.parse import quote, urlencode

import psycopg2
import pytest
from psycopg2 import sql

from kopeck.databases.postgres import SUPERUSER
from tests.web import seed
from tests.web.conftest import running
from web.access.rights import SYSTEM_ROLES, Need, Open, Right
from web.access.throttle import TRIES_PER_PAIR, TRIES_PER_SESSION
from web.app import ROUTES
from web.site.page import Page

#: Every route as an address, and what one needs to open (GET) or send (POST) it.
OPEN_TO: dict[tuple[str, str], Need] = {
    ("GET", "/"): Open.TO_SIGNED_IN,
    ("GET", "/search"): Open.TO_SIGNED_IN,
    ("GET", "/sign-in"): Open.TO_EVERYONE,
    ("POST", "/sign-in"): Open.TO_EVERYONE,
    ("POST", "/sign-out"): Open.TO_EVERYONE,
    ("POST", "/language"): Open.TO_EVERYONE,
    ("POST", "/appearance"): Open.TO_EVERYONE,
    ("GET", "/profile"): Open.TO_SIGNED_IN,
    ("POST", "/profile"): Open.TO_SIGNED_IN,
    ("GET", "/payments"): Right.PAYMENTS_VIEW,
    ("GET", "/payments.csv"): Right.PAYMENTS_EXPORT,
    ("GET", "/payments/open"): Right.PAYMENTS_VIEW,
    ("POST", "/payments/views"): Right.PAYMENTS_VIEW,
    ("POST", "/payments/export"): Right.PAYMENTS_EXPORT,
    ("GET", "/payments/1"): Right.PAYMENTS_VIEW,
    ("GET", "/payments/1/cancel"): Right.PAYMENTS_CANCEL,
    ("POST", "/payments/1/cancel"): Right.PAYMENTS_CANCEL,
    ("GET", "/attempts"): Right.ATTEMPTS_VIEW,
    ("GET", "/customers"): Right.CUSTOMERS_VIEW,
    ("GET", "/customers/A1"): Right.CUSTOMERS_VIEW,
    ("GET", "/orders"): Right.ORDERS_VIEW,
    ("GET", "/orders/A1-1"): Right.ORDERS_VIEW,
    ("GET", "/runs"): Right.RUNS_VIEW,
    ("GET", "/runs/1"): Right.RUNS_VIEW,
    ("POST", "/lists/customers/columns"): Open.TO_SIGNED_IN,
    ("POST", "/lists/customers/views"): Open.TO_SIGNED_IN,
    ("POST", "/lists/customers/export"): Open.TO_SIGNED_IN,
    ("POST", "/lists/customers/act"): Open.TO_SIGNED_IN,
    ("GET", "/invoices"): Right.INVOICES_VIEW,
    ("GET", "/invoices/I-000001"): Right.INVOICES_VIEW,
    ("GET", "/invoices/I-000001/pdf"): Right.INVOICES_VIEW,
    ("GET", "/invoices/I-000001/explain"): Right.INVOICES_VIEW,
    ("GET", "/partners"): Right.PARTNERS_VIEW,
    ("GET", "/partners/osmp"): Right.PARTNERS_TERMS,
    ("POST", "/partners/osmp/state"): Right.PARTNERS_CHANGE,
    ("GET", "/deliveries"): Right.DELIVERIES_VIEW,
    ("GET", "/deliveries/queues"): Right.DELIVERIES_VIEW,
    ("POST", "/deliveries/queues/state"): Right.DELIVERIES_MANAGE,
    ("GET", "/deliveries/1"): Right.DELIVERIES_VIEW,
    ("POST", "/deliveries/1/act"): Right.DELIVERIES_MANAGE,
    ("GET", "/webhooks"): Right.DELIVERIES_VIEW,
    ("POST", "/webhooks/crm/act"): Right.DELIVERIES_MANAGE,
    ("GET", "/users"): Right.USERS_MANAGE,
    ("POST", "/users"): Right.USERS_MANAGE,
    ("GET", "/users/vera"): Right.USERS_MANAGE,
    ("POST", "/users/vera"): Right.USERS_MANAGE,
    ("GET", "/profile/sessions"): Open.TO_SIGNED_IN,
    ("POST", "/profile/sessions"): Open.TO_SIGNED_IN,
    ("GET", "/profile/tokens"): Open.TO_SIGNED_IN,
    ("POST", "/profile/tokens"): Open.TO_SIGNED_IN,
    ("GET", "/roles"): Right.ROLES_MANAGE,
    ("GET", "/roles/new"): Right.ROLES_MANAGE,
    ("POST", "/roles/new"): Right.ROLES_MANAGE,
    ("GET", "/approvals"): Open.TO_SIGNED_IN,
    ("GET", "/approvals/1"): Open.TO_SIGNED_IN,
    ("POST", "/approvals/1"): Open.TO_SIGNED_IN,
    ("GET", "/audit"): Right.AUDIT_VIEW,
    ("GET", "/schedules"): Right.SCHEDULES_VIEW,
    ("GET", "/schedules/bills"): Right.SCHEDULES_VIEW,
    ("POST", "/schedules/bills"): Right.SCHEDULES_MANAGE,
    ("GET", "/jobs"): Right.JOBS_VIEW,
    ("GET", "/jobs/999999999"): Open.TO_SIGNED_IN,  # a job's own right is asked for when it is read
    ("POST", "/jobs/999999999"): Open.TO_SIGNED_IN,
    ("GET", "/jobs/999999999/files/1"): Open.TO_SIGNED_IN,
}


#: Who may open one of these is decided by the object; of one that is not there nobody is told more.
ITS_OWN: Final = "/jobs/"


def test_the_table_above_names_every_route_and_method():
    named = set()
    for method, path in OPEN_TO:
        [route] = [handler for pattern, handler in ROUTES if re.fullmatch(pattern, path)]
        assert method.lower() in vars(route)
        named.add((method.lower(), route))
    wanted = {(method, handler) for _, handler in ROUTES for method in ("get", "post") if method in vars(handler)}
    assert named == wanted


@pytest.mark.parametrize(("method", "path"), OPEN_TO)
def test_a_stranger_is_sent_to_sign_in_and_comes_back_after(site, method, path):
    answer = site.person().ask(method, path, "" if method == "POST" else None)
    if OPEN_TO[method, path] is Open.TO_EVERYONE:
        assert answer.status in (200, 403)  # 403: no token
        return
    assert answer.status == 303
    target = path if method == "GET" else "/payments"
    assert answer.location == f"/sign-in?next={quote(target, safe='')}"


@pytest.mark.parametrize("login", seed.PEOPLE)
def test_each_role_opens_its_pages_and_no_others(site, login):
    person = site.person(login)
    rights = SYSTEM_ROLES[seed.PEOPLE[login]]
    for (method, path), needed in OPEN_TO.items():
        if method == "POST" or needed is Open.TO_EVERYONE:
            continue
        status = person.get(path).status
        if isinstance(needed, Right) and needed not in rights:
            assert status == 403, path
        elif path.startswith(ITS_OWN):
            assert status in (403, 404), path
        else:
            assert status in (200, 302, 303, 404), path


@pytest.mark.parametrize("login", seed.PEOPLE)
def test_each_role_sends_nothing_that_it_has_no_right_to(site, login):
    person = site.person(login)
    token = person.get("/profile").hidden("csrf")
    rights = SYSTEM_ROLES[seed.PEOPLE[login]]
    refused = {
        path: person.ask("POST", path, urlencode({"csrf": token}))
        for (method, path), needed in OPEN_TO.items()
        if method == "POST" and isinstance(needed, Right) and needed not in rights
    }
    assert {path: answer.status for path, answer in refused.items() if answer.status != 403} == {}
    assert all("Доступ закрыт" in answer.words for answer in refused.values())
    assert bool(refused) == (login != "anna")


def test_a_page_that_does_not_say_what_it_needs_is_open_to_nobody():
    assert Page.needs is Open.TO_NOBODY
    assert [handler for _, handler in ROUTES if handler.needs is Open.TO_NOBODY] == []


@pytest.mark.parametrize(("method", "path"), [key for key in OPEN_TO if key[0] == "POST"])
def test_every_post_without_the_sessions_token_is_refused(site, method, path):
    for person in (site.person("anna"), site.person()):
        for body in ("", "csrf=", "csrf=" + "x" * 43, "csrf=" + site.person("oleg").find("/payments").hidden("csrf")):
            answer = person.ask(method, path, body)
            expected = (
                303 if OPEN_TO[method, path] is not Open.TO_EVERYONE and not person.cookies.get("kopeck") else 403
            )
            assert answer.status == expected, body
            if expected == 403:
                assert "Страница устарела" in answer.words


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/sign-in", "/payments", "/static/kopeck.css", "/nothing", "/payments?min=abc"),
        *("/static/nothing.css", "/static/%00", "/favicon.ico", "/invoices/%00", "/invoices/%00/pdf"),
    ],
)
def test_every_answer_carries_the_security_headers(site, path):
    headers = site.person("anna").get(path).headers
    assert headers["Content-Security-Policy"].startswith("default-src 'self';")
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Server"] == "kopeck"
    if not path.startswith(("/static", "/favicon")):
        assert headers["Cache-Control"] == "no-store"


def test_behind_https_every_answer_asks_browsers_to_stay_there(database, journal_uri, journal_name):
    with running(database.dsn, database.owner_dsn, journal_uri, journal_name, secure_cookies=True) as site:
        for path in ("/", "/sign-in", "/nothing", "/static/kopeck.css", "/static/nothing.css", "/payments/open"):
            assert site.person().get(path).headers["Strict-Transport-Security"] == "max-age=31536000", path


def test_a_name_with_nul_in_it_is_no_page_and_leaves_no_traceback(site, caplog):
    caplog.set_level("WARNING")
    anna = site.person("anna")
    for path in ("/static/%00", "/static/..%00/app.py", "/invoices/%00", "/invoices/%00/pdf", "/invoices/I%00"):
        assert anna.get(path).status in (403, 404), path
    assert not [record for record in caplog.records if record.exc_info]


def test_no_page_needs_inline_scripts_styles_or_foreign_files(site):
    person = site.person("anna")
    for path in ("/payments", "/attempts", "/partners", "/partners/osmp", "/users", "/audit", "/profile"):
        page = person.get(path).text
        assert not re.search(r"<script(?! src=\"/static)|<style|\son[a-z]+=|\sstyle=|javascript:", page), path
        assert not re.search(r"(src|href|action)=\"(?!/|#|\?)", page), path


def test_cookies_are_http_only_and_lax_and_secure_where_the_setting_says(database, journal_uri, journal_name):
    with running(database.dsn, database.owner_dsn, journal_uri, journal_name, secure_cookies=True) as site:
        person = site.person()
        form = person.get("/sign-in").headers["Set-Cookie"]
        assert form.startswith("__Host-kopeck-form=")
        assert {"HttpOnly", "Secure", "SameSite=Strict", "Path=/"} <= set(form.split("; "))
        answer = person.sign_in("anna", seed.PASSWORD)
        session = answer.headers["Set-Cookie"]
        assert session.startswith("__Host-kopeck=")
        assert {"HttpOnly", "Secure", "SameSite=Lax", "Path=/"} <= set(session.split("; "))
        assert "Domain" not in session
        assert answer.headers["Strict-Transport-Security"].startswith("max-age=")


def test_cookies_and_addresses_follow_a_trusted_proxy(database, journal_uri, journal_name):
    with running(database.dsn, database.owner_dsn, journal_uri, journal_name, trusted_proxies=("127.0.0.0/8",)) as site:
        person = site.person()
        person.extra = {"X-Forwarded-For": "6.6.6.6, 198.51.100.7", "X-Forwarded-Proto": "https"}
        person.sign_in("vera", seed.PASSWORD)
        assert "__Host-kopeck" in person.cookies
        assert site.one("SELECT remote_ip FROM audit") == "198.51.100.7"
        person = site.person()
        person.extra = {"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "http"}
        person.sign_in("vera", seed.PASSWORD)
        assert "kopeck" in person.cookies


def test_what_a_client_says_of_itself_is_not_believed(site):
    person = site.person()
    person.extra = {"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https"}
    person.sign_in("vera", seed.PASSWORD)
    assert "kopeck" in person.cookies
    assert site.rows("SELECT remote_ip FROM audit ORDER BY id DESC LIMIT 1") == [("127.0.0.1",)]


def test_signing_in_changes_the_token_and_signing_out_ends_it(site):
    person = site.person()
    person.cookies["kopeck"] = "chosen-by-an-attacker"
    person.sign_in("vera", seed.PASSWORD)
    token = person.cookies["kopeck"]
    assert token != "chosen-by-an-attacker"
    assert person.get("/payments").status == 200
    assert person.get("/sign-in").location == "/payments"
    assert person.post("/sign-out", {}, "/payments").location == "/sign-in"
    person.cookies["kopeck"] = token
    assert person.get("/payments").status == 303


@pytest.mark.parametrize(
    ("target", "place"),
    [
        ("/payments?q=7", "/payments?q=7"),
        ("//evil.example", "/payments"),
        ("https://evil.example", "/payments"),
        ("/\\evil.example", "/payments"),
        ("", "/payments"),
    ],
)
def test_after_signing_in_one_lands_on_this_site(site, target, place):
    assert site.person().sign_in("vera", seed.PASSWORD, target).location == place


def test_a_wrong_password_and_an_unknown_login_are_told_the_same(own_site):
    wrong = own_site.person().sign_in("vera", "not the password")
    unknown = own_site.person().sign_in("nobody", "not the password")
    assert wrong.status == unknown.status == 401
    assert wrong.words == unknown.words
    assert "Логин или пароль не подошли" in wrong.words
    rows = own_site.rows("SELECT actor, object_id FROM audit WHERE action = 'sign_in_failed' ORDER BY id")
    assert rows == [("anonymous", "vera"), ("anonymous", "")]


def test_guesses_of_a_stranger_keep_nobody_out_who_was_here_before(own_site):
    vera = own_site.person()
    assert vera.sign_in("vera", seed.PASSWORD).status == 303
    own_site.rows("UPDATE sign_in_tries SET tries = 1000 WHERE scope = 'login' RETURNING 1")
    stranger = own_site.person()
    told = [stranger.sign_in("vera", f"not the password {number}") for number in range(TRIES_PER_PAIR + 2)]
    assert [answer.status for answer in told] == [401] * TRIES_PER_PAIR + [429] * 2
    assert int(told[-1].headers["Retry-After"]) > 0
    assert "Слишком много попыток" in told[-1].words
    # The same address, but a browser in which she signed in before; and another login from that address.
    vera.cookies.pop("kopeck")
    assert vera.sign_in("vera", seed.PASSWORD).status == 303
    assert own_site.person().sign_in("oleg", seed.PASSWORD).status == 303


def test_an_unknown_login_waits_as_a_known_one_does(own_site):
    answers = {}
    for login in ("vera", "nobody-at-all"):
        stranger = own_site.person()
        tries = [stranger.sign_in(login, f"not the password {number}") for number in range(TRIES_PER_PAIR + 1)]
        answers[login] = [(answer.status, re.sub(r"\d+", "N", answer.words).replace(login, "L")) for answer in tries]
    assert answers["vera"] == answers["nobody-at-all"]


def test_guesses_of_the_present_password_are_on_record_and_end_the_session(own_site):
    oleg = own_site.person("oleg")
    fields = {"current": "not the password", "password": "my own words 7", "repeat": "my own words 7"}
    for _ in range(TRIES_PER_SESSION):
        assert oleg.post("/profile", fields, "/profile").status == 400
    answer = oleg.post("/profile", {**fields, "current": seed.PASSWORD}, "/profile")
    assert (answer.status, answer.location) == (303, "/sign-in")
    assert oleg.get("/payments").status == 303
    told = own_site.rows("SELECT actor, detail FROM audit WHERE action = 'password_change_failed' ORDER BY id")
    assert told == [("user:oleg", {})] * TRIES_PER_SESSION + [("user:oleg", {"reason": "too many tries, signed out"})]


def test_when_too_many_sign_in_at_once_the_next_is_asked_to_wait_and_nothing_is_counted(own_site, monkeypatch):
    oleg = own_site.person("oleg")
    fields = {"current": seed.PASSWORD, "password": "my own words 7", "repeat": "my own words 7"}
    monkeypatch.setattr("web.site.site.SIGN_INS_WAITING", 0)
    answer = own_site.person().sign_in("vera", seed.PASSWORD)
    assert answer.status == 503
    assert "входит слишком много людей" in answer.words
    answer = oleg.post("/profile", fields, "/profile")
    assert answer.status == 503
    assert "входит слишком много людей" in answer.words
    assert own_site.rows("SELECT count(*) FROM sign_in_tries WHERE scope <> 'address' AND tries > 1") == [(0,)]


def test_a_request_is_logged_without_the_numbers_people_search_for(site, caplog):
    caplog.set_level("INFO", logger="web.app")
    site.person("vera").get("/payments", q="79161234567", min="abc")
    site.call(asyncio.sleep(0))  # the line is written after the answer is on its way
    told = [record.getMessage() for record in caplog.records if record.name == "web.app"]
    assert told[-1] == "GET /payments 400"


def test_a_temporary_password_must_be_replaced_before_anything_is_seen(own_site):
    own_site.rows("UPDATE users SET password_is_temporary = true WHERE login = 'oleg'")
    person = own_site.person("oleg")
    for path in ("/payments", "/payments.csv", "/attempts"):
        assert person.get(path).location == "/profile"
    fields = {"current": seed.PASSWORD, "password": "my own words 7", "repeat": "my own words 7"}
    other = own_site.newcomer("oleg")
    answer = person.post("/profile", fields, "/profile")
    assert answer.location == "/payments"
    assert "Пароль изменён" in person.get("/payments").words
    assert "Пароль изменён" not in person.get("/payments").words
    assert other.get("/profile").status == 303
    assert own_site.newcomer("oleg", "my own words 7").get("/payments").status == 200


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"current": "wrong wrong"}, "Нынешний пароль не подошёл"),
        ({"repeat": "another one 7"}, "Пароли не совпадают"),
        ({"password": "short", "repeat": "short"}, "Пароль слишком короткий"),
        ({"password": "I am oleg 2026", "repeat": "I am oleg 2026"}, "В пароле не должно быть логина"),
        ({"password": seed.PASSWORD, "repeat": seed.PASSWORD}, "Новый пароль совпадает с нынешним"),
    ],
)
def test_a_password_that_cannot_be_taken_is_told_why(site, fields, message):
    typed = {"current": seed.PASSWORD, "password": "my own words 7", "repeat": "my own words 7", **fields}
    person = site.person("oleg")
    answer = person.post("/profile", typed, "/profile")
    assert answer.status == 400
    assert message in answer.words
    assert site.newcomer("oleg").get("/payments").status == 200


def test_the_language_is_the_browsers_until_a_person_chooses_and_stays_chosen(own_site):
    person = own_site.person()
    person.language = "en-GB,en;q=0.9"
    assert "Sign in" in person.get("/sign-in").words
    answer = person.post("/language", {"language": "ru", "next": "/sign-in?next=%2Faudit"}, "/sign-in")
    assert answer.location == "/sign-in"
    assert "Вход" in person.get("/sign-in").words
    person = own_site.person("vera")
    answer = person.post("/language", {"language": "en", "next": "/attempts?kind=conflict"}, "/payments")
    assert answer.location == "/attempts?kind=conflict"
    assert "Partner requests" in own_site.person("vera").get("/attempts").words
    assert person.post("/language", {"language": "xx", "next": "//evil"}, "/payments").location == "/payments"
    assert "Payments" in person.get("/payments").words


def test_an_address_that_is_no_page_says_so_in_words(site):
    for person in (site.person(), site.person("anna")):
        for path in ("/nothing", "/payments/abc", "/payments/99999999999999999999", "/static/nothing.css"):
            answer = person.get(path)
            assert answer.status == 404, path
        assert "Такой страницы нет" in person.get("/nothing").words


def test_a_page_that_only_reads_refuses_to_be_sent_to(site):
    person = site.person("anna")
    answer = person.post("/audit", {}, "/audit")
    assert answer.status == 405


def test_bytes_that_are_no_text_are_a_bad_request_and_no_fault_of_ours(site):
    answer = site.person("anna").get("/payments?q=%ff%fe")
    assert answer.status == 400
    assert "Запрос не понят" in answer.words


def test_a_page_too_large_to_be_a_form_is_refused(site):
    person = site.person("anna")
    person.post("/language", {"language": "ru"}, "/payments")
    with pytest.raises((ConnectionError, OSError)):
        person.ask("POST", "/language", "x" * 1_000_000)


def test_with_the_journal_away_payments_say_so_and_one_payment_still_opens(database, journal_uri, journal_name):
    nowhere = ("mongodb://127.0.0.1:9", "nowhere")
    with running(database.dsn, database.owner_dsn, journal_uri, journal_name, pages_journal=nowhere) as site:
        person = site.person("oleg")
        answer = person.get("/payments")
        assert answer.status == 503
        assert "Журнал платежей сейчас недоступен" in answer.words
        assert "Платежи по-прежнему принимаются" in answer.words
        assert answer.headers["Retry-After"] == "10"
        answer = person.find("/payments/open", id=site.seeded.ids["posted"])
        assert answer.status == 200
        assert "1 234,56 ₽" in answer.words
        assert "Журнал сейчас недоступен" in answer.words


def test_with_the_database_away_pages_say_so_and_work_again_when_it_is_back(own_site, pg, database):
    person = own_site.person("oleg")
    assert person.get("/payments").status == 200
    with closing(psycopg2.connect(pg.dsn(SUPERUSER, "postgres"))) as connection:
        connection.autocommit = True
        with connection.cursor() as cur:
            name = sql.Identifier(database.name)
            cur.execute(sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS false").format(name))
            cur.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (database.name,))
            answer = person.get("/payments")
            assert answer.status == 503
            assert "Основная база сейчас недоступна" in answer.words
            cur.execute(sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS true").format(name))
    assert person.get("/payments").status == 200
