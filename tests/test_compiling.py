from __future__ import annotations

import enum
import gc
import pickle
import weakref
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, ClassVar, Generic, Self, TypeVar

import attr
import attrs
import pytest
from attrs import frozen
from cattrs.gen import override
from hypothesis import given, settings
from hypothesis import strategies as st

from harness_async import converters
from harness_async.converters import OpenEnum, converter, structure_rows
from harness_async.errors import DecodeError

T = TypeVar("T")


class Colour(OpenEnum):
    """Words of a vocabulary."""

    NONE = ""
    RED = "red"


UNKNOWN = Colour("unknown")


class Kind(enum.StrEnum):
    """Closed words."""

    PLAN = "plan"


class Level(enum.IntEnum):
    """Closed numbers."""

    LOW = 1


@frozen
class Part:
    """Something inside a row."""

    name: str
    colour: Colour = Colour.NONE


@frozen(kw_only=True)
class Row:
    """Members of every kind, with and without a default."""

    text: str
    number: int
    flag: bool
    ratio: float
    colour: Colour
    kind: Kind
    part: Part
    maybe: str | None
    text_: str = "t"
    number_: int = 5
    flag_: bool = True
    ratio_: float = 0
    colour_: Colour = Colour.RED
    unknown_: Colour = UNKNOWN
    kind_: Kind = Kind.PLAN
    level_: Level = Level.LOW
    part_: Part = Part("default")
    maybe_: str | None = None
    maybe_x: str | None = "x"
    wrong_: int = "no number"  # type: ignore[assignment]
    texts: tuple[str, ...] = ()
    parts: list[Part] = attrs.field(factory=list)
    labels: dict[str, str] = attrs.field(factory=dict)
    mapping: Mapping[str, int] = attrs.field(factory=dict)
    anything: Any = 1
    inner: Row | None = None
    _private: str = ""


TYPICAL: dict[str, Any] = {
    "text": "t",
    "number": 1,
    "flag": False,
    "ratio": 1.5,
    "colour": "red",
    "kind": "plan",
    "part": {"name": "p"},
    "maybe": "m",
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(["", "red", "plan", "x"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "x"]), inner, max_size=2),
    max_leaves=4,
)
NAMES = [field.name for field in attrs.fields(Row)]


def describe(value: Any) -> object:
    if attrs.has(type(value)):
        return type(value), [describe(getattr(value, field.name)) for field in attrs.fields(type(value))]
    return (type(value), [describe(item) for item in value]) if isinstance(value, (list, tuple)) else repr(value)


def carefully(rows: list[Any], cls: type) -> Any:
    """Make rows with the converter that looks at everything, for which nothing is written out."""
    return [converters._explainer.structure(row, cls) for row in rows]


def assert_as_carefully(rows: list[Any], cls: type) -> None:
    """Check that rows come as the careful way makes them, many at a time and each alone, or that both refuse."""
    try:
        wanted = describe(carefully(rows, cls))
    except Exception:  # noqa: BLE001 - whatever the careful way says
        with pytest.raises(DecodeError):
            structure_rows(rows, cls)
    else:
        assert describe(structure_rows(rows, cls)) == wanted
        assert describe([converter.structure(row, cls) for row in rows]) == wanted


def is_compiled(cls: Any) -> bool:
    return converter.get_structure_hook(cls) in converters.row_makers


@settings(max_examples=300, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4), min_size=1, max_size=3))
def test_any_row(changes: list[dict[str, Any]]) -> None:
    """Whatever comes as a member, rows are as the careful way makes them, or both refuse."""
    assert is_compiled(Row)
    assert_as_carefully([{**TYPICAL, **change} for change in changes], Row)


@pytest.mark.parametrize("name", NAMES)
def test_each_member_left_out_or_null(name: str) -> None:
    """A member that is missing or null has its default, or is missed, and nothing else changes."""
    full = {**TYPICAL, "inner": TYPICAL, "texts": ["a"], "parts": [{"name": "q"}], "labels": {"a": "b"}, name: None}
    assert_as_carefully([full], Row)
    del full[name]
    assert_as_carefully([full], Row)


@pytest.mark.parametrize("row", [None, [], "text", 7, True, {}, [TYPICAL], "number"], ids=repr)
def test_no_objects(row: object) -> None:
    """What is no object is no row, wherever it stands."""
    assert_as_carefully([row], Row)
    assert_as_carefully([TYPICAL, row], Row)
    assert_as_carefully([{**TYPICAL, "part": row}], Row)


def test_factories_make_one_for_each() -> None:
    """Rows do not share what a factory makes."""
    first, second = structure_rows([TYPICAL, TYPICAL], Row)
    assert first.parts is not second.parts


def test_rows_are_of_their_class() -> None:
    """A row is of its class and no other, frozen, and lives no longer than any object."""
    (row,) = structure_rows([{"name": "a"}], Part)
    assert type(row) is Part
    assert pickle.loads(pickle.dumps(row)) == row == Part("a")  # noqa: S301
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        row.name = "b"  # type: ignore[misc]
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        del row.name  # pyright: ignore[reportAttributeAccessIssue]
    reference = weakref.ref(row)
    del row
    gc.collect()
    assert reference() is None


# -- classes that are not plain --------------------------------------------------------------------------------------


def shout(text: str) -> str:
    return text.upper()


@frozen
class Converted:
    """It converts."""

    name: str = attrs.field(converter=shout)


@frozen
class Checked:
    """It may refuse."""

    name: str = attrs.field(validator=attrs.validators.max_len(3))


@frozen
class Finished:
    """It computes when it is made."""

    name: str
    length: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "length", len(self.name))


@frozen
class Started:
    """It notes that it is made."""

    name: str
    log: ClassVar[list[str]] = []

    def __attrs_pre_init__(self) -> None:
        self.log.append("made")


@attrs.define
class OwnInit:
    """It is made in a way of its own."""

    name: str

    def __init__(self, name: str) -> None:
        self.name = name * 2


@attrs.define
class OwnSetattr:
    """It stores in a way of its own."""

    name: str

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self, name, f"{value}!")


@frozen
class OwnGetattr:
    """It has members for whatever is asked."""

    name: str

    def __getattr__(self, name: str) -> str:
        return name


class OwnNew:
    """It allocates in a way of its own."""

    __slots__ = ()

    def __new__(cls, *_: object, **__: object) -> Self:
        return object.__new__(cls)


@frozen
class Inherited(OwnNew):
    """It inherits that."""

    name: str


@frozen
class Registering:
    """It wants to know its subclasses."""

    name: str
    made: ClassVar[list[type]] = []

    def __init_subclass__(cls) -> None:
        cls.made.append(cls)


@attrs.define(slots=False)
class Loose:
    """It has no slots."""

    name: str


@attr.s
class Untyped:
    """It says no types."""

    name = attr.ib()  # type: ignore[var-annotated]  # pyright: ignore[reportGeneralTypeIssues]


@frozen(cache_hash=True)
class Hashed:
    """It keeps its hash."""

    name: str


@frozen
class Dependent:
    """One default depends on another member."""

    name: str
    other: str = attrs.field(default=attrs.Factory(lambda self: self.name + "?", takes_self=True))


@frozen
class Renamed:
    """A member has another name on the wire."""

    name: Annotated[str, override(rename="label")] = "x"


@frozen
class Box(Generic[T]):
    """Its type is given later."""

    name: T


@frozen
class Nothing:
    """It holds nothing."""


@attrs.define
class Mistaken(Exception):  # noqa: N818 - a row that can be raised
    """It can be raised."""

    name: str


ODD = [
    *(Converted, Checked, Finished, Started, OwnInit, OwnSetattr, OwnGetattr, Inherited, Registering, Loose, Untyped),
    *(Hashed, Dependent, Renamed, Nothing, Mistaken, Box[str], Box[int]),
]


@pytest.mark.parametrize("cls", ODD, ids=lambda cls: getattr(cls, "__name__", str(cls)))
@pytest.mark.parametrize("row", [{}, *({"name": name} for name in ("a", "long", None, 7)), {"label": "l"}, 7], ids=str)
def test_other_classes(cls: Any, row: object) -> None:
    """Classes that do more than hold what came, or hold it otherwise, are made in the careful way."""
    assert not is_compiled(cls)
    assert_as_carefully([row], cls)


def test_classes_are_left_alone() -> None:
    """Making rows subclasses no class that wants to know of it, and runs what a class has to run."""
    structure_rows([{"name": "a"}], Registering)
    assert Registering.made == []
    before = len(Started.log)
    structure_rows([{"name": "a"}, {"name": "b"}], Started)
    assert len(Started.log) == before + 2
    assert hash(structure_rows([{"name": "a"}], Hashed)[0]) == hash(Hashed("a"))


@attrs.define
class Mutable:
    """Rows need not be frozen."""

    name: str
    count: int = attrs.field(default=0, on_setattr=attrs.setters.validate)


@frozen
class Base:
    """What the other derives from."""

    name: str


@frozen
class Derived(Base):
    """Nor without a base."""

    count: int = 0


@pytest.mark.parametrize("cls", [Mutable, Derived])
def test_other_plain_classes(cls: type) -> None:
    """Classes that can be changed and classes with a base are plain as well."""
    assert is_compiled(cls)
    for row in ({"name": "a"}, {"name": "a", "count": 3}, {"name": "a", "count": "3"}, {"count": 3}):
        assert_as_carefully([row], cls)
    (made,) = structure_rows([{"name": "a"}], Mutable)
    made.name = "b"
    assert made == Mutable("b")


# -- what the converter is taught -------------------------------------------------------------------------------------


def test_hooks_of_members_count() -> None:
    """A hook for the type of a member is used, whatever it takes, also where it was given after the first rows."""

    class Stamp:
        def __init__(self, text: str) -> None:
            self.day = date.fromisoformat(text)

    @frozen
    class Dated:
        name: str
        day: Stamp

    Dated.__annotations__.update(name=str, day=Stamp)
    attrs.resolve_types(Dated, {}, {"Stamp": Stamp})
    converter.register_structure_hook(Stamp, lambda text, _: Stamp(text))
    (row,) = structure_rows([{"name": "a", "day": "2024-02-29"}], Dated)
    assert row.day.day == date(2024, 2, 29)
    converter.register_structure_hook(Stamp, lambda _, __: Stamp("2000-01-01"))
    (row,) = structure_rows([{"name": "a", "day": "2024-02-29"}], Dated)
    assert row.day.day == date(2000, 1, 1)
    with pytest.raises(DecodeError):
        structure_rows([{"name": "a", "day": None}], Dated)
