"""What the words for statuses mean.

They come from two families of hosts; a word that is not known means that something has not finished.
"""

from typing import Final

from engine.model import CANCELLED, COMPLETED, FAILED, RUNNING

SUCCEEDED_STATUSES: Final = frozenset({COMPLETED, "SUCCESS", "SKIPPED"})
FAILED_STATUSES: Final = frozenset({FAILED, "FAIL", "FAILED_INIT"})
FINISHED_STATUSES: Final = SUCCEEDED_STATUSES | FAILED_STATUSES | {CANCELLED}
ACTIVE_STATUSES: Final = frozenset({RUNNING, "SUBMITTED", "WAITING_EXTERNAL"})
