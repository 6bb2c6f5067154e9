"""A disk that loses power: what a folder may hold afterwards, by what POSIX promises and no more.

A sync of a file makes its bytes durable, and a sync of the folder its names. Of everything else any part may have
reached the disk, in any order, sector by sector; even a sector may hold neither its old nor its new bytes. A failed
sync leaves the kernel believing that the pages are clean: they never reach the disk unless they are written again
(https://wiki.postgresql.org/wiki/Fsync_Errors).
"""

import random
from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from tests.faults.disk.changes import Change, Kind

Pending = TypeVar("Pending")

SECTOR_BYTES = 512
_NOISE = 0.02  # the share of unsynced sectors that hold neither their old nor their new bytes


class Cut(StrEnum):
    """What happens to changes that were not synced."""

    DROPPED = "dropped"
    KEPT = "kept"
    PREFIX = "prefix"  # the first ones are there, the others are not
    REORDERED = "reordered"  # any of them are there, each whole
    TORN = "torn"  # any sectors of any of them are there, written in any order


class _File:
    def __init__(self, data: bytes = b"") -> None:
        self.durable = bytearray(data)
        self.pending: list[Change] = []

    def sync(self) -> None:
        for change in self.pending:
            _apply(self.durable, change)
        self.pending.clear()

    def after(self, cut: Cut, dice: random.Random) -> bytes:
        data = bytearray(self.durable)
        for change in _survivors(self.pending, cut, dice):
            _apply(data, change)
        return bytes(data)


class _Naming:
    """A change of the folder: from now on `name` is the file's, or is free."""

    def __init__(self, name: str, file: _File | None) -> None:
        self.name = name
        self.file = file


class SimulatedDisk:
    """A folder of files, all of them durable at first, to which changes are applied one by one."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._durable: dict[str, _File] = {name: _File(data) for name, data in files.items()}
        self._names = dict(self._durable)
        self._pending: list[_Naming] = []

    def apply(self, change: Change) -> None:
        match change.kind:
            case Kind.CREATED:
                self._name(change.name, _File())
            case Kind.REMOVED:
                self._name(change.name, None)
            case Kind.RENAMED | Kind.LINKED:
                self._name(change.data.decode(), self._names[change.name])
                if change.kind is Kind.RENAMED:
                    self._name(change.name, None)
            case Kind.SYNCED if not change.name:
                self._sync_names()
            case Kind.SYNC_FAILED if not change.name:
                pass  # names stay as uncertain as they were
            case Kind.WRITTEN | Kind.TRUNCATED | Kind.SYNCED | Kind.SYNC_FAILED:
                self._change_file(change)
            case Kind.ACKNOWLEDGED:
                pass

    def after_cut(self, cut: Cut, dice: random.Random) -> dict[str, bytes]:
        """Return the files, by name, that the folder may hold if power is cut now."""
        names = dict(self._durable)
        for naming in _whole_ones(self._pending, cut, dice):
            _rename(names, naming)
        return {name: file.after(cut, dice) for name, file in names.items()}

    def _name(self, name: str, file: _File | None) -> None:
        naming = _Naming(name, file)
        _rename(self._names, naming)
        self._pending.append(naming)

    def _sync_names(self) -> None:
        for naming in self._pending:
            _rename(self._durable, naming)
        self._pending.clear()

    def _change_file(self, change: Change) -> None:
        file = self._names.get(change.name)
        if file is None:
            return  # it has no name any more
        if change.kind is Kind.SYNCED:
            file.sync()
        elif change.kind is Kind.SYNC_FAILED:
            file.pending.clear()
        else:
            file.pending.append(change)


def _rename(names: dict[str, _File], naming: _Naming) -> None:
    if naming.file is None:
        names.pop(naming.name, None)
    else:
        names[naming.name] = naming.file


def _apply(data: bytearray, change: Change) -> None:
    size = change.offset if change.kind is Kind.TRUNCATED else change.offset + len(change.data)
    if len(data) < size:
        data.extend(bytes(size - len(data)))
    if change.kind is Kind.TRUNCATED:
        del data[size:]
    else:
        data[change.offset : size] = change.data


def _survivors(pending: list[Change], cut: Cut, dice: random.Random) -> list[Change]:
    return _torn(pending, dice) if cut is Cut.TORN else _whole_ones(pending, cut, dice)


def _whole_ones(pending: list[Pending], cut: Cut, dice: random.Random) -> list[Pending]:
    match cut:
        case Cut.DROPPED:
            return []
        case Cut.KEPT:
            return pending
        case Cut.PREFIX:
            return pending[: dice.randint(0, len(pending))]
        case Cut.REORDERED | Cut.TORN:
            return [change for change in pending if dice.random() < 0.5]


def _torn(pending: list[Change], dice: random.Random) -> list[Change]:
    kept = list[Change]()
    for change in pending:
        share = dice.random()
        if change.kind is Kind.TRUNCATED:
            kept += [change] if share < 0.5 else []
            continue
        for start in range(0, len(change.data), SECTOR_BYTES):
            sector = change.data[start : start + SECTOR_BYTES]
            if dice.random() < share:
                kept.append(change._replace(offset=change.offset + start, data=sector))
            elif dice.random() < _NOISE:
                kept.append(change._replace(offset=change.offset + start, data=dice.randbytes(len(sector))))
    dice.shuffle(kept)
    return kept
