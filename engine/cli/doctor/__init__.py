"""`anabranch doctor`: the checks of a database, and its repair."""

from engine.cli.doctor.command import doctor

__all__ = ["doctor"]
