"""What the words for statuses mean.

They come from two families of hosts. Other words can be recorded, too: what an attempt ended with, when its end is
known by a time, or else something that goes on.
"""

from typing import Final

from engine.model import CANCELLED, COMPLETED, CREATED, FAILED, PENDING, RUNNING, TERMINAL_STATUSES

SUCCEEDED_STATUSES: Final = frozenset({COMPLETED, "SUCCESS", "SKIPPED"})
FAILED_STATUSES: Final = frozenset({FAILED, "FAIL", "FAILED_INIT"})
FINISHED_STATUSES: Final = SUCCEEDED_STATUSES | FAILED_STATUSES | {CANCELLED}
ACTIVE_STATUSES: Final = frozenset({RUNNING, "SUBMITTED", "WAITING_EXTERNAL"})
_BEFORE_AN_END: Final = ACTIVE_STATUSES | {CREATED, PENDING}


def has_ended(status: str, ended_at: object) -> bool:
    """Say whether an attempt has ended; `ended_at` is None where no time of its end is known.

    One that was taken up again keeps the time of its first end.
    """
    return status in TERMINAL_STATUSES or (ended_at is not None and status not in _BEFORE_AN_END)
