"""Every page in both languages, light and dark, on a desk and on a phone: axe finds nothing, nothing scrolls sideways.

Pages are taken from the routes, so that a new one cannot be forgotten. All rules of axe are judged wide and light, and
narrow and dark; contrast, in one language, in the two other pairs too. Screenshots go to test-output/web/pages.
"""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from kopeck.databases.postgres import APP, OWNER
from tests.web import seed
from tests.web.addresses import EXAMPLES, NOT_PAGES, STRANGERS
from tests.web.conftest import Running, make_database, running
from tests.web.furnished import furnish
from tests.web.test_browser import NARROW, SCREENSHOTS, WIDE, chromium  # noqa: F401 (a fixture)
from web.app import ROUTES

pytestmark = pytest.mark.browser

#: WCAG 2.2 to level AA, and what axe calls good practice.
ALL: dict[str, Any] = {"resultTypes": ["violations"]}
CONTRAST: dict[str, Any] = {"resultTypes": ["violations"], "runOnly": ["color-contrast"]}
LANGUAGES = {"ru": "ru-RU", "en": "en-GB"}
ADDRESSES = [address for addresses in EXAMPLES.values() for address in addresses]
STRANGE_ADDRESSES = [address for addresses in STRANGERS.values() for address in addresses]

SIDEWAYS = """() => {
  const page = document.documentElement;
  const wide = [...document.querySelectorAll(".frame, .card, .filter, .summary, .totals, .heading, .top")]
    .filter((part) => part.checkVisibility() && part.scrollWidth > part.clientWidth + 1)
    .map((part) => `${part.className}: ${part.scrollWidth} of ${part.clientWidth}`);
  return {page: page.scrollWidth - page.clientWidth, wide};
}"""


@pytest.fixture(scope="module")
def console(pg: Any, journal_uri: str) -> Iterator[Running]:
    """A provider with something on every page, which the tests of this module only look at."""
    name = make_database(pg)
    with running(pg.dsn(APP, name), pg.dsn(OWNER, name), journal_uri, name, 60) as process:
        process.seeded.ids.update(furnish(process))
        yield process


@pytest.fixture(scope="module")
def desks(console: Running, chromium: Any) -> Iterator[dict[tuple[str, bool], Page]]:  # noqa: F811
    """A tab a language, of an administrator and of a stranger."""
    tabs: dict[tuple[str, bool], Page] = {}
    for language, locale in LANGUAGES.items():
        for is_signed_in in (True, False):
            context = chromium.new_context(locale=locale, viewport=WIDE, reduced_motion="reduce")
            tab = tabs[language, is_signed_in] = context.new_page()
            if is_signed_in:
                tab.goto(f"{console.address}/sign-in")
                tab.locator("[name=login]").fill("anna")
                tab.locator("[name=password]").fill(seed.PASSWORD)
                tab.locator("[name=password]").press("Enter")
                expect(tab.locator("nav.side")).to_have_count(1)
    yield tabs
    for tab in tabs.values():
        tab.context.close()


def test_every_route_that_is_opened_has_an_example_or_a_reason():
    opened = {pattern for pattern, handler in ROUTES if "get" in vars(handler)}
    named = [*EXAMPLES, *STRANGERS, *NOT_PAGES]
    assert len(named) == len(set(named))
    assert opened == set(named)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("address", ADDRESSES)
def test_a_page_is_open_to_everyone_and_fits(console, desks, address, language):
    look_at(desks[language, True], console.address + address.format(**console.seeded.ids), language == "ru")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("address", STRANGE_ADDRESSES)
def test_a_page_of_strangers_is_open_to_everyone_and_fits(console, desks, address, language):
    look_at(desks[language, False], console.address + address, language == "ru")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_opens_on_a_page_is_open_to_everyone_too(console, desks, scheme):
    tab = desks["ru", True]
    tab.emulate_media(color_scheme=scheme)
    tab.set_viewport_size(WIDE)
    tab.goto(f"{console.address}/payments")
    tab.locator(".choice summary").first.click()
    assert faults(tab, ALL) == []
    tab.keyboard.press("Escape")
    tab.locator(".me").click()
    expect(tab.locator("#preferences")).to_be_visible()
    assert faults(tab, ALL) == []
    tab.set_viewport_size(NARROW)
    tab.reload()
    tab.locator(".top-menu").click()
    expect(tab.locator("nav.side")).to_be_visible()
    assert faults(tab, ALL) == []
    tab.keyboard.press("Escape")
    expect(tab.locator("nav.side")).to_be_hidden()


def look_at(tab: Page, address: str, in_all_colours: bool) -> None:
    tab.set_viewport_size(WIDE)
    tab.emulate_media(color_scheme="light")
    tab.goto(address)
    assert faults(tab, ALL) == []
    if in_all_colours:
        picture(tab, address, "wide")
    tab.emulate_media(color_scheme="dark")
    if in_all_colours:
        assert faults(tab, CONTRAST) == []
    for width in (1440, 1100, 800, 390):
        tab.set_viewport_size({"width": width, "height": 844})
        assert tab.evaluate(SIDEWAYS) == {"page": 0, "wide": []}, width
    assert faults(tab, ALL) == []
    if in_all_colours:
        tab.emulate_media(color_scheme="light")
        picture(tab, address, "narrow")
        assert faults(tab, CONTRAST) == []


def picture(tab: Page, address: str, size: str) -> None:
    name = re.sub(r"\W+", "-", address.split("/", 3)[3]) or "home"
    tab.screenshot(path=SCREENSHOTS / "pages" / f"{name}-{size}.png", full_page=True)


def faults(tab: Page, options: dict[str, Any]) -> list[str]:
    """What axe finds, a line for each element."""
    found = Axe().run(tab, options=options).response
    assert found["testEngine"]["name"] == "axe-core"
    return [
        f"{rule['id']} ({rule['impact']}): {node['html'][:160]} {node.get('failureSummary', '')[:200]}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]
