"""What processes write about themselves."""

import json
import logging

import structlog

from kopeck.logs import configure_logs
from kopeck.settings import Log


def test_both_ways_of_logging_come_out_as_one_json_object_a_line(capsys) -> None:
    configure_logs(Log(format="json"), "gateway-3")
    logging.getLogger("gateway.lanes").warning("batch_failed", extra={"batch": 7})
    structlog.get_logger("kopeck.test_logs").warning("child_ended", child="web", who="Иванов")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["process"], line["level"]) for line in lines] == [
        ("batch_failed", "gateway-3", "warning"),
        ("child_ended", "gateway-3", "warning"),
    ]
    assert lines[0]["batch"] == 7
    assert lines[1]["who"] == "Иванов"
    assert all(line["timestamp"].endswith("Z") for line in lines)


def test_an_exception_is_one_line_too(capsys) -> None:
    configure_logs(Log(format="json"), "web")
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("web").exception("page_failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: broken" in json.loads(line)["exception"]


def test_what_is_below_the_level_is_not_written(capsys) -> None:
    configure_logs(Log(level="warning", format="text"), "relay")
    logging.getLogger("gateway.journal.relay").info("quiet")
    logging.getLogger("gateway.journal.relay").error("loud")
    said = capsys.readouterr().err
    assert "loud" in said
    assert "quiet" not in said
