"""What every process writes about itself: one event a line on standard error, JSON for machines or text for people.

Rules. An event is a short name in snake_case with fields, not a sentence with values inside; rooms use the standard
library's ``logging`` with ``extra=`` or structlog, and both come out alike. Every line names the process; times are
UTC.

Does not know: where standard error goes; rotation belongs to whoever runs us.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from kopeck.settings import Log

#: Said by libraries at each step; they speak up only when something is wrong.
_QUIET = ("asyncio", "yoyo", "yoyo.migrations", "pymongo", "motor", "tornado.access")


def configure_logs(options: Log, process: str) -> None:
    """Set up logging of this process. Call it once, first thing."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _named(process),
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(options)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(options.level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def _renderers(options: Log) -> list[Any]:
    as_text = options.format == "text" or (options.format == "auto" and sys.stderr.isatty())
    if as_text:
        return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0, sort_keys=False)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]


def _named(process: str) -> Any:
    def add(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["process"] = process
        return event

    return add
