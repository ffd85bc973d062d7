"""Rows of plain attrs classes, made by a function that is written out for each class.

What cattrs writes for a class calls a hook for each member, and then the class, whose `__init__` sets each field
through `object.__setattr__` because the class is frozen: some 370 us for a page of 100 executions, on top of 140 for
its JSON. The function written here takes some 65 us on the same machine:

- It looks at the type of a text, a whole number or a boolean on the spot; any other member goes to its hook.
- It fills the slots of a draft, an object of a subclass that is not frozen, and then makes it one of the class.
- It refuses nothing by itself: a row with anything unusual in it goes to the careful hook, which takes or refuses it.

Without writing code, column by column, it would be 97 us. Setting slots through their descriptors costs 40 us more than
a draft, and `attrs.define(on_setattr=attrs.setters.frozen)` in place of `frozen` gains nothing over `__init__`.
"""

from __future__ import annotations

import enum
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Final, TypeAlias, TypeVar, cast, get_origin

import attrs
import cattrs

Hook: TypeAlias = Callable[[Any, Any], Any]
RowMaker: TypeAlias = Callable[[Iterable[Any]], list[Any]]

_INLINE = (str, int, bool)
_FACTORY: Any = attrs.Factory  # a function, if its stub were right
_UNUSUAL = (
    "__attrs_pre_init__",
    "__attrs_post_init__",
    "__getattr__",
    "_attrs_cached_hash",  # of `cache_hash=True`, filled by `__init__`
)

_TEMPLATE = """\
def make_rows(rows, {names}):
    made = []
    add = made.append
    for row in rows:
        try:
            {reads}
            if {checks}:
                item = new(draft)
                {stores}
                item.__class__ = cls
                add(item)
                continue
        except Exception:
            pass
        add(careful(row, cls))
    return made
"""


def compile_rows(
    cls: type[Any], careful: Hook, converter: cattrs.Converter, own: Mapping[type, Hook]
) -> RowMaker | None:
    """Write the function that makes rows of an attrs class; None where only the careful hook will do.

    Args:
        cls: The class.
        careful: The hook that says what a row is; the function gives the same values and errors.
        converter: Where the hooks of members come from.
        own: For a type of JSON, the hook that takes it and nothing else; of these the function knows what they do.
    """
    if type(cls) is not type:  # a generic class, given its types, or one that is made in a way of its own
        return None
    attrs.resolve_types(cls)
    draft = _make_draft(cls) if _is_plain(cls) else None
    if draft is None:
        return None
    writer = _Writer(converter, own, {"cls": cls, "draft": draft, "new": object.__new__, "careful": careful})
    for number, field in enumerate(attrs.fields(cls)):
        writer.add(number, field)
    exec(compile(writer.text(), f"<rows of {cls.__qualname__}>", "exec"), writer.names)  # noqa: S102 - names of fields
    make_rows: RowMaker = writer.names["make_rows"]
    return make_rows


class _Writer:
    """Writes the function, member by member."""

    def __init__(self, converter: cattrs.Converter, own: Mapping[type, Hook], names: dict[str, Any]) -> None:
        self.converter = converter
        self.own = own
        self.names: dict[str, Any] = names | {kind.__name__: kind for kind in (type, *_INLINE)}
        self.reads: list[str] = []
        self.checks: list[str] = []
        self.stores: list[str] = []

    def add(self, number: int, field: attrs.Attribute[Any]) -> None:
        """Write how one member is read, checked and stored."""
        value, kind, default = f"v{number}", cast("Any", field.type), cast("Any", field.default)
        inline = kind in _INLINE and self._is_own(kind, kind)
        structured = value if inline else self._structured(number, kind)
        if inline:
            self.checks.append(f"type({value}) is {kind.__name__}")
        if default is attrs.NOTHING:
            self.reads.append(f"{value} = row[{field.name!r}]")
            if not inline:
                self.checks.append(f"{value} is not None")
            self.stores.append(f"item.{field.name} = {structured}")
            return
        made = isinstance(default, _FACTORY)
        self.names[f"default{number}"] = default.factory if made else default
        otherwise = f"default{number}{'()' if made else ''}"
        self.reads.append(f"{value} = row.get({field.name!r})")  # null counts as left out
        self.reads.append(f"{value} = {otherwise} if {value} is None else {structured}")
        self.stores.append(f"item.{field.name} = {value}")

    def _structured(self, number: int, kind: Any) -> str:
        """Write what a hook makes of a member; a known word of an enum needs none."""
        self.names |= {f"hook{number}": _late(kind, self.converter), f"kind{number}": kind}
        call = f"hook{number}(v{number}, kind{number})"
        if not (isinstance(kind, enum.EnumMeta) and self._is_own(kind, str)):
            return call
        known = {word: member for word, member in kind._value2member_map_.items() if type(word) is str}
        self.names[f"known{number}"] = known.get
        return f"known{number}(v{number}) or {call}"

    def _is_own(self, kind: Any, json: type) -> bool:
        return self.converter.get_structure_hook(kind) is self.own[json]

    def text(self) -> str:
        return _TEMPLATE.format(
            names=", ".join(f"{name}={name}" for name in self.names),  # read faster as arguments than as globals
            reads=f"\n{' ' * 12}".join(self.reads),
            checks=" and ".join(self.checks) or "True",
            stores=f"\n{' ' * 16}".join(self.stores),
        )


def _late(kind: Any, converter: cattrs.Converter) -> Hook:
    """Look a hook up when it is first needed, for a class may hold itself."""
    found: Hook | None = None

    def hook(value: Any, wanted: Any) -> Any:
        nonlocal found
        if found is None:
            found = converter.get_structure_hook(kind)
        return found(value, wanted)

    return hook


def _is_plain(cls: Any) -> bool:
    """Whether making an object of an attrs class is filling its slots and no more."""
    fields = attrs.fields(cls)
    return (
        bool(fields)
        and cls.__new__ is object.__new__
        and _is_by_attrs(cls.__init__)
        and cls.__getattribute__ is object.__getattribute__
        and (cls.__setattr__ is object.__setattr__ or _is_by_attrs(cls.__setattr__))
        and not any(hasattr(cls, name) for name in _UNUSUAL)
        and not any("__init_subclass__" in vars(base) for base in cls.__mro__[:-1])
        and all(_is_plain_field(cls, field) for field in fields)
    )


def _is_by_attrs(method: object) -> bool:
    name: str = getattr(getattr(method, "__code__", None), "co_filename", "")
    return name.startswith("<attrs generated") or name == attrs.fields.__code__.co_filename


def _is_plain_field(cls: Any, field: attrs.Attribute[Any]) -> bool:
    default: Any = field.default
    return (
        field.init
        and field.converter is None
        and field.validator is None
        and not (isinstance(default, _FACTORY) and default.takes_self)
        and isinstance(getattr(cls, field.name, None), types.MemberDescriptorType)
        and not isinstance(field.type, (str, TypeVar, types.NoneType))
        and get_origin(field.type) not in {Annotated, Final}
    )


def _make_draft(cls: type[Any]) -> type[Any] | None:
    """Make a class whose objects can be filled and then become objects of `cls`; None where Python has it otherwise."""
    unfrozen = {"__slots__": (), "__setattr__": object.__setattr__, "__delattr__": object.__delattr__}
    draft = type(cls.__name__, (cls,), {**unfrozen, "__module__": cls.__module__})
    try:
        object.__setattr__(object.__new__(draft), "__class__", cls)
    except TypeError:
        return None
    return draft
