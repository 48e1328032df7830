"""Catalogues of texts: one .po file for each language, read when the first text is wanted.

Rules. A file is read once a process, from the package: nothing is compiled to install. What a catalogue lacks is told
in English and logged once; the check of ``billing.language.extract`` keeps that from happening. A message that is not
finished (fuzzy) counts as lacking.

Does not know: formats of numbers and dates, who asks.
"""

import gettext
import io
import logging
from functools import cache
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

FOLDER: Final = Path(__file__).parent
#: The language of texts in the code.
SOURCE: Final = "en"


class _Missing(gettext.NullTranslations):
    """What is asked when a catalogue lacks a text: English, and a line in the log."""

    def __init__(self, code: str) -> None:
        super().__init__()
        self._code = code
        self._told: set[str] = set()

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            log.warning("text_not_translated", extra={"language": self._code, "text": text})

    def gettext(self, message: str) -> str:
        self._tell(message)
        return message

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        self._tell(msgid1)
        return msgid1 if n == 1 else msgid2

    def pgettext(self, context: str, message: str) -> str:
        self._tell(message)
        return message

    def npgettext(self, context: str, msgid1: str, msgid2: str, n: int) -> str:
        self._tell(msgid1)
        return msgid1 if n == 1 else msgid2


@cache
def codes(folder: Path = FOLDER) -> tuple[str, ...]:
    """Codes of the languages there are: those with a file, in order, and English."""
    return (*sorted(path.stem for path in folder.glob("*.po") if path.stem != SOURCE), SOURCE)


@cache
def translations(code: str, folder: Path = FOLDER) -> gettext.NullTranslations:
    """The texts of a language.

    Raises:
        FileNotFoundError: there is no such language.
        babel.messages.pofile.PoFileError: its file cannot be read.
    """
    path = folder / f"{code}.po"
    if code == SOURCE and not path.exists():
        return gettext.NullTranslations()
    # Babel is imported where it is used: a command that speaks English alone starts without it.
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import read_po

    with path.open("rb") as file:
        catalogue = read_po(file, locale=code, abort_invalid=True)
    compiled = io.BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    found = gettext.GNUTranslations(compiled)
    if code != SOURCE:
        found.add_fallback(_Missing(code))
    return found
