"""Structs whose equal values have equal bytes."""

from msgspec import Struct, structs


class Canonical(Struct, frozen=True, omit_defaults=True, gc=False):
    """A struct whose encoding omits the fields that hold their default.

    The encoder recognises a default by identity. A text that only equals the default, as decoded or computed texts do,
    is therefore replaced by it: otherwise an event's bytes would depend on how its texts were made. `gc=False`: the
    fields hold JSON, which has no reference cycles.
    """

    def __post_init__(self) -> None:
        for name, default in _TEXT_DEFAULTS[type(self)]:
            value = getattr(self, name)
            if value is not default and value == default:
                structs.force_setattr(self, name, default)


class _TextDefaults(dict[type[Struct], tuple[tuple[str, str], ...]]):
    """The names and defaults of each struct's fields that have a text as their default."""

    def __missing__(self, struct: type[Struct]) -> tuple[tuple[str, str], ...]:
        fields = structs.fields(struct)
        found = self[struct] = tuple((each.name, each.default) for each in fields if isinstance(each.default, str))
        return found


_TEXT_DEFAULTS = _TextDefaults()
