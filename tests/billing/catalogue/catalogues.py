"""Catalogues for tests, written as a product manager would, and how to read them."""

from pathlib import Path
from textwrap import dedent, indent

from billing.catalogue.model import Catalogue
from billing.catalogue.reader import read_catalogue

EXAMPLES = Path(__file__).resolve().parents[3] / "kopeck" / "examples"

HEAD = """\
kopeck_catalogue: 1
name: test
currency: RUB
zone: Europe/Moscow
"""


def read(text: str, **files: str) -> Catalogue:
    """A catalogue; ``files`` lie beside it, card_csv is card.csv."""
    held = {name.replace("_csv", ".csv"): data.encode() for name, data in files.items()}

    def beside(name: str) -> bytes:
        if name not in held:
            raise FileNotFoundError(2, "No such file or directory", name)
        return held[name]

    return read_catalogue("test.yaml", text.encode(), beside)


def one_price(steps: str, unit: str = "s", more: str = "", item: str = "", version: str = "") -> str:
    """A catalogue with one item at one price for everybody; item and version: more lines of theirs."""
    return (
        HEAD
        + f"items:\n  use:\n    unit: {unit}\n"
        + indent(dedent(item), "    ")
        + "\nprices:\n  - item: use\n    versions:\n      - from: 2026-01-01\n"
        + indent(dedent(version), "        ")
        + "\n        steps:\n"
        + indent(dedent(steps), "          ")
        + "\n"
        + dedent(more)
    )


def example(name: str) -> Catalogue:
    """A catalogue of kopeck/examples."""
    return read_catalogue(name, (EXAMPLES / name).read_bytes(), lambda beside: (EXAMPLES / beside).read_bytes())
