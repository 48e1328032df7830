"""``python -m billing.language.extract``: finds the texts in the code and brings every .po file up to date with them.

Texts are taken from .py files (by the marks in KEYWORDS) and from templates (.html, Jinja2) of ROOMS. A file is written
by source and line of the first place, without line numbers, so that two branches that add texts to different pages do
not touch the same lines. A new text comes with an empty translation, one no longer in the code goes. ``--check`` writes
nothing and prints what is wrong with a file: status 1, and `make check` fails.

Does not know: how texts are told.
"""

import io
import re
import string
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract
from babel.messages.plurals import get_plural
from babel.messages.pofile import PoFileError, read_po, write_po

from billing.language.catalogues import FOLDER

ROOT: Final = Path(__file__).parents[2]
ROOMS: Final = ("adapters", "billing", "gateway", "kopeck", "web")
#: Functions whose arguments are texts, and which of them; "c" is a context.
KEYWORDS: Final[dict[str, Any]] = {
    "_": None,
    "gettext": None,
    "N_": None,
    "ngettext": (1, 2),
    "pgettext": ((1, "c"), 2),
    "NP_": ((1, "c"), 2),
    "npgettext": ((1, "c"), 2, 3),
}
METHODS: Final = {".py": "python", ".html": "jinja2"}
#: A template that does not parse is an error, and texts of ``{% trans %}`` are trimmed, as web/site does.
OPTIONS: Final = {"jinja2": {"silent": "false", "trimmed": "true", "newstyle_gettext": "true"}}
#: Of what is written before a text for translators.
COMMENT_TAGS: Final = ("Translators:",)
WIDTH: Final = 120
#: Fewer texts than this, and the command looked at the wrong place.
LEAST_TEXTS: Final = 20

#: Lines git leaves where two branches meet; the texts of both sides are taken.
_CONFLICT: Final = re.compile(r"^(<{7}|={7}|>{7}|\|{7}).*\n", re.MULTILINE)
_PLACEHOLDER: Final = re.compile(r"%(?:\((\w+)\)s|(%)|)")
_TAG: Final = re.compile(r"</?\w+")


def texts_of(root: Path = ROOT) -> Catalog:
    """Every text of the code, in the order of its sources.

    Raises:
        jinja2.TemplateSyntaxError, SyntaxError: a source cannot be read.
    """
    catalogue = Catalog()
    for path in _sources(root):
        method = METHODS[path.suffix]
        with path.open("rb") as file:
            options = OPTIONS.get(method, {})
            for line, text, comments, context in extract(method, file, KEYWORDS, COMMENT_TAGS, options):
                place = (path.relative_to(root).as_posix(), line)
                catalogue.add(text, None, [place], auto_comments=comments, context=context)
    return catalogue


def updated(old: str, code: str, texts: Catalog) -> str:
    """A .po file with exactly the texts of the code; translations of those it had stay, on both sides of a conflict.

    Raises:
        babel.messages.pofile.PoFileError: the old file cannot be read.
    """
    catalogue = read_po(io.StringIO(_CONFLICT.sub("", old)), locale=code, abort_invalid=True)
    catalogue.update(texts, no_fuzzy_matching=True, update_header_comment=False, update_creation_date=False)
    for message in catalogue:
        message.previous_id = []
    written = io.BytesIO()
    write_po(written, catalogue, WIDTH, omit_header=True, ignore_obsolete=True, sort_by_file=True, include_lineno=False)
    return _header(catalogue) + written.getvalue().decode("utf-8").rstrip("\n") + "\n"


def problems(folder: Path = FOLDER, root: Path = ROOT) -> Iterator[str]:
    """What is wrong with the .po files, one line each; nothing if all is well."""
    texts = texts_of(root)
    if len(texts) < LEAST_TEXTS:
        yield f"{len(texts)} texts were found under {root}: the command looks at the wrong place"
    for message in texts:
        if message.id:
            yield from _source_problems(message)
    for path in sorted(folder.glob("*.po")):
        old = path.read_text("utf-8")
        try:
            new = updated(old, path.stem, texts)
        except PoFileError as error:
            yield f"{path.name}:{error.lineno + 1}: {error}"
            continue
        if new != old:
            yield f"{path.name}: does not have the texts of the code as it would be written: run make translations"
        catalogue = read_po(io.StringIO(new), locale=path.stem)
        if catalogue.num_plurals != (needed := get_plural(path.stem).num_plurals):
            yield f"{path.name}: has {catalogue.num_plurals} plural forms, the language {needed}"
        for message in catalogue:
            if message.id:
                yield from (f"{path.name}: {_shown(message)}: {problem}" for problem in _problems(message))


def main(arguments: Iterable[str]) -> int:
    """The command; returns its exit status."""
    if "--check" in arguments:
        found = list(problems())
        for problem in found:
            print(problem, file=sys.stderr)
        return 1 if found else 0
    texts = texts_of()
    for path in sorted(FOLDER.glob("*.po")):
        old = path.read_text("utf-8")
        new = updated(old, path.stem, texts)
        if new != old:
            path.write_text(new, "utf-8")
        lacking = sum(1 for message in read_po(io.StringIO(new)) if message.id and not _is_told(message))
        print(f"{path.name}: {len(texts)} texts, {lacking} without a translation")
    return 0


def _sources(root: Path) -> Iterator[Path]:
    for room in ROOMS:
        yield from sorted(path for path in (root / room).rglob("*") if path.suffix in METHODS)


def _header(catalogue: Catalog) -> str:
    """What gettext needs to know of a file; nothing in it changes from day to day."""
    lines = (
        "Content-Type: text/plain; charset=utf-8",
        f"Language: {catalogue.locale_identifier}",
        f"Plural-Forms: {catalogue.plural_forms}",
    )
    return 'msgid ""\nmsgstr ""\n' + "".join(f'"{line}\\n"\n' for line in lines) + "\n"


def _forms(message: Message) -> tuple[str, ...]:
    return tuple(message.string) if isinstance(message.string, (tuple, list)) else (message.string or "",)


def _ids(message: Message) -> tuple[str, ...]:
    return tuple(message.id) if isinstance(message.id, (tuple, list)) else (message.id,)


def _is_told(message: Message) -> bool:
    return not message.fuzzy and all(_forms(message))


def _shown(message: Message) -> str:
    return repr(_ids(message)[0][:60])


def _source_problems(message: Message) -> Iterator[str]:
    for text in _ids(message):
        if _placeholders(text) is None:
            where = message.locations[0][0] if message.locations else ""
            yield f"{where}: {_shown(message)}: a value is named %(name)s, and a percent sign is written twice"


def _problems(message: Message) -> Iterator[str]:
    if message.fuzzy:
        yield "is marked as not finished (fuzzy)"
    if not _is_told(message):
        yield "has no translation"
        return
    ids, forms = _ids(message), _forms(message)
    wanted = _placeholders(ids[-1])
    for form in forms:
        named = _placeholders(form)
        may_lack = {"num"} if message.pluralizable else set()
        if named is None or wanted is None or named - wanted or (wanted - named) - may_lack:
            yield f"names other values: {form[:60]!r}"
        if sorted(_TAG.findall(form)) != sorted(_TAG.findall(ids[-1])):
            yield f"has other tags: {form[:60]!r}"
        if _edges(form) != _edges(ids[-1]):
            yield f"has other spaces at its ends: {form[:60]!r}"


def _placeholders(text: str) -> set[str] | None:
    """Names of values; None: there is a percent sign that is neither a value nor written twice."""
    names = set()
    for match in _PLACEHOLDER.finditer(text):
        name, percent = match.groups()
        if not name and not percent:
            return None
        if name:
            names.add(name)
    return names


def _edges(text: str) -> tuple[bool, bool]:
    return text[:1] in string.whitespace and text != "", text[-1:] in string.whitespace and text != ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
