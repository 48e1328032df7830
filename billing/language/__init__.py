"""The language a person reads: words by gettext, numbers, money and dates by Babel.

Rules. A text in the code is English and is its own key (the msgid); every other language is one file beside this
module, such as ``ru.po``. The languages there are, are English and those that have a file. A language is a value that
is passed on: nothing here is global. Values are put in by name, ``%(name)s``; a percent sign is written twice.
The arguments of ``_``, ``gettext``, ``ngettext``, ``pgettext``, ``npgettext``, ``N_`` and ``NP_`` are found by
``make translations``; docs/translations.md says how to work with it.

Importing this package reads no file and no Babel; the first text in another language than English does.

Does not know: HTML, terminals, what is told.
"""

from billing.language.catalogues import SOURCE, codes
from billing.language.formats import MINUS, NBSP, Formats
from billing.language.languages import (
    DEFAULT,
    Language,
    choose_language,
    language_of,
    languages,
)
from billing.language.marks import N_, NP_, Message

__all__ = [
    "DEFAULT",
    "MINUS",
    "NBSP",
    "NP_",
    "N_",
    "SOURCE",
    "Formats",
    "Language",
    "Message",
    "choose_language",
    "codes",
    "language_of",
    "languages",
]
