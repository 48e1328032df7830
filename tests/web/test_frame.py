"""What stands around every page: how it looks is the browser's choice, and htmx never leaves half a page behind."""

from gzip import compress

import pytest
from playwright.sync_api import Page, expect

from tests.web import seed
from tests.web.test_browser import chromium, listed, sign_in, tab  # noqa: F401 (fixtures)
from web.site.templates import HTMX_CONFIG
from web.site.vendored import FOLDER


def test_colours_and_lines_are_kept_in_the_browser_and_go_back_to_the_systems(site):
    person = site.person("vera")
    assert "data-theme" not in person.get("/profile").text
    answer = person.post("/appearance", {"theme": "dark", "next": "/profile"}, "/profile")
    assert (answer.status, answer.location) == (303, "/profile")
    person.post("/appearance", {"density": "compact", "next": "/profile"}, "/profile")
    page = person.get("/profile").text
    assert '<html lang="ru" data-theme="dark" data-density="compact">' in page
    assert '<meta name="color-scheme" content="dark">' in page
    person.post("/appearance", {"theme": "system", "density": "roomy"}, "/profile")
    assert '<html lang="ru">' in person.get("/profile").text


@pytest.mark.parametrize("theme", ['"><script>', "DARK", "dark;light", ""])
def test_a_look_that_is_no_choice_is_the_systems(site, theme):
    person = site.person("vera")
    person.post("/appearance", {"theme": theme, "next": "//evil.example"}, "/profile")
    assert "data-theme" not in person.get("/profile").text
    person.cookies["kopeck_theme"] = "neon"
    assert "data-theme" not in person.get("/profile").text


def test_a_stranger_chooses_the_look_of_the_sign_in_page(site):
    person = site.person()
    answer = person.post("/appearance", {"theme": "dark", "next": "/sign-in"}, "/sign-in")
    assert answer.location == "/sign-in"
    assert 'data-theme="dark"' in person.get("/sign-in").text


def test_an_ended_session_sends_the_whole_page_to_sign_in_when_htmx_asks(site):
    person = site.person()
    person.extra["HX-Request"] = "true"
    answer = person.get("/payments?period=year")
    assert answer.status == 401
    assert answer.headers["HX-Redirect"] == "/sign-in?next=%2Fpayments%3Fperiod%3Dyear"
    assert answer.body == b""


def test_the_token_of_a_session_may_come_in_a_header(site):
    person = site.person("vera")
    token = person.get("/profile").hidden("csrf")
    person.extra["X-CSRF-Token"] = "x" * len(token)
    assert person.ask("POST", "/language", "language=ru").status == 403
    person.extra["X-CSRF-Token"] = token
    assert person.ask("POST", "/language", "language=ru").status == 303


def test_vendored_files_are_kept_for_ever_and_pages_never(site):
    person = site.person("vera")
    kept = person.get("/static/vendor/htmx.org-2.0.11/htmx.min.js")
    assert kept.status == 200
    assert kept.headers["Cache-Control"].startswith("max-age=31536")
    assert "default-src 'self'" in kept.headers["Content-Security-Policy"]
    assert person.get("/profile").headers["Cache-Control"] == "no-store"


def test_a_search_box_that_leads_nowhere_is_not_shown(site):
    page = site.person("vera").get("/profile").text
    assert ('action="/search"' in page) == (site.person("vera").get("/search?q=1").status != 404)


def test_style_sheets_stay_small():
    sheets = sorted((FOLDER.parent / "css").glob("*.css"))
    assert sheets
    assert len(compress(b"".join(sheet.read_bytes() for sheet in sheets), 9)) <= 25 * 1024


@pytest.mark.browser
def test_paging_and_filters_replace_the_list_and_not_the_page(site, tab: Page):  # noqa: F811
    sign_in(tab, site.address, "vera")
    tab.goto(f"{site.address}/payments?period=year")
    tab.evaluate("window.same = true")
    first = listed(tab)
    tab.get_by_role("link", name="Раньше").click()
    expect(tab.locator("a.row-link").first).not_to_contain_text(first[0])
    assert "after=" in tab.url
    tab.locator("#q").fill("9000000001")
    tab.get_by_role("button", name="Найти").click()
    expect(tab.locator("a.row-link")).to_have_count(1)
    expect(tab).to_have_url(f"{site.address}/payments?q=9000000001&period=year")
    assert tab.evaluate("window.same") is True
    tab.get_by_label("Сумма от").fill("abc")
    tab.get_by_role("button", name="Применить").click()
    expect(tab.get_by_text("Это не сумма")).to_be_visible()
    assert tab.evaluate("window.same") is True
    expect(tab.locator("input[data-calendar] ~ .date-button")).to_have_count(2)


@pytest.mark.browser
def test_a_session_that_ends_meanwhile_leads_to_sign_in_and_on_to_what_was_asked(own_site, tab: Page):  # noqa: F811
    sign_in(tab, own_site.address, "vera")
    own_site.rows("DELETE FROM sessions")
    tab.locator("#q").fill("9000000001")
    tab.get_by_role("button", name="Найти").click()
    expect(tab.get_by_role("heading", level=1)).to_have_text("Вход")
    tab.get_by_label("Логин").fill("vera")
    tab.get_by_label("Пароль").fill(seed.PASSWORD)
    tab.get_by_role("button", name="Войти").click()
    expect(tab.locator("a.row-link")).to_have_count(1)
    expect(tab.locator("#q")).to_have_value("9000000001")


@pytest.mark.browser
def test_colours_are_switched_by_keyboard_alone(site, tab: Page):  # noqa: F811
    sign_in(tab, site.address, "vera")
    ground = "getComputedStyle(document.querySelector('.beside')).backgroundColor"
    before = tab.evaluate(ground)
    tab.locator(".me").focus()
    tab.keyboard.press("Enter")
    expect(tab.locator("#preferences")).to_be_visible()
    while tab.evaluate("document.activeElement.value") != "dark":
        tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    expect(tab.locator("html")).to_have_attribute("data-theme", "dark")
    assert tab.evaluate(ground) != before


def test_htmx_evaluates_nothing_and_keeps_nothing():
    for setting in ('"allowEval": false', '"historyCacheSize": 0', '"selfRequestsOnly": true'):
        assert setting in HTMX_CONFIG
