"""A language made by machine: every text of the code with other letters and longer, so that what was not told shows.

It takes Finnish's place, whose numbers, days and plurals Babel knows: a third language by one .po file.
"""

import io
import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pytest
from babel.messages.catalog import Message
from babel.messages.pofile import read_po, write_po

from billing.language import Formats, catalogues, extract

CODE = "fi"
_LETTERS = str.maketrans(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", "ȧƀƈḓḗƒɠħīĵķŀḿƞǿƥɋřşŧŭṽẇẋẏẑȦƁƇḒḖƑƓĦĪĴĶĿḾȠǾƤɊŘŞŦŬṼẆẊẎẐ"
)
#: What stays as it is: values, tags, entities.
_KEPT = re.compile(r"(%\(\w+\)s|%%|<[^>]*>|&\w+;|\{\w+\})")
_WORD = re.compile(r"[A-Za-zА-Яа-яЁё]{2,}")
#: A translation is often longer than English by a third.
_LONGER = " ŀǿƞɠ"


def pseudo(text: str) -> str:
    """A text in the language."""
    parts = [part if _KEPT.fullmatch(part) else part.translate(_LETTERS) for part in _KEPT.split(text)]
    return "".join(parts) + (_LONGER if len(text) > 12 and not text[-1].isspace() else "")


@pytest.fixture
def pseudo_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """There is this language too, by its file; the code of it."""
    texts = extract.texts_of()
    (tmp_path / "ru.po").write_bytes((catalogues.FOLDER / "ru.po").read_bytes())
    path = tmp_path / f"{CODE}.po"
    path.write_text(_translated(extract.updated('msgid ""\nmsgstr ""\n', CODE, texts)), "utf-8")
    assert [problem for problem in extract.problems(tmp_path) if problem.startswith(path.name)] == []
    monkeypatch.setattr(catalogues, "codes", partial(catalogues.codes, tmp_path))
    monkeypatch.setattr(catalogues, "translations", lambda code, read=catalogues.translations: read(code, tmp_path))
    return CODE


def _translated(empty: str) -> str:
    catalogue = read_po(io.StringIO(empty), locale=CODE)
    for message in catalogue:
        if message.id:
            message.string = _told(message, catalogue.num_plurals)
    written = io.BytesIO()
    write_po(written, catalogue, extract.WIDTH, omit_header=True)
    return extract.updated(extract._header(catalogue) + written.getvalue().decode(), CODE, extract.texts_of())


def _told(message: Message, plurals: int) -> str | tuple[str, ...]:
    if not isinstance(message.id, (tuple, list)):
        return pseudo(message.id)
    one, many = message.id
    return (pseudo(one), *[pseudo(many)] * (plurals - 1))


def untold(text: str, words: Iterable[str], values: Iterable[str] = ()) -> list[str]:
    """Words of a text that are in no language but our own, and are not data.

    Args:
        words: words of data; values: texts of data as a whole, the longest first.
    """
    rest, known = text.casefold(), set(words)
    if not _WORD.search(rest):
        return []
    for value in values:
        if value in rest:
            rest = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", " ", rest)
    return [word for word in _WORD.findall(rest) if word not in known]


def words_of(*texts: str) -> set[str]:
    """The words of data, for ``untold``."""
    return {word.lower() for text in texts for word in _WORD.findall(text)}


def words_of_formats() -> set[str]:
    """Words that Babel writes in this language: units, months, the language's own name."""
    formats = Formats(CODE)
    months = [formats.month_name(month) for month in range(1, 13)]
    sizes = [formats.size(1000**power) for power in range(5)]
    return words_of(formats.language_name, formats.duration(90_061), *months, *sizes)
