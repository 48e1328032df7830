"""Third-party files: each is named in the manifest with its checksum, licence and source, and no other is there."""

import hashlib
import re

import pytest

from web.site import vendored
from web.site.templates import FOLDER as TEMPLATES
from web.site.templates import HTMX_CONFIG

PACKAGES = vendored.packages().values()


def test_every_file_is_the_one_of_the_manifest():
    stored = {path for path in vendored.FOLDER.rglob("*") if path.is_file() and path.name != "manifest.toml"}
    named = {
        vendored.FOLDER / package.folder / name: digest
        for package in PACKAGES
        for name, digest in package.files.items()
    }
    assert len(named) > 10
    assert stored == set(named)
    changed = [path for path, digest in named.items() if hashlib.sha256(path.read_bytes()).hexdigest() != digest]
    assert changed == []


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.folder)
def test_a_package_brings_its_licence_and_says_where_it_is_from(package):
    assert "LICENSE" in package.files
    assert package.version in package.source
    assert package.licence in ("0BSD", "ISC", "MIT", "OFL-1.1", "BSD-3-Clause", "Apache-2.0")


def test_a_file_that_is_not_in_the_manifest_is_an_error():
    with pytest.raises(LookupError):
        vendored.path_of("htmx.org", "htmx.js")
    with pytest.raises(LookupError):
        vendored.path_of("jquery", "jquery.js")


def test_style_sheets_name_only_vendored_files_that_are_there():
    sheets = vendored.FOLDER.parent / "css"
    addresses = {url for sheet in sheets.glob("*.css") for url in re.findall(r'url\("([^"]+)"\)', sheet.read_text())}
    assert addresses
    assert [url for url in addresses if not (sheets / url).is_file()] == []


def test_no_page_asks_another_server_for_anything():
    outside = re.compile(r"""(?:src|href|url\()\s*=?\s*["']?(?:https?:)?//""")
    sources = [*TEMPLATES.rglob("*.html"), *(vendored.FOLDER.parent / "css").glob("*.css")]
    assert len(sources) > 10
    assert [path.name for path in sources if outside.search(path.read_text())] == []


def test_htmx_keeps_to_the_content_security_policy():
    assert '"allowEval": false' in HTMX_CONFIG
    assert '"includeIndicatorStyles": false' in HTMX_CONFIG
