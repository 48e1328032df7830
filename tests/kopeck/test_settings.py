"""Settings from file and environment, and what an operator is told when they are wrong."""

import re
import tomllib
from pathlib import Path

import pytest

from kopeck.settings import Settings, SettingsError, documented_settings, load_settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def file(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "kopeck.toml"
        path.write_text(text, "utf-8")
        return str(path)

    return write


def test_without_file_and_environment_the_defaults_hold(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(None, {}) == Settings()


def test_the_environment_goes_over_the_file_and_the_file_over_the_defaults(file) -> None:
    path = file("[gateway]\nport = 9000\nlanes = 3\n")
    found = load_settings(path, {"KOPECK_GATEWAY__PORT": "9001", "KOPECK_DATA_DIR": "/srv/kopeck"})
    assert (found.gateway.port, found.gateway.lanes, found.gateway.processes) == (9001, 3, 2)
    assert found.data_dir == "/srv/kopeck"


def test_the_file_may_be_named_by_the_environment(file) -> None:
    assert load_settings(None, {"KOPECK_CONFIG": file("[web]\nport = 9002\n")}).web.port == 9002


def test_a_list_in_the_environment_is_separated_by_commas() -> None:
    found = load_settings(None, {"KOPECK_GATEWAY__TRUSTED_PROXIES": "10.0.0.0/8, 192.0.2.1/32"})
    assert found.gateway.trusted_proxies == ("10.0.0.0/8", "192.0.2.1/32")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[gateway]\nprot = 1\n", r"kopeck\.toml.*unknown field `prot`.*gateway"),
        ("[gatway]\nport = 1\n", r"kopeck\.toml.*unknown field `gatway`"),
        ("[gateway]\nport = '8080'\n", r"kopeck\.toml.*Expected `int`.*gateway\.port"),
        ("[gateway]\nport = 70000\n", r"kopeck\.toml.*gateway\.port"),
        ("[gateway]\nlanes = 0\n", r"gateway\.lanes"),
        ("[log]\nlevel = 'loud'\n", r"log\.level"),
        ("[gateway\n", r"kopeck\.toml: not valid TOML"),
        ("[gateway]\ntrusted_proxies = ['10.0.0.1/8']\n", r"gateway\.trusted_proxies.*host bits"),
        ("[gateway]\ntls_cert = 'a.pem'\n", r"gateway\.tls_cert and gateway\.tls_key"),
        ("[database]\nowner_dsn = 'x'\n", r"database\.owner_dsn"),
        ("[database]\ndsn = 'x'\n", r"journal\.uri is not: name a MongoDB, or write journal\.uri = \"embedded\""),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(file, text, message) -> None:
    with pytest.raises(SettingsError, match=message):
        load_settings(file(text), {})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("KOPECK_GATEWAY__PROT", "1", "KOPECK_GATEWAY__PROT names no setting"),
        ("KOPECK_DATADIR", "x", "KOPECK_DATADIR names no setting"),
        ("KOPECK_GATEWAY__PORT", "many", r"KOPECK_GATEWAY__PORT.*gateway\.port"),
    ],
)
def test_a_wrong_environment_is_refused_by_name(name, value, message) -> None:
    with pytest.raises(SettingsError, match=message):
        load_settings(None, {name: value})


def test_a_missing_file_that_was_named_is_an_error() -> None:
    with pytest.raises(SettingsError, match="cannot read settings file"):
        load_settings("/nowhere/kopeck.toml", {})


def test_every_setting_can_be_set_by_its_documented_environment_name() -> None:
    documented = list(documented_settings())
    assert len(documented) > 40
    for doc in documented:
        text = "" if doc.default == "empty" else doc.default
        assert load_settings(None, {doc.environment: text}) == Settings(), doc.name


def test_the_operators_page_lists_exactly_these_settings() -> None:
    page = (ROOT / "docs" / "operators.md").read_text("utf-8")
    listed = re.findall(r"^\| `([a-z_.]+)` \| `(KOPECK_[A-Z_]+)` \| (.*?) \| (.*) \|$", page, re.MULTILINE)
    expected = [(doc.name, doc.environment, doc.default, doc.meaning) for doc in documented_settings()]
    assert listed == expected


def test_the_example_file_of_the_operators_page_is_accepted() -> None:
    assert load_settings(str(ROOT / "docs" / "kopeck.example.toml"), {}).gateway.trusted_proxies != ()


def test_every_direct_dependency_is_pinned_to_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    pinned = re.findall(r"^([A-Za-z0-9._-]+)==\S+$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)
    normal = {re.sub(r"[-_.]+", "-", name).lower() for name in pinned}
    names = {re.sub(r"[-_.]+", "-", re.match(r"[A-Za-z0-9._-]+", text)[0]).lower() for text in wanted}
    assert len(names) > 20
    assert names <= normal
