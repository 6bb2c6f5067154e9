"""Makes one change to the files after another fail, and checks the store afterwards.

Run with `recorder.c` preloaded: `python -m tests.faults.disk.failing FIRST EVERY`. It prints a `Report` as JSON.
"""

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Final

import msgspec

from tests.faults.disk.changes import Change, Kind, read_changes
from tests.faults.disk.power import Files, Point, Recorded, Surveyor, left_behind, packed, unpacked
from tests.faults.disk.simulated import Cut
from tests.faults.disk.stories import FOR_GOOD, Failure, Told, Witness, changes_failed, fail, tell, watch

STORY: Final = "everything"
FAILURES: Final = (
    Failure("EIO", errno.EIO),
    Failure("EIO for good", errno.EIO, FOR_GOOD),
    Failure("EIO, half written", errno.EIO, half=True),
    Failure("ENOSPC", errno.ENOSPC),
    Failure("ENOSPC for good", errno.ENOSPC, FOR_GOOD),
    Failure("ENOSPC, half written", errno.ENOSPC, half=True),
)
_NONE_FAILED: Final = 3


class Report(msgspec.Struct):
    """`failed` counts the stories with a failed change, `changes` the changes of one story."""

    failed: int
    changes: int
    complaints: list[str]


def fail_each(first: int, every: int) -> Report:
    """Run the story with change number `first` failing, then the one `every` later, and so on, in every way."""
    report, surveyor = Report(0, 0, []), Surveyor()
    for at in count(first, every):
        failed = [_failed(at, failure, surveyor, report) for failure in FAILURES]
        report.failed += sum(failed)
        if not any(failed):
            report.changes = at
            return report
    raise AssertionError("unreachable: a story makes a finite number of changes")


def _failed(at: int, failure: Failure, surveyor: Surveyor, report: Report) -> bool:
    """Run the story in a child in which that change fails; return whether any change failed."""
    with unpacked({}) as recordings, unpacked({}) as database:
        recording = recordings.with_name("recording")
        status = _told_in_a_child(database, recording, at, failure)
        if status == _NONE_FAILED:
            return False
        wrong = [] if status == 0 else [f"ended with status {status}"]
        changes = read_changes(recording)
        wrong += _complaints(packed(database.parent), changes, surveyor)
    report.complaints += [f"{failure.name} at change {at}: {each}" for each in wrong]
    return True


def _told_in_a_child(database: Path, recording: Path, at: int, failure: Failure) -> int:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            watch(database.parent, recording)
            fail(at, failure)
            tell(STORY, database, Witness())
            status = 0 if changes_failed() else _NONE_FAILED
        except BaseException:  # noqa: BLE001 - the child must end here, whatever happens
            traceback.print_exc()
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _complaints(files: Files, changes: Sequence[Change], surveyor: Surveyor) -> list[str]:
    """Return what is wrong once the disk works again, and what would be wrong if power were cut at that time."""
    told = [msgspec.json.decode(each.data, type=Told) for each in changes if each.kind is Kind.ACKNOWLEDGED]
    end = Point(len(changes), Cut.DROPPED, 0)
    (cut,) = left_behind(Recorded({}, changes), [end])
    found = list[str]()
    for when, left in (("", files), ("then a power cut: ", cut.files)):
        after = surveyor.find(left)
        found += [f"{when}{what}" for what in (*after.problems, *after.lost(told))]
    return found


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(fail_each(*map(int, sys.argv[1:]))))
