"""The templates of pages: one Jinja2 environment a language, compiled once a process.

Rules. Everything a value brings is escaped; an undefined name is an error, never an empty place. What depends on the
language or the zone alone (words, money, instants) is a global here, so macros have it without being handed it; what
depends on the request (the user, the form's token) is a value of the page.

Does not know: requests, who asks, which page is shown.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import tzinfo
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, quote_plus

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from billing.language import N_, Language, Message, languages
from gateway.partners.records import PartnerRow
from web.access.roles import Role
from web.site import formatting
from web.site.columns import Column
from web.site.icons import icon
from web.site.lists.declaration import linked
from web.site.tones import tone
from web.site.words import word

FOLDER: Final = Path(__file__).parents[1] / "templates"
#: The parts pages are made of; every template has them as ``ui``, with the values of its page.
MACROS: Final = "macros.html"
#: Nothing that the Content-Security-Policy forbids, nothing kept in the browser (pages hold people's data), and an
#: answer of 400 is shown where it belongs: the list says what is wrong with its filter.
HTMX_CONFIG: Final = json.dumps(
    {
        "allowEval": False,
        "includeIndicatorStyles": False,
        "allowScriptTags": False,
        "attributesToSettle": ["class"],
        "selfRequestsOnly": True,
        "historyCacheSize": 0,
        "refreshOnHistoryMiss": True,
        "responseHandling": [{"code": "204", "swap": False}, {"code": "...", "swap": True}],
    }
)


class Templates:
    """The templates in every language of the site; instants are told in ``zone``."""

    def __init__(self, zone: tzinfo, folder: Path = FOLDER) -> None:
        self._environments = {language.code: _environment(language, zone, folder) for language in languages()}

    def render(self, template: str, language: str, values: Mapping[str, Any]) -> str:
        """The page ``template`` in ``language``.

        Raises:
            jinja2.UndefinedError: the template names what it was not given: our own mistake.
        """
        environment = self._environments[language]
        parts = environment.get_template(MACROS).make_module(dict(values))
        return environment.get_template(template).render(values, ui=parts)


def _environment(language: Language, zone: tzinfo, folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n"],
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.newstyle_gettext = True  # type: ignore[attr-defined]
    formats = language.formats
    environment.globals |= _translations(language)
    environment.globals |= {
        "worded": partial(worded, language),
        "word": partial(word, language),
        "N_": N_,
        "role_words": partial(role_words, language),
        "partner_choices": partner_choices,
        "language": language.code,
        "languages": [(known.code, known.name) for known in languages()],
        "money": formats.money,
        "count": formats.count,
        "raw_text": formatting.raw,
        "linked": linked,
        "spoken": language,
        "date": formats.date,
        "month": formats.month,
        "duration": formats.duration,
        "size": formats.size,
        "percent": formats.percent,
        "instant": lambda at, seconds=False: formats.instant(at, zone, seconds),
        "formats": formats,
        "zone": zone,
        "machine_instant": partial(formatting.machine_instant, zone=zone),
        "column": Column,
        "tone": tone,
        "icon_named": icon,
        "attributes": attributes,
        "htmx_config": HTMX_CONFIG,
    }
    environment.filters |= {"path_part": path_part, "query_part": quote_plus}
    return environment


def _translations(language: Language) -> dict[str, Callable[..., Markup]]:
    """What templates tell texts by. A text is ours and may hold markup; a value put into it is escaped.

    Jinja2's own functions would put a number in without its digits grouped.
    """

    def gettext(text: str, /, **values: object) -> Markup:
        return Markup(language.find(text)) % values

    def pgettext(context: str, text: str, /, **values: object) -> Markup:
        return gettext(Message(context, text), **values)

    def npgettext(context: str, one: str, many: str, num: int, /, **values: object) -> Markup:
        found = language.find_plural(one, many, num, context)
        return Markup(found) % {"num": language.formats.count(num), **values}

    def ngettext(one: str, many: str, num: int, /, **values: object) -> Markup:
        return npgettext("", one, many, num, **values)

    return {"_": gettext, "gettext": gettext, "ngettext": ngettext, "pgettext": pgettext, "npgettext": npgettext}


def worded(language: Language, table: str, codes: Iterable[Any]) -> list[tuple[str, str]]:
    """(code, its word) of every code of a table of web.site.words, as fields of choices take them."""
    values = [str(code.value if isinstance(code, Enum) else code) for code in codes]
    return [(value, word(language, table, value)) for value in values]


def role_words(language: Language, roles: Role | Iterable[Role]) -> str:
    """What people call a role, or several: the system's by their words, others by their names."""
    several = [roles] if isinstance(roles, Role) else roles
    return ", ".join(word(language, "role", role.code) if role.code else role.name for role in several)


def partner_choices(partners: Iterable[PartnerRow]) -> list[tuple[str, str]]:
    """(code, name) of every partner, as fields of choices take them."""
    return [(partner.code, partner.name) for partner in partners]


def attributes(values: Mapping[str, object]) -> Markup:
    """Attributes of an element: ``_`` of a name is ``-``, True is a bare name, None, False and "" are left out.

    >>> attributes({"data_step": 2, "autofocus": True, "list": None})
    Markup(' data-step="2" autofocus')
    """
    given = {
        name.replace("_", "-"): value
        for name, value in values.items()
        if value is not None and value is not False and value != ""
    }
    lines = [
        Markup(" {}").format(name) if value is True else Markup(' {}="{}"').format(name, value)
        for name, value in given.items()
    ]
    return Markup("").join(lines)


def path_part(text: str) -> str:
    """One part of a path: a slash in it stays in it.

    >>> path_part("A/2026 7")
    'A%2F2026%207'
    """
    return quote(text, safe="")
