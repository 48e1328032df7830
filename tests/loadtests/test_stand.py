"""A stand never touches anything but its own installation."""

from pathlib import Path

import pytest

from loadtests.stand import Stand, StandError, says_healthy


def test_a_stand_makes_its_own_databases_whatever_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOPECK_DATABASE__DSN", "postgresql://production/")
    monkeypatch.setenv("KOPECK_JOURNAL__URI", "mongodb://production/")
    monkeypatch.setenv("KOPECK_CONFIG", "/etc/kopeck.toml")
    monkeypatch.setenv("KOPECK_GATEWAY__LANES", "3")
    environment = Stand(tmp_path / "stand").environment
    assert "production" not in " ".join(environment.values())
    assert "KOPECK_CONFIG" not in environment
    assert environment["KOPECK_GATEWAY__LANES"] == "3"
    assert environment["KOPECK_DATA_DIR"] == str(tmp_path / "stand" / "data")


def test_the_ports_of_a_stand_are_all_different(tmp_path: Path) -> None:
    ports = Stand(tmp_path / "stand", gateways=3).ports
    gateways = {ports.metrics, ports.metrics + 1, ports.metrics + 2}
    assert len({ports.partners, ports.pages, ports.pages_metrics, ports.relay_metrics, *gateways}) == 7


def test_what_does_not_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    stand = Stand(tmp_path / "stand", settings={"KOPECK_GATEWAY__PORT": "none"})
    with pytest.raises(StandError, match=r"(?s)has ended.*gateway\.port"):
        stand.start()
    assert not says_healthy(stand.ports.metrics)


def test_a_command_that_fails_is_told_with_its_reason(tmp_path: Path) -> None:
    stand = Stand(tmp_path / "stand")
    stand.folder.mkdir()
    with pytest.raises(StandError, match="partner add"):
        stand.do("partner", "add", "x", "--name", "x", "--protocol", "tea", "--file", "-", text="[]")
