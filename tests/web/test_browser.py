"""The pages in a real browser: Debian's Chromium, driven by Playwright. Screenshots go to test-output/web."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.web import seed

pytestmark = pytest.mark.browser

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]
SCREENSHOTS = Path(__file__).parents[2] / "test-output" / "web"
WIDE, NARROW = {"width": 1440, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if not CHROMIUM.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI runs the browser tests, and there is no {CHROMIUM}: install Debian's package chromium")
        pytest.skip(f"no {CHROMIUM}: install Debian's package chromium to run the browser tests")
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
    ids = site.seeded.ids
    tab.goto(f"{site.address}/sign-in")
    picture(tab, f"sign-in-{size}")
    sign_in(tab, site.address, "anna")
    for name, path in {
        "payments": "/payments",
        "payments-bad": "/payments?min=abc&from=31.02.2026",
        "payments-empty": "/payments?q=nothing-like-this",
        "payments-found": "/payments?q=9000000001&period=year",
        "payment": f"/payments/{ids['posted']}",
        "payment-reversed": f"/payments/{ids['reversed']}",
        "cancel": f"/payments/{ids['to_cancel']}/cancel",
        "attempts": "/attempts",
        "partners": "/partners",
        "partner": "/partners/osmp",
        "users": "/users",
        "audit": "/audit",
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
