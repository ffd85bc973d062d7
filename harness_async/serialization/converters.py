"""The cattrs converter of all models, and the errors of JSON that does not fit.

Strings, numbers and booleans are accepted as they are or refused, never converted: `str(None)` is a string too, and an
identifier "None" would be wrong. Unknown members are ignored; unknown words of an open enum are kept.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypeAlias, TypeVar, get_args, get_origin

import attrs
import cattrs
from cattrs.cols import list_structure_factory
from cattrs.gen import make_dict_structure_fn

from harness_async.errors import DecodeError

T = TypeVar("T")

Hook: TypeAlias = Callable[[Any, Any], Any]


class OpenEnum(str, enum.Enum):  # noqa: UP042 - StrEnum's members cannot be made by `str.__new__` alone
    """Known words are members; unknown words are kept, equal to their text, and sent unchanged.

    Iteration yields the known ones only.
    """

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        # Not registered with the class: what a server sends must not accumulate in memory.
        word = str.__new__(cls, value)
        word._name_ = value
        word._value_ = value
        return word

    @property
    def is_known(self) -> bool:
        """Whether this version of the library knows the word."""
        return self._value_ in type(self)._value2member_map_

    def __str__(self) -> str:
        return str.__str__(self)

    def __repr__(self) -> str:
        name = f".{self._name_}" if self.is_known else f"({self._value_!r})"
        return f"{type(self).__name__}{name}"

    def __eq__(self, other: object) -> bool:
        return str.__eq__(self, other) if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:
        return str.__hash__(self)

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        return type(self), (self._value_,)


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _parse_int(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:  # more digits than Python converts (4,300)
        return float(digits)  # infinity, as for 1e400


_JSON = json.JSONDecoder(parse_constant=_refuse_constant)
_JSON_WITH_ANY_INT = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_parse_int)


def parse_json(body: bytes) -> Any:
    """Parse a body, whatever its declared content type.

    Raises:
        ValueError: The body is not UTF-8, not JSON, or nested too deeply.
    """
    try:
        return _parse(body.decode("utf-8-sig"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _parse(text: str) -> Any:
    try:
        return _JSON.decode(text)
    except json.JSONDecodeError:
        raise
    except ValueError:  # an integer too long, perhaps in a member of no interest
        return _JSON_WITH_ANY_INT.decode(text)


_JSON_NAMES = {type(None): "null", dict: "an object", list: "an array", str: "a string", bool: "a boolean"}


def _json_name(value: object) -> str:
    return _JSON_NAMES.get(type(value), "a number")


def _strict(kind: type, name: str) -> Any:
    """Build a hook that accepts exactly this JSON type, for the type itself and for subclasses such as str enums."""

    def structure(value: object, wanted: Any) -> object:
        if type(value) is kind:
            return value if wanted is kind else wanted(value)
        raise TypeError(f"expected {name}, not {_json_name(value)}")

    return structure


def _structure_float(value: object, _: object) -> float:
    if type(value) is float or type(value) is int:  # JSON writes 5 for 5.0
        return float(value)
    raise TypeError(f"expected a number, not {_json_name(value)}")


STRICT_HOOKS: Mapping[type, Hook] = {
    str: _strict(str, "a string"),
    int: _strict(int, "an integer"),
    bool: _strict(bool, "true or false"),
    float: _structure_float,
}
"""The hooks of strings, numbers and booleans."""


def _create_class_hook(cls: type[Any], converter: cattrs.Converter) -> Hook:
    """Build the hook of an attrs class. null counts as missing, so that the default applies to both."""
    structure = make_dict_structure_fn(cls, converter)

    def hook(value: object, _: object) -> Any:
        if not isinstance(value, dict):
            raise TypeError(f"expected an object, not {_json_name(value)}")
        if None in value.values():
            value = {name: member for name, member in value.items() if member is not None}
        return structure(value, cls)

    return hook


def _is_array(cls: Any) -> bool:
    return get_origin(cls) in {list, Sequence} or (get_origin(cls) is tuple and get_args(cls)[-1] is Ellipsis)


def _create_array_hook(cls: Any, converter: cattrs.Converter) -> Any:
    """Build the hook of a list or an open tuple. cattrs accepts any iterable, but a string is not an array."""
    structure = list_structure_factory(cls, converter)
    kind = tuple if get_origin(cls) is tuple else list

    def hook(value: object, _: object) -> Any:
        if not isinstance(value, list):
            raise TypeError(f"expected an array, not {_json_name(value)}")
        return kind(structure(value, cls))

    return hook


def _create_converter(*, detailed: bool) -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=detailed)
    for kind, hook in STRICT_HOOKS.items():
        converter.register_structure_hook(kind, hook)
    converter.register_structure_hook_factory(_is_array, lambda cls: _create_array_hook(cls, converter))
    converter.register_structure_hook_factory(attrs.has, lambda cls: _create_class_hook(cls, converter))
    converter.register_unstructure_hook(OpenEnum, str)
    return converter


converter: cattrs.Converter = _create_converter(detailed=False)
"""The converter of every model. It stops at the first error; `locate_error` then finds its place."""

_detailed_converter = _create_converter(detailed=True)

_wrappers: dict[type[Any], tuple[str, Mapping[str, str]]] = {}
"""For each wrapped model: the member that holds its object, and the JSON names of fields beside that member."""


def register_wrapped(cls: type[Any], member: str, outer: Mapping[str, str]) -> None:
    """Register a model whose JSON is wrapped: most members in the object `member`, some beside it.

    Args:
        cls: The model.
        member: The member that holds the object.
        outer: Field names of the members beside it, by their JSON names.
    """
    _wrappers[cls] = (member, {name: json for json, name in outer.items()})
    for each in (converter, _detailed_converter):
        build = _create_class_hook(cls, each)

        def hook(value: object, _: object, build: Hook = build) -> Any:
            if not isinstance(value, dict):
                raise TypeError(f"expected an object, not {_json_name(value)}")
            inner = value.get(member)
            if not isinstance(inner, dict):
                raise TypeError(f"expected an object as {member!r}, not {_json_name(inner)}")
            return build({**inner, **{name: value.get(json) for json, name in outer.items()}}, cls)

        each.register_structure_hook(cls, hook)


def structure(value: object, cls: type[T]) -> T:
    """Structure a decoded JSON value as a model.

    Raises:
        DecodeError: The value does not fit; `path` names the place.
    """
    try:
        return converter.structure(value, cls)
    except Exception as error:
        raise locate_error(value, cls, error) from error


def structure_rows(value: object, cls: type[T]) -> list[T]:
    """Structure the body of a list as rows; null counts as empty. Rows of `dict` stay as they are.

    Raises:
        DecodeError: The body is not an array, or a row does not fit; `path` names the place.
    """
    if value is None:
        return []
    if not isinstance(value, list):
        raise DecodeError(f"The response does not fit: expected an array at $, not {_json_name(value)}")
    if cls is dict:
        for index, row in enumerate(value):
            if not isinstance(row, dict):
                message = f"The response does not fit: expected an object at $[{index}], not {_json_name(row)}"
                raise DecodeError(message, path=f"$[{index}]")
        return value
    try:
        return converter.structure(value, list[cls])  # type: ignore[valid-type]
    except Exception as error:
        raise locate_error(value, list[cls], error) from error  # type: ignore[valid-type]


def locate_error(value: object, cls: Any, error: Exception) -> DecodeError:
    """Build the error of a value that does not fit, with the path of the place."""
    try:
        _detailed_converter.structure(value, cls)
    except Exception as detailed:  # noqa: BLE001 - any exception of a hook means that the value does not fit
        first = cattrs.transform_error(detailed, format_exception=_describe)[0]
        text, _, place = first.partition(" @ $")
        path = _wrapped_path(f"${place}", cls)
        return DecodeError(f"The response does not fit: {text} at {path}", path=path)
    return DecodeError(f"The response does not fit: {error}")


def _wrapped_path(path: str, cls: Any) -> str:
    """Return the path of a place in a wrapped model as it is in the JSON."""
    member, beside = _wrappers.get(next(iter(get_args(cls)), cls), ("", {}))
    match = re.match(r"(\$(?:\[\d+\])?)\.(\w+)(.*)", path, re.DOTALL)
    if not member or match is None:
        return path
    start, name, rest = match.groups()
    return f"{start}.{beside[name]}{rest}" if name in beside else f"{start}.{member}.{name}{rest}"


def _describe(error: BaseException, _: type | None) -> str:
    return "nothing" if isinstance(error, KeyError) else str(error)


def unstructure(value: object) -> Any:
    """Convert a model to plain JSON data under its field names, which are the API's for an `Execution`."""
    return converter.unstructure(value)
