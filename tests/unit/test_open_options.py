"""The options of `open_engine` are checked before anything is opened."""

import math
from typing import Any

import pytest

from engine import open_engine
from engine.errors import InvalidValue


@pytest.mark.parametrize(
    "options",
    [
        {"path": None},
        {"path": 3},
        {"path": "sqlite://host/runs.db"},
        {"durability": "most"},
        {"event_bytes_max": 0},
        {"event_bytes_max": "1"},
        {"event_bytes_max": None},
        {"event_bytes_max": 300.5},
        {"wal_bytes_max": 2.0**26},
        {"busy_timeout": -1},
        {"busy_timeout": True},
        {"busy_timeout": math.nan},
        {"busy_timeout": math.inf},
        {"busy_timeout": "30"},
        {"allow_network": 1},
    ],
    ids=str,
)
def test_an_invalid_option_is_refused_at_once(options: dict[str, Any]) -> None:
    """An invalid option raises InvalidValue, which names the option, when `open_engine` is called."""
    with pytest.raises(InvalidValue) as caught:
        _ = open_engine(**{"path": "runs.db", **options})
    assert caught.value.where in options
