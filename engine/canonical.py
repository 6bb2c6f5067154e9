"""Structs whose equal values have equal bytes."""

from msgspec import Struct, structs


class Canonical(Struct, frozen=True, omit_defaults=True, gc=False):
    """A struct that leaves out the fields that are at their default.

    The encoder knows a default by identity. A text that merely equals one, as texts that were read or put together do,
    is replaced by it: else an event's bytes would depend on where its words came from. What is recorded is JSON, which
    has no cycles for the garbage collector to look for.
    """

    def __post_init__(self) -> None:
        for name, default in _TEXT_DEFAULTS[type(self)]:
            value = getattr(self, name)
            if value is not default and value == default:
                structs.force_setattr(self, name, default)


class _TextDefaults(dict[type[Struct], tuple[tuple[str, str], ...]]):
    """Of each struct, the fields whose default is a text."""

    def __missing__(self, struct: type[Struct]) -> tuple[tuple[str, str], ...]:
        fields = structs.fields(struct)
        found = self[struct] = tuple((each.name, each.default) for each in fields if isinstance(each.default, str))
        return found


_TEXT_DEFAULTS = _TextDefaults()
