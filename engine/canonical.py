"""Structs whose equal values have equal bytes."""

from functools import cache

from msgspec import Struct, structs


class Canonical(Struct, frozen=True, omit_defaults=True):
    """A struct that leaves out the fields that are at their default.

    The encoder knows a default by identity. A text that merely equals one, as texts that were read or put together do,
    is replaced by it: else an event's bytes would depend on where its words came from.
    """

    def __post_init__(self) -> None:
        for name, default in _text_defaults(type(self)):
            if getattr(self, name) == default:
                structs.force_setattr(self, name, default)


@cache
def _text_defaults(struct: type[Struct]) -> tuple[tuple[str, str], ...]:
    fields = structs.fields(struct)
    return tuple((field.name, field.default) for field in fields if isinstance(field.default, str))
