"""The command `anabranch`."""

from engine.cli.app import main

__all__ = ["main"]
