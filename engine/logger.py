"""The library's loggers: structlog's, over the standard library's, so that nothing is printed unless the host asks."""

import logging
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module.

    What becomes of its lines is up to the host: its processors where it has configured structlog, and the standard
    library's handlers. A host that uses the latter alone gets a line of plain text, and its facts as `extra`.
    """
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[structlog.stdlib.filter_by_level, _processed],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return logger


def _processed(logger: WrappedLogger, method: str, event: EventDict) -> Any:
    if not structlog.is_configured():  # its own processors are for a terminal: colours, columns and a second time
        return _as_plain_text(logger, method, event)
    processed: Any = event
    for processor in structlog.get_config()["processors"]:
        processed = processor(logger, method, processed)
    return processed


def _as_plain_text(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Return what the standard library's loggers take."""
    kwargs = structlog.stdlib.render_to_log_kwargs(logger, method, event)
    text, facts = kwargs["msg"], kwargs["extra"]
    said = ", ".join(f"{name}={value!r}" for name, value in facts.items())
    return {**kwargs, "msg": f"{text}: {said}" if said else text, "extra": {"anabranch": facts}}
