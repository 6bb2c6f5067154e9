"""The library's loggers: structlog over the standard library's logging, silent unless the host configures one."""

import logging
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module.

    Its output goes through the host's structlog processors, if configured, and the standard library's handlers. A host
    that uses only the latter gets a line of plain text, with the fields in `extra`.
    """
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[structlog.stdlib.filter_by_level, _processed],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return logger


def _processed(logger: WrappedLogger, method: str, event: EventDict) -> Any:
    if not structlog.is_configured():  # its default processors are for a terminal: colours, columns, another timestamp
        return _as_plain_text(logger, method, event)
    processed: Any = event
    for processor in structlog.get_config()["processors"]:
        processed = processor(logger, method, processed)
    return processed


def _as_plain_text(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Return the arguments for the standard library's logger."""
    kwargs = structlog.stdlib.render_to_log_kwargs(logger, method, event)
    text, facts = kwargs["msg"], kwargs["extra"]
    said = ", ".join(f"{name}={value!r}" for name, value in facts.items())
    return {**kwargs, "msg": f"{text}: {said}" if said else text, "extra": {"anabranch": facts}}
