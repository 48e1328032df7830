"""The catalogue: both languages, every key pages ask for, every code with its words."""

import re
import string
from dataclasses import fields
from pathlib import Path

import pytest

from adapters.messages import Contract, Op, Reason
from billing.invoicing.invoices import InvoiceState
from gateway.payments.states import Effect, Event, State
from web.access import audit
from web.access.rights import SYSTEM_ROLES, Right
from web.console.partners import partners
from web.console.payments.attempts import KINDS
from web.console.payments.payments import EXPORT_COLUMNS
from web.site import filters, texts
from web.site.admin_texts import DETAILS

WEB = Path(texts.__file__).parents[1]
#: Keys whose last part is a code: the prefix, and every code there is.
CODED = {
    "state.": [*State],
    "invoice_state.": [*InvoiceState],
    "event.": [*Event],
    "step.": [*Effect, "refund", "move"],
    "op.": [*Op],
    "kind.": KINDS,
    "reason.": [*Reason],
    "role.": [*SYSTEM_ROLES, *(f"{role}.may" for role in SYSTEM_ROLES)],
    "action.": audit.ACTIONS,
    "period.": filters.PERIODS,
    "partner_state.": ["active", "paused"],
    "user_state.": ["active", "disabled"],
    "actor.": ["partner", "user", "system", "anonymous"],
    "purpose.": ["verify", "sign", "basic", "secret"],
    "partners.key_": ["forgeable", "short", "shared"],
    "nav.": ["payments", "attempts", "partners", "users", "audit", "profile", "sign_out"],
    "profile.": ["current", "new", "repeat"],
    "payment.": ["registered", "partner_time", "created", "updated"],
    "filter.": ["from", "to", "min", "max", *(f"all_{mark}" for mark in ("state", "kind", "action"))],
    "detail.": sorted(key.removeprefix("detail.") for key in DETAILS),
    "detail.state.": ["active", "inactive", "closed", "disabled"],
    "contract.": [
        *(field.name for field in fields(Contract) if field.name not in partners._TOLD_ELSEWHERE),
        "days",
        "hours",
        "minutes",
        "seconds",
    ],
    "contract.display.": ["name", "balance"],
    "contract.any.": ["sources", "services", "re_examine", "display"],
    "column.": EXPORT_COLUMNS,
}
#: Beginnings by which a key is known where it is not the argument of t().
KEYED = r"error|cancel|profile|sign_in|user\.error|users|partners|payment|payments|away|conflict|search|filter|invoice"


def sources():
    return {path: path.read_text() for pattern in ("**/*.py", "templates/*.html") for path in WEB.glob(pattern)}


def literal_keys():
    """Every key that stands as text in code or template, with where."""
    found = {}
    for path, text in sources().items():
        if path.name in ("texts.py", "admin_texts.py"):
            continue
        for key in re.findall(r"""\bt\(\s*f?"([a-z0-9_.]+)"\s*[,)]""", text):
            found.setdefault(key, path.name)
        for key in re.findall(rf'"((?:{KEYED})\.[a-z_.]+)"', text):
            if not key.endswith((".", "_", ".html")) and key not in set(Right):
                found.setdefault(key, path.name)
    return found


def test_every_key_a_page_names_is_in_the_catalogue():
    keys = literal_keys()
    assert len(keys) > 100
    assert {key: name for key, name in keys.items() if key not in texts.CATALOGUE} == {}


def test_every_prefix_a_page_completes_with_a_code_is_walked_here():
    prefixes = {
        prefix
        for path, text in sources().items()
        for prefix in re.findall(r"""\bt\(f?"([a-z_]+\.)(?:"\s*\+|\{)""", text)
        if path.name not in ("texts.py", "admin_texts.py")
    }
    assert prefixes
    assert prefixes - {"error.", "partners."} <= set(CODED)


@pytest.mark.parametrize(("prefix", "codes"), CODED.items())
def test_every_code_has_words(prefix, codes):
    assert codes
    assert [code for code in codes if prefix + str(getattr(code, "value", code)) not in texts.CATALOGUE] == []


def test_every_status_page_has_words():
    assert {f"error.{status}" for status in (400, 403, 404, 405, 500)} <= set(texts.CATALOGUE)
    assert {"partners.active_notice", "partners.paused_notice"} <= set(texts.CATALOGUE)


def test_both_languages_say_something_with_the_same_values():
    for key, pair in texts.CATALOGUE.items():
        names = [{name for _, name, _, _ in string.Formatter().parse(text) if name} for text in pair]
        assert all(text.strip() for text in pair), key
        assert names[0] == names[1], key


def test_english_has_no_russian_letters():
    cyrillic = re.compile("[а-яё]", re.IGNORECASE)
    found = {key for key, (_, english) in texts.CATALOGUE.items() if cyrillic.search(english)}
    assert found == set()


def test_no_text_is_left_that_no_page_shows():
    everything = "\n".join(text for path, text in sources().items() if path.name not in ("texts.py", "admin_texts.py"))
    coded = {prefix + str(getattr(code, "value", code)) for prefix, codes in CODED.items() for code in codes}
    built = coded | {f"error.{status}{more}" for status in (400, 403, 404, 405, 500) for more in ("", ".hint")}
    built |= {"partners.active_notice", "partners.paused_notice", "language.name"}
    assert {key for key in texts.CATALOGUE if key not in built and f'"{key}"' not in everything} == set()


def test_a_missing_key_is_an_error_and_never_an_empty_place():
    with pytest.raises(texts.MissingText):
        texts.text("ru", "no.such.key")


@pytest.mark.parametrize(
    ("chosen", "cookie", "accepted", "language"),
    [
        ("en", "ru", "ru", "en"),
        (None, "en", "ru", "en"),
        (None, "xx", "en-GB,en;q=0.9,ru;q=0.8", "en"),
        (None, None, "de, en;q=0.3, ru;q=0.7", "ru"),
        (None, None, "de-DE", "ru"),
        (None, None, "", "ru"),
        (None, None, "en;q=banana", "ru"),
        (None, None, "en;q=0", "ru"),
        (None, None, "en;q=1.000", "en"),
        (None, None, "," * 5000, "ru"),
    ],
)
def test_the_language_is_the_users_then_the_cookies_then_the_browsers(chosen, cookie, accepted, language):
    assert texts.choose_language(chosen, cookie, accepted) == language


def test_counted_things_have_their_forms():
    said = [texts.plural("ru", "payment", number) for number in (0, 1, 2, 5, 11, 12, 21, 22, 111, 1001)]
    assert said == ["платежей", "платёж", "платежа", *["платежей"] * 3, "платёж", "платежа", "платежей", "платёж"]
    assert [texts.plural("en", "conflict", number) for number in (0, 1, 2)] == ["conflicts", "conflict", "conflicts"]
