"""YAML text to nodes that know where they stand, and the words for what is wrong with them.

Rules. Only the shape of YAML is used, never its types: a scalar is its text, so `1.50` is a price of 1.50 and no
float, `08:00` is a time and no sexagesimal number, and `no` is Norway. Refused, with line and column: anchors and
aliases (a few lines of them unfold to gigabytes), tags, merge keys, several documents, a key that comes twice, more
than MAX_BYTES, MAX_NODES or MAX_DEPTH. Memory is bounded by these.

Does not know: what a catalogue is.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import yaml

MAX_BYTES: Final = 8_000_000
MAX_NODES: Final = 600_000
MAX_DEPTH: Final = 24
MAX_SCALAR_CHARS: Final = 2_000
MAX_PROBLEMS: Final = 100

#: libyaml where PyYAML was built with it: ten times faster, same events.
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Place:
    """Where in which file, counting from 1; column 0: the whole line."""

    file: str
    line: int
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.column else f"{self.file}:{self.line}"


class Severity(StrEnum):
    """An error forbids publishing; a warning asks whether it is meant."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong. code: the kind of finding, stable. example: an input that shows it, or empty."""

    place: Place
    message: str
    hint: str = ""
    severity: Severity = Severity.ERROR
    code: str = "format"
    example: str = ""

    def __str__(self) -> str:
        lines = [f"{self.place}: {self.severity}: {self.message} [{self.code}]"]
        lines += [f"    example: {self.example}"] if self.example else []
        lines += [f"    hint: {self.hint}"] if self.hint else []
        return "\n".join(lines)


class CatalogueError(ValueError):
    """A file that is no catalogue; ``problems`` says all that was found, in order of place."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class NodeRefused(Exception):
    """One piece of a file is wrong. Caught where the next piece can still be read."""

    def __init__(self, place: Place, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.problem = Problem(place, message, hint)


class ProblemsTold(Exception):
    """A piece cannot be read because another one is wrong, which has been told already."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A text; ``quoted`` when it stood in quotes or in a block."""

    place: Place
    text: str
    quoted: bool


@dataclass(frozen=True, slots=True)
class Listing:
    """A YAML sequence."""

    place: Place
    nodes: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A YAML mapping with keys of text: key to (where the key stands, value), in the file's order."""

    place: Place
    entries: Mapping[str, tuple[Place, "Node"]]


Node = Scalar | Listing | Table


def read_yaml(file: str, data: bytes) -> Node:
    """The one document of a YAML file.

    Raises:
        CatalogueError: it is none, or breaks a rule of this module.
    """
    try:
        return _Builder(file).build(_text_of(file, data))
    except NodeRefused as refused:
        raise CatalogueError([refused.problem]) from refused


def _text_of(file: str, data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise NodeRefused(Place(file, 1), f"{len(data):,} bytes, at most {MAX_BYTES:,} are read", CARD_HINT)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        hint = "save it as UTF-8, for example: iconv -f cp1251 -t utf-8"
        raise NodeRefused(Place(file, line), f"byte {data[error.start]:#04x} is no UTF-8", hint) from error
    return text


CARD_HINT: Final = "long rate cards belong into a CSV file of their own (rate_cards: ... file:)"


class _Builder:
    """Builds nodes from the parser's events and counts them; lives for one file."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.count = 0

    def build(self, text: str) -> Node:
        events = self._events(text)
        first = next(events, None)
        if first is None:
            raise NodeRefused(Place(self.file, 1), "the file is empty")
        node = self._node(first, events, 1)
        extra = next(events, None)
        if extra is not None:
            raise NodeRefused(
                self._place(extra), "a second document in one file", "one catalogue is one file without ---"
            )
        return node

    def _events(self, text: str) -> Iterator[Any]:
        """Events that carry content; a broken file ends them with a refusal."""
        try:
            for event in yaml.parse(text, Loader=_LOADER):
                if isinstance(event, yaml.NodeEvent | yaml.CollectionEndEvent):
                    yield event
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = Place(self.file, mark.line + 1, mark.column + 1) if mark else Place(self.file, 1)
            what = ", ".join(part for part in (error.context, error.problem) if part)
            hint = "indent with spaces, and put text with : or # into quotes"
            raise NodeRefused(place, f"not YAML: {what}", hint) from error
        except yaml.YAMLError as error:
            raise NodeRefused(
                Place(self.file, _odd_line(text)), "holds a control character: not a text file"
            ) from error

    def _place(self, event: Any) -> Place:
        mark = event.start_mark
        return Place(self.file, mark.line + 1, mark.column + 1)

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        place = self._place(event)
        self.count += 1
        if self.count > MAX_NODES:
            raise NodeRefused(place, f"more than {MAX_NODES:,} values in one file", CARD_HINT)
        if depth > MAX_DEPTH:
            raise NodeRefused(place, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            hint = "calendars, rate cards, tax classes and plans have names: refer to those"
            raise NodeRefused(place, "anchors (&) and aliases (*) are not accepted", hint)
        if event.tag is not None and event.tag != "!":
            raise NodeRefused(place, f"the tag {event.tag[:40]!r} is not accepted", "values need no tags")
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(place, event)
        if isinstance(event, yaml.SequenceStartEvent):
            return Listing(place, tuple(self._listed(events, depth)))
        return Table(place, self._entries(events, depth))

    def _scalar(self, place: Place, event: Any) -> Scalar:
        if len(event.value) > MAX_SCALAR_CHARS:
            raise NodeRefused(
                place, f"a text of {len(event.value):,} characters, at most {MAX_SCALAR_CHARS:,} are read"
            )
        return Scalar(place, event.value, bool(event.style))

    def _listed(self, events: Iterator[Any], depth: int) -> Iterator[Node]:
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                return
            yield self._node(event, events, depth + 1)

    def _entries(self, events: Iterator[Any], depth: int) -> dict[str, tuple[Place, Node]]:
        entries: dict[str, tuple[Place, Node]] = {}
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._node(event, events, depth + 1)
            if not isinstance(key, Scalar):
                raise NodeRefused(key.place, "a key is a plain text", "a value with { or [ at its start needs quotes")
            if key.text == "<<" and not key.quoted:
                hint = "plans may extend a plan; write other fields out"
                raise NodeRefused(key.place, "merge keys (<<) are not accepted", hint)
            if key.text in entries:
                first = entries[key.text][0].line
                raise NodeRefused(
                    key.place, f"the key {key.text[:80]!r} comes twice", f"it stands on line {first} already"
                )
            entries[key.text] = (key.place, self._node(next(events), events, depth + 1))
        return entries


def _odd_line(text: str) -> int:
    for number, line in enumerate(text.split("\n"), 1):
        if any(ord(char) < 32 and char not in "\t\r" for char in line) or "\x7f" in line:
            return number
    return 1


def near(word: str, known: Iterable[str]) -> str:
    """A hint for a word that is not known."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, 1)
    if close:
        return f"did you mean {close[0]!r}?"
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return f"known are: {shown}" if names else "none is defined"


class Fields:
    """The fields of one mapping, taken by name. ``done`` refuses those that nobody took."""

    def __init__(self, node: Node, what: str) -> None:
        if not isinstance(node, Table):
            raise NodeRefused(node.place, f"{what} has named fields, not {_shape(node)}", "write `field: value` lines")
        self.what = what
        self.place = node.place
        self._entries = node.entries
        self._taken: list[str] = []

    def take(self, name: str) -> Node | None:
        """The field's value, or None where it is not given (or empty)."""
        self._taken.append(name)
        entry = self._entries.get(name)
        if entry is None:
            return None
        node = entry[1]
        return None if isinstance(node, Scalar) and not node.quoted and node.text in ("", "~", "null") else node

    def require(self, name: str) -> Node:
        """The field's value. Raises Refused where it is missing."""
        node = self.take(name)
        if node is None:
            strays = [other for other in self._entries if other not in self._taken]
            misspelt = difflib.get_close_matches(name, strays, 1)
            hint = f"is {misspelt[0]!r} meant to be it?" if misspelt else ""
            raise NodeRefused(self.place, f"{self.what} needs the field {name!r}", hint)
        return node

    def text(self, name: str, default: str | None = None) -> str:
        """The field as text; without a default it must be there."""
        node = self.require(name) if default is None else self.take(name)
        return default or "" if node is None else text_of(node, name)

    def nodes(self, name: str) -> tuple[Node, ...]:
        """The field as a list; a lone value is a list of one."""
        node = self.take(name)
        if node is None:
            return ()
        return node.nodes if isinstance(node, Listing) else (node,)

    def place_of(self, name: str) -> Place:
        """Where the field stands, or the mapping where it does not."""
        return self._entries[name][0] if name in self._entries else self.place

    def done(self) -> None:
        """Refuse fields that nobody knows."""
        for name, (place, _) in self._entries.items():
            if name not in self._taken:
                raise NodeRefused(place, f"{self.what} has no field {name[:80]!r}", near(name, self._taken))


def text_of(node: Node, what: str) -> str:
    """A scalar's text. Raises Refused for a list or a mapping."""
    if not isinstance(node, Scalar):
        raise NodeRefused(node.place, f"{what} is one value, not {_shape(node)}")
    return node.text


def _shape(node: Node) -> str:
    return {"Scalar": "a single value", "Listing": "a list", "Table": "named fields"}[type(node).__name__]
