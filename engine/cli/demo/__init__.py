"""`anabranch demo`: a census of a folder, recorded as a run and replayed."""

from engine.cli.demo.command import demo

__all__ = ["demo"]
