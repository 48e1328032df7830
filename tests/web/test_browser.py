"""The pages in a real browser: Debian's Chromium, driven by Playwright. Screenshots go to test-output/web."""

import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.billing.invoicing.invoice_books import Books, Charge
from tests.web import seed
from web.access.audit import CHANGES

pytestmark = pytest.mark.browser

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]
SCREENSHOTS = Path(__file__).parents[2] / "test-output" / "web"
WIDE, NARROW = {"width": 1440, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if not CHROMIUM.exists():
        lacking = f"there is no {CHROMIUM}: install Debian's package chromium"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(lacking)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium: Any) -> Iterator[Page]:
    context = chromium.new_context(viewport=WIDE, locale="ru-RU", timezone_id="Asia/Tokyo")
    page = context.new_page()
    page.set_default_timeout(10_000)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    yield page
    context.close()
    assert [problem for problem in problems if "status of 4" not in problem] == []


def sign_in(page: Page, address: str, login: str) -> None:
    page.goto(f"{address}/sign-in")
    page.get_by_label("Логин").fill(login)
    page.get_by_label("Пароль").fill(seed.PASSWORD)
    page.get_by_role("button", name="Войти").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Платежи")


@pytest.mark.parametrize(("size", "viewport"), [("wide", WIDE), ("narrow", NARROW)])
def test_no_page_scrolls_sideways_and_each_is_pictured(site, tab, size, viewport):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    tab.set_viewport_size(viewport)
    site.rows(
        "INSERT INTO audit (actor, action, object_kind, object_id, detail)"
        " VALUES ('system:cli:root', 'catalogue_loaded', 'catalogue', 'mobile', %s),"
        " ('user:anna', 'customer_changed', 'customer', '1001', %s)",
        json.dumps({"version": 2, "sha256": "0123456789abcdef" * 4, "changes": 5}),
        json.dumps({"state": ["", "active"], "unheard_of_by_pages": "f" * 90}),
    )
    ids = site.seeded.ids
    tab.goto(f"{site.address}/sign-in")
    picture(tab, f"sign-in-{size}")
    sign_in(tab, site.address, "anna")
    for name, path in {
        "home": "/",
        "search": "/search?" + urlencode({"q": "Ёлкина"}),
        "search-help": "/search",
        "search-nothing": "/search?" + urlencode({"q": "нет таких"}),
        "payments": "/payments",
        "payments-bad": "/payments?min=abc&from=31.02.2026",
        "payments-empty": "/payments?q=nothing-like-this",
        "payments-found": "/payments?q=9000000001&period=year",
        "payment": f"/payments/{ids['posted']}",
        "payment-reversed": f"/payments/{ids['reversed']}",
        "payment-conflict": f"/payments/{ids['conflicting']}",
        "cancel": f"/payments/{ids['to_cancel']}/cancel",
        "attempts": "/attempts",
        "partners": "/partners",
        "partner": "/partners/osmp",
        "users": "/users",
        "audit": "/audit",
        "audit-changes": "/audit?" + urlencode([("action", action) for action in CHANGES]),
        "profile": "/profile",
        "missing": "/nothing-here",
    }.items():
        tab.goto(site.address + path)
        for summary in tab.locator("details.raw summary").all()[:3] if name == "payment" else []:
            summary.click()
        picture(tab, f"{name}-{size}")


def picture(page: Page, name: str) -> None:
    """A screenshot, and the page must fit its window."""
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
    too_wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert too_wide <= 0, f"{name} is {too_wide} px wider than the window"
    misplaced = page.locator("dl > :not(div):not(dt):not(dd), dl > div:not(:has(> dt)), dl > div:not(:has(> dd))")
    assert misplaced.count() == 0, (
        f"{name} has a list of terms with what is neither term nor meaning (axe: definition-list)"
    )


def listed(page: Page) -> list[str]:
    return page.locator("a.row-link").all_inner_texts()


def test_a_payment_is_found_opened_and_left_by_keyboard_alone(site, tab):
    sign_in(tab, site.address, "vera")
    tab.keyboard.press("/")
    expect(tab.locator("#search")).to_be_focused()
    tab.keyboard.type("payment:9000000001")
    tab.keyboard.press("Enter")
    heading = f"Платёж № {site.seeded.ids['posted']}"
    expect(tab.get_by_role("heading", level=1)).to_have_text(heading)  # the one exact hit opens
    tab.goto(f"{site.address}/payments?q=9000000001")
    link = tab.locator("a.row-link")
    expect(link).to_have_count(1)
    while not link.evaluate("element => element === document.activeElement"):
        tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("heading", level=1)).to_have_text(heading)
    tab.go_back()
    expect(tab.locator("#q")).to_have_value("9000000001")
    tab.goto(f"{site.address}/payments")
    tab.keyboard.press("Tab")
    expect(tab.get_by_text("К содержанию")).to_be_focused()


def test_filters_are_chosen_by_pointing_and_end_up_in_the_address(site, tab):
    sign_in(tab, site.address, "vera")
    tab.get_by_text("Состояние Все").click()
    tab.get_by_label("Отказан").check()
    tab.get_by_label("Возвращён").check()
    tab.screenshot(path=SCREENSHOTS / "choice-wide.png")
    tab.keyboard.press("Escape")
    expect(tab.get_by_label("Отказан")).to_be_hidden()
    tab.get_by_label("Сумма от").fill("500")
    tab.get_by_role("button", name="Этот месяц").click()
    expect(tab).to_have_url(re.compile(r"period=month&state=refused&state=reversed&min=500$"))
    expect(tab.get_by_role("button", name="Этот месяц")).to_have_attribute("aria-pressed", "true")
    expect(tab.get_by_text("Состояние выбрано: 2")).to_be_visible()
    told = set(tab.locator("tbody .badge").all_inner_texts())
    assert told == {"Отказан", "Возвращён"}
    tab.get_by_role("link", name="Сбросить фильтр").click()
    expect(tab).to_have_url(f"{site.address}/payments")


def test_older_and_newer_and_the_browsers_own_back_show_the_same_pages(site, tab):
    sign_in(tab, site.address, "vera")
    tab.goto(f"{site.address}/payments?period=year")
    first = listed(tab)
    tab.get_by_role("link", name="Раньше").click()
    expect(tab.get_by_role("link", name="Позже")).to_be_visible()
    second = listed(tab)
    assert not set(first) & set(second)
    tab.go_back()
    expect(tab.locator("a.row-link").first).to_contain_text(first[0])
    assert listed(tab) == first
    tab.go_forward()
    expect(tab.locator("a.row-link").first).to_contain_text(second[0])
    assert listed(tab) == second
    tab.get_by_role("link", name="Позже").click()
    expect(tab.locator("a.row-link").first).to_contain_text(first[0])
    assert listed(tab) == first


def test_an_operator_cancels_with_a_reason_after_thinking_twice(own_site, tab):
    wanted = own_site.seeded.ids["to_cancel"]
    sign_in(tab, own_site.address, "oleg")
    tab.goto(f"{own_site.address}/payments/{wanted}")
    tab.get_by_role("link", name="Вернуть платёж").click()
    button = tab.get_by_role("button", name="Вернуть платёж на 3 000,00 ₽")
    button.click()
    expect(tab).to_have_url(f"{own_site.address}/payments/{wanted}/cancel")  # the browser asks for the reason first
    tab.get_by_label("Причина возврата").fill("Абонент ошибся счётом")
    tab.get_by_label("Получатель и сумма проверены").check()
    button.dblclick()
    expect(tab.get_by_role("status")).to_have_text(re.compile("Платёж (возвращён|уже был возвращён)"))
    expect(tab.locator(".summary .badge")).to_have_text("Возвращён")
    expect(tab.get_by_role("link", name="Вернуть платёж")).to_have_count(0)
    picture(tab, "cancelled-wide")
    tab.reload()
    expect(tab.get_by_role("status")).to_have_count(0)
    assert own_site.one("SELECT count(*) FROM transfers WHERE source_id = %s AND step = 'reverse'", wanted) == 1


def test_on_a_phone_the_filter_waits_folded_and_opens_when_something_must_be_corrected(site, tab):
    tab.set_viewport_size(NARROW)
    sign_in(tab, site.address, "vera")
    expect(tab.get_by_label("Сумма от")).to_be_hidden()
    expect(tab.locator(".more > summary")).to_contain_text("· все партнёры · все состояния")
    expect(tab.locator(".more > summary .on")).to_have_count(0)
    tab.locator(".more > summary").click()
    tab.get_by_label("Сумма от").fill("abc")
    tab.get_by_role("button", name="Применить").click()
    expect(tab.get_by_text("Это не сумма")).to_be_visible()
    expect(tab.get_by_label("Сумма от")).to_have_value("abc")


def test_on_a_phone_the_folded_filter_says_what_limits_the_list_and_a_card_opens_wherever_it_is_touched(site, tab):
    tab.set_viewport_size(NARROW)
    sign_in(tab, site.address, "anna")
    tab.goto(f"{site.address}/payments?period=7d&partner=osmp&state=posted&min=100")
    picture(tab, "payments-filtered-narrow")
    assert tab.locator(".more > summary .on").all_inner_texts()[1:] == ["QIWI Терминалы", "Зачислен", "Сумма от 100"]
    number = listed(tab)[0].removeprefix("№ ")
    tab.locator("tbody td.money").first.click(force=True)  # the link lies over the whole card
    expect(tab.get_by_role("heading", level=1)).to_have_text(f"Платёж № {number}")
    tab.get_by_role("button", name="Разделы").click()
    for name in ("Платежи", "Запросы партнёров", "Партнёры", "Пользователи", "Аудит"):
        box = tab.get_by_role("navigation", name="Разделы").get_by_role("link", name=name, exact=True).bounding_box()
        assert box["x"] >= 0, name
        assert box["x"] + box["width"] <= NARROW["width"], name


def test_everything_needed_works_without_scripts(own_site, chromium):
    context = chromium.new_context(java_script_enabled=False, locale="ru-RU", viewport=WIDE)
    page = context.new_page()
    page.set_default_timeout(10_000)
    sign_in(page, own_site.address, "oleg")
    page.locator("#q").fill("9000000004")
    page.get_by_role("button", name="Найти").click()
    page.locator("a.row-link").click()
    page.get_by_role("link", name="Вернуть платёж").click()
    page.get_by_label("Причина возврата").fill("Абонент ошибся счётом")
    page.get_by_label("Получатель и сумма проверены").check()
    page.get_by_role("button", name="Вернуть платёж на").click()
    expect(page.get_by_role("status")).to_have_text("Платёж возвращён.")
    page.get_by_role("button", name="oleg").click()
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("heading", name="Timeline")).to_be_visible()
    page.get_by_role("button", name="oleg").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    context.close()


def test_the_page_says_sums_and_times_of_the_configured_zone_not_of_the_browser(site, tab):
    sign_in(tab, site.address, "vera")
    tab.goto(f"{site.address}/payments?q=9000000001")
    shown = tab.locator("tbody time").inner_text()
    [(expected,)] = site.rows(
        "SELECT to_char(created_at AT TIME ZONE 'Europe/Moscow', 'DD.MM.YYYY HH24:MI') FROM payments WHERE id = %s",
        site.seeded.ids["posted"],
    )
    assert shown == expected
    expect(tab.get_by_text("Время: Europe/Moscow, UTC+3")).to_be_visible()
    aligned = tab.locator("td.money").evaluate("element => getComputedStyle(element).textAlign")
    assert aligned == "right"


# Relative luminance and contrast as WCAG 2.2 defines them; grounds are looked up through transparent parents.
CONTRAST = """() => {
  const channel = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ground = (element) => {
    for (let node = element; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  let seen = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
    seen += 1;
    const pair = [luminance(parse(getComputedStyle(element).color)), luminance(ground(element))];
    const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    if (ratio < 4.5) poor.push(`${walker.currentNode.data.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return {seen, poor};
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_its_ground(site, tab, scheme):
    tab.emulate_media(color_scheme=scheme)
    tab.goto(f"{site.address}/sign-in")
    payment, cancel = (f"/payments/{site.seeded.ids[name]}" for name in ("posted", "to_cancel_too"))
    pages = ["/payments?period=year", "/payments?min=abc", payment, f"{cancel}/cancel", "/attempts"]
    pages += ["/partners", "/partners/osmp", "/users", "/audit"]
    sign_in(tab, site.address, "anna")
    for path in pages:
        tab.goto(site.address + path)
        told = tab.evaluate(CONTRAST)
        assert told["seen"] > 20, path
        assert told["poor"] == [], path
        if scheme == "dark":
            picture(tab, f"dark{path.partition('?')[0].replace('/', '-')}")


NAMELESS = """() => [...document.querySelectorAll("input, select, textarea, button")]
  .filter((field) => field.type !== "hidden" && field.ariaHidden !== "true")
  .filter((field) => !(field.labels?.length || field.ariaLabel || field.textContent.trim()))
  .map((field) => field.outerHTML.slice(0, 80))"""


def test_every_field_and_button_has_a_name_and_every_column_a_heading(site, tab):
    sign_in(tab, site.address, "anna")
    for path in ("/payments", "/attempts", "/partners", "/users", "/audit", "/profile"):
        tab.goto(site.address + path)
        nameless = tab.evaluate(NAMELESS)
        assert nameless == [], path
        for table in tab.locator("table.list").all():
            headings = table.locator("thead th[scope=col]").count()
            assert headings == table.locator("tbody tr").first.locator("td").count(), path
        assert tab.locator("h1").count() == 1, path


def test_paper_tells_the_filter_and_leaves_the_buttons_out(site, tab):
    sign_in(tab, site.address, "oleg")
    tab.goto(f"{site.address}/payments?q=79161234567&from=01.11.2026&to=02.11.2026&state=posted")
    expect(tab.locator(".print-only")).to_be_hidden()
    tab.emulate_media(media="print")
    expect(tab.locator(".print-only")).to_have_text(
        "Период: 01.11.2026 – 02.11.2026 · Поиск: 79161234567 · Состояние: Зачислен"
    )
    expect(tab.get_by_role("button", name="Применить")).to_be_hidden()
    expect(tab.get_by_role("navigation", name="Разделы")).to_be_hidden()


def test_a_browser_that_asks_for_english_gets_english_that_fits(site, chromium):
    for size, viewport in (("wide", WIDE), ("narrow", NARROW)):
        context = chromium.new_context(locale="en-GB", viewport=viewport)
        page = context.new_page()
        page.goto(f"{site.address}/sign-in")
        page.get_by_label("Login").fill("oleg")
        page.get_by_label("Password").fill(seed.PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Payments")
        picture(page, f"english-payments-{size}")
        page.goto(f"{site.address}/payments/{site.seeded.ids['conflicting']}")
        picture(page, f"english-payment-{size}")
        context.close()


# What lies outside of what is around it (cut off, or over its neighbour), or is wider than its own box. A table may be
# pushed sideways where the window is narrow.
CUT_OFF = """() => [...document.querySelectorAll("td, th, dd, .money")].filter((cell) => {
    if (!cell.checkVisibility() || (cell.closest("thead") && innerWidth <= 768)) return false;
    const box = cell.getBoundingClientRect();
    const isOut = (around) => box.left < around.left - 1 || box.right > around.right + 1;
    for (let node = cell.parentElement; node; node = node.parentElement) {
      if (node.matches(".sideways") && innerWidth < 1280) break;
      if (node.matches(".card, .list, .sideways, main") && isOut(node.getBoundingClientRect())) return true;
    }
    return cell.scrollWidth > cell.clientWidth + 1 && getComputedStyle(cell).display !== "inline";
  }).map((cell) => cell.textContent.trim())"""


def bill(site: Any) -> None:
    """Invoice I-000001 with all a document has: long names, both kinds of no tax, an adjustment, millions."""
    books = Books(site.dsn)
    books.catalogue()
    books.ask(
        "UPDATE legal_entities SET name = 'ООО «Межрегиональная связь»', details = %s",
        '{"inn": "7700000000", "account": "40702810000000000000", "correspondent_account": "30101810000000000000"}',
    )
    contacts = {"address": "101000, Москва, Примерная улица, дом 2", "email": "department.of.accounts@example.com"}
    account, other = books.account("A1", name="АО «Ромашка»", contacts=contacts), books.account("A2-79161234567")
    home = books.order(other, "2026-01-01 00:00+03", payer=account)
    abroad = books.order(account, "2026-01-01 00:00+03", plan="abroad")
    lines = [
        Charge(12_345_678_900, order_id=home),
        Charge(987_654_321, "data", "usage", home, 123_456_789),
        Charge(9_000, "roaming", order_id=abroad, tax_ppm=0),
        Charge(7_000, "licence", order_id=abroad, tax_ppm=0),
        Charge(-1_000, kind="adjustment", order_id=home),
    ]
    books.invoices(books.run(date(2026, 3, 1)), [(account, lines)], on=date(2026, 3, 1))


@pytest.mark.parametrize("locale", ["ru-RU", "en-GB"])
def test_an_invoice_fits_and_nothing_of_it_is_cut_off(own_site, chromium, locale):
    with ThreadPoolExecutor(1) as pool:  # Playwright keeps a loop in this thread
        pool.submit(bill, own_site).result()
    context = chromium.new_context(locale=locale, viewport=WIDE)
    page = context.new_page()
    page.goto(f"{own_site.address}/sign-in")
    page.locator("[name=login]").fill("vera")
    page.locator("[name=password]").fill(seed.PASSWORD)
    page.locator("[name=password]").press("Enter")
    expect(page).to_have_url(re.compile("/payments"))
    page.goto(f"{own_site.address}/invoices/I-000001")
    for width in (1440, 1280, 1100, 800, 390):
        page.set_viewport_size({"width": width, "height": 900})
        picture(page, f"invoice-{locale[:2]}-{width}")
        assert page.evaluate(CUT_OFF) == [], width
    page.set_viewport_size(WIDE)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.reload()  # colours that are on their way from one scheme to the other are neither
        told = page.evaluate(CONTRAST)
        assert told["seen"] > 40
        assert told["poor"] == [], scheme
    assert page.get_by_text("0%" if locale == "en-GB" else "0\u00a0%", exact=True).count() == 2
    assert page.get_by_text("No VAT" if locale == "en-GB" else "Без НДС", exact=True).count() == 2
    context.close()
