"""Long runs of several processes, of which some are killed: at the end the store is what they were acknowledged."""

import logging
import os
from pathlib import Path

import pytest

from tests.faults.soak.report import described
from tests.faults.soak.soak import Soak, assert_flat

LOG = logging.getLogger(__name__)


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(10.0, marks=pytest.mark.slow, id="ten seconds"),
        pytest.param(float(os.environ.get("ANABRANCH_SOAK_SECONDS", "1800")), marks=pytest.mark.nightly, id="nightly"),
    ],
)
async def test_what_processes_were_acknowledged_is_what_there_is(tmp_path: Path, seconds: float) -> None:
    """Forks, reductions, attempts, erasures, deletions, rebuilds, subscriptions and kills: model and store agree."""
    soaked = await Soak(tmp_path, seconds).run()
    LOG.info("%s", described(soaked))
    assert soaked.kills > 0
    assert_flat(soaked)
