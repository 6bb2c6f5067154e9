"""The library's loggers: structlog's, over the standard library's, so that nothing is printed unless the host asks."""

import logging

import structlog


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module. What becomes of its lines is up to the host's configuration of both libraries."""
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name), wrapper_class=structlog.stdlib.BoundLogger
    )
    return logger
