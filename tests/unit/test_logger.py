"""The library's log lines in hosts with and without structlog."""

import logging
from collections.abc import Iterator

import pytest
import structlog

from engine.logger import get_logger


@pytest.fixture(autouse=True)
def unconfigured() -> Iterator[None]:
    """Reset structlog to its defaults before and after the test."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


def test_a_host_without_structlog_gets_plain_lines(caplog: pytest.LogCaptureFixture) -> None:
    """Without structlog configured, a log line is plain text with its fields, which are also on the record."""
    with caplog.at_level(logging.INFO):
        get_logger("engine.somewhere").info("100% made %s", path="/data/%d", size=3)
    (record,) = caplog.records
    assert record.getMessage() == "100% made %s: path='/data/%d', size=3"
    assert record.__dict__["anabranch"] == {"path": "/data/%d", "size": 3}


def test_a_line_without_facts(caplog: pytest.LogCaptureFixture) -> None:
    """A log line without fields is its text alone; `exception` includes the current error."""
    try:
        int("x")
    except ValueError:
        get_logger("engine.somewhere").exception("went wrong")
    (record,) = caplog.records
    assert record.getMessage() == "went wrong"
    assert record.exc_info is not None
    assert record.exc_info[0] is ValueError


def test_a_host_with_structlog_gets_them_through_its_processors(caplog: pytest.LogCaptureFixture) -> None:
    """With structlog configured, log lines go through the host's processors."""
    structlog.configure(processors=[structlog.stdlib.add_log_level, structlog.processors.JSONRenderer(sort_keys=True)])
    get_logger("engine.somewhere").warning("made", path="x")
    assert [record.getMessage() for record in caplog.records] == ['{"event": "made", "level": "warning", "path": "x"}']


def test_what_nobody_listens_to_is_not_rendered(caplog: pytest.LogCaptureFixture) -> None:
    """A line below the enabled level is not logged."""
    with caplog.at_level(logging.ERROR):
        get_logger("engine.somewhere").warning("made", path="x")
    assert caplog.records == []
