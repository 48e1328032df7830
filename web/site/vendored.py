"""Files of others that pages carry: static/vendor/NAME-VERSION, each named with its checksum in one manifest.

Rules. Files are unchanged copies of a published package, with its licence beside them. A page names a file by its
package; the version is in the manifest alone. A test compares every file with its checksum.

Does not know: what the files do.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parents[1] / "static" / "vendor"


@dataclass(frozen=True, slots=True)
class Package:
    """One package: where it is from, under which licence, and its files with their SHA-256 in hex."""

    name: str
    version: str
    licence: str
    source: str
    files: dict[str, str]

    @property
    def folder(self) -> str:
        """The folder under static/vendor."""
        return f"{self.name}-{self.version}"


@cache
def packages() -> dict[str, Package]:
    """The manifest, by the package's name."""
    manifest = tomllib.loads((FOLDER / "manifest.toml").read_text())
    return {name: Package(name, **fields) for name, fields in manifest.items()}


def path_of(name: str, file: str) -> str:
    """The path of a vendored file under static.

    Raises:
        LookupError: the manifest has no such file.
    """
    package = packages()[name]
    if file not in package.files:
        raise LookupError(f"{package.folder} has no {file}")
    return f"vendor/{package.folder}/{file}"
