"""Runs as files: the line format of an export, and the checks of an import."""

from engine.transfer.port import Imported, ImportedRun, Transfer
from engine.transfer.refusals import (
    DifferentRunExists,
    ExportCutShort,
    ExportOvertaken,
    HistoryBroken,
    ImportedAttemptExists,
    ImportedEventTooLarge,
    ImportRefused,
    LineOutOfPlace,
    MalformedLine,
    NewerExport,
    NotAnExport,
    SourceMissing,
)

__all__ = [
    "DifferentRunExists",
    "ExportCutShort",
    "ExportOvertaken",
    "HistoryBroken",
    "ImportRefused",
    "Imported",
    "ImportedAttemptExists",
    "ImportedEventTooLarge",
    "ImportedRun",
    "LineOutOfPlace",
    "MalformedLine",
    "NewerExport",
    "NotAnExport",
    "SourceMissing",
    "Transfer",
]
