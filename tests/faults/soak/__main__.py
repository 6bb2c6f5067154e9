"""Run a soak and log its report: `python -m tests.faults.soak SECONDS [FOLDER]`."""

import asyncio
import logging
import sys
import tempfile
from pathlib import Path

from tests.faults.soak.report import described
from tests.faults.soak.soak import Soak, assert_flat

_log = logging.getLogger(__name__)


def _main(seconds: str, folder: str | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with tempfile.TemporaryDirectory() as scratch:
        soaked = asyncio.run(Soak(Path(folder or scratch), float(seconds)).run())
    _log.info("%s", described(soaked))
    assert_flat(soaked)


if __name__ == "__main__":
    _main(*sys.argv[1:])
