"""JSON to models and back: one cattrs converter, strict about types, and the errors of JSON that does not fit.

Strings, numbers and booleans are accepted as they are or refused, never converted: `str(None)` is a string too, and an
identifier "None" would be wrong. Unknown members are ignored; unknown words of an open enum are kept.

Models of the API are declared with `register_model`, which maps each field to its place in the JSON. Members that
identify a row are required. Any other member of a wrong type counts as missing, and is reported, because one odd member
must not hide a row or its whole list.
"""

from __future__ import annotations

import enum
import json
import logging
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self, TypeAlias, TypeVar, get_args, get_origin

import attrs
import cattrs
from attrs import define
from cattrs.gen import make_dict_structure_fn

from harness_async.errors import DecodeError
from harness_async.validation import as_str_tuple, check_text

T = TypeVar("T")

Hook: TypeAlias = Callable[[Any, Any], Any]

logger: logging.Logger = logging.getLogger("harness_async")

_MAX_REPORTED_MEMBERS = 1000
"""Different invalid members that are logged once each; later ones are only counted."""

_reported_members: set[str] = set()
_warned_words: set[tuple[type, str]] = set()


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

    @classmethod
    def parse_words(cls, name: str, value: str | Iterable[str] | None) -> tuple[str, ...] | None:
        """Return one word of a filter or several, None for None, and warn of words that are not known.

        Raises:
            TypeError: A word is not a str.
            ValueError: There is no word, or an empty one.
        """
        words = as_str_tuple(name, value)
        for word in words or ():
            check_text(name, word)
            cls.warn_if_unknown(word)
        return None if words is None else tuple(map(str, words))

    @classmethod
    def warn_if_unknown(cls, word: str) -> None:
        """Emit a `UserWarning` for a word that is not known, with the nearest known word. Once for each word."""
        known = [str(member) for member in cls]
        if word in known or (cls, word) in _warned_words:
            return
        _warned_words.add((cls, word))
        from difflib import get_close_matches

        nearest = get_close_matches(word.casefold(), [each.casefold() for each in known], n=1, cutoff=0.5)
        match = next((each for each in known if nearest and each.casefold() == nearest[0]), None)
        hint = f"did you mean {match!r}?" if match else f"known are {', '.join(map(repr, known))}."
        warnings.warn(f"{word!r} is not a known {cls.__name__}; {hint} It is sent as given", UserWarning, stacklevel=2)

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


class _MismatchError(Exception):
    """A JSON value does not fit; `path` leads from the value that was structured to the one that does not fit."""

    def __init__(self, text: str, path: str = "") -> None:
        super().__init__(text)
        self.path = path

    def under(self, step: str) -> _MismatchError:
        """Return the error as seen from the value that holds this one."""
        return _MismatchError(str(self), step + self.path)


def _expected(what: str, value: object) -> _MismatchError:
    return _MismatchError(f"expected {what}, not {_JSON_NAMES.get(type(value), 'a number')}")


def _strict(kind: type, name: str) -> Hook:
    """Build a hook that accepts exactly this JSON type, for the type itself and for subclasses such as str enums."""

    def structure(value: object, wanted: Any) -> object:
        if type(value) is not kind:
            raise _expected(name, value)
        return value if wanted is kind else wanted(value)

    return structure


def _structure_float(value: object, _: object) -> float:
    if type(value) is float or type(value) is int:  # JSON writes 5 for 5.0
        return float(value)
    raise _expected("a number", value)


def _call(hook: Hook, value: object, kind: Any, step: str) -> Any:
    """Call a hook; an error says where in the holder the value is."""
    try:
        return hook(value, kind)
    except _MismatchError as error:
        raise error.under(step) from None
    except Exception as error:
        raise _MismatchError(str(error) or type(error).__name__, step) from error


@define
class _Member:
    """A field of a model, and its place in the JSON."""

    argument: str
    keys: tuple[str, ...]
    kind: Any
    hook: Hook
    required: bool
    path: str = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.path = "".join(f".{key}" for key in self.keys)


class ModelHook:
    """Structures JSON objects as one attrs class. null counts as missing."""

    def __init__(
        self,
        cls: type[Any],
        paths: Mapping[str, str] | None = None,
        parsers: Mapping[str, Callable[[Any], Any]] | None = None,
    ) -> None:
        """Build the hook of a class.

        Args:
            cls: The class.
            paths: The dotted path of each field in the JSON, where it is not the field's name. With it, members of a
                wrong type count as missing unless they are required.
            parsers: Functions that parse the values of fields, where they do not have the type of the field.
        """
        attrs.resolve_types(cls)
        self._cls = cls
        self._lenient = paths is not None
        self._members = [
            _Member(
                argument=field.alias,
                keys=tuple((paths[field.name] if paths and field.name in paths else field.name).split(".")),
                kind=field.type,
                hook=_parser_hook(parsers[field.name]) if parsers and field.name in parsers else _late_hook(field.type),
                required=field.default is attrs.NOTHING,
            )
            for field in attrs.fields(cls)
            if field.init
        ]

    def __call__(self, value: object, _: object = None) -> Any:
        """Structure a value."""
        return self.build(value, {}, [])

    def build(self, value: object, context: Mapping[str, object], invalid: list[str]) -> Any:
        """Structure a value.

        Args:
            value: The JSON value.
            context: Arguments for fields that are missing in the JSON.
            invalid: Receives the path of each member that counts as missing because of its type.
        """
        if not isinstance(value, dict):
            raise _expected("an object", value)
        arguments = dict(context)
        for member in self._members:
            found: Any = value
            for key in member.keys:
                found = found.get(key) if isinstance(found, dict) else None
            if found is None:
                if member.required and member.argument not in arguments:
                    raise _MismatchError("required member is missing", member.path)
                continue
            try:
                arguments[member.argument] = _call(member.hook, found, member.kind, member.path)
            except _MismatchError as error:
                if member.required or not self._lenient:
                    raise
                # Without the keys inside the member, which may be of any length or contain the key that a proxy echoed.
                invalid.append(f"{self._cls.__name__}{member.path}: {error}")
        return self._cls(**arguments)


def _parser_hook(parse: Callable[[Any], Any]) -> Hook:
    return lambda value, _kind: parse(value)


def _late_hook(kind: Any) -> Hook:
    """Look a hook up on first use, because a class may contain itself."""
    found: Hook | None = None

    def hook(value: Any, wanted: Any) -> Any:
        nonlocal found
        if found is None:
            found = converter.get_structure_hook(kind)
        return found(value, wanted)

    return hook


def _create_class_hook(cls: type[Any]) -> Hook:
    return ModelHook(cls) if type(cls) is type else make_dict_structure_fn(cls, converter)


def _is_array(cls: Any) -> bool:
    return get_origin(cls) in {list, Sequence} or (get_origin(cls) is tuple and get_args(cls)[-1] is Ellipsis)


def _create_array_hook(cls: Any) -> Hook:
    kind, inner = tuple if get_origin(cls) is tuple else list, get_args(cls)[0]
    inner_hook = _late_hook(inner)

    def structure(value: object, _: object) -> Any:
        if not isinstance(value, list):
            raise _expected("an array", value)
        return kind([_call(inner_hook, item, inner, f"[{index}]") for index, item in enumerate(value)])

    return structure


def _is_mapping(cls: Any) -> bool:
    return get_origin(cls) in {dict, Mapping} and get_args(cls)[0] is str


def _create_mapping_hook(cls: Any) -> Hook:
    inner = get_args(cls)[1]
    inner_hook = _late_hook(inner)

    def structure(value: object, _: object) -> Any:
        if not isinstance(value, dict):
            raise _expected("an object", value)
        return {key: _call(inner_hook, item, inner, f"[{key!r}]") for key, item in value.items()}

    return structure


def _create_converter() -> cattrs.Converter:
    created = cattrs.Converter(detailed_validation=False)
    for kind, name in ((str, "a string"), (int, "an integer"), (bool, "true or false")):
        created.register_structure_hook(kind, _strict(kind, name))
    created.register_structure_hook(float, _structure_float)
    created.register_structure_hook_factory(_is_array, _create_array_hook)
    created.register_structure_hook_factory(_is_mapping, _create_mapping_hook)
    created.register_structure_hook_factory(attrs.has, _create_class_hook)
    created.register_unstructure_hook(OpenEnum, str)
    return created


converter: cattrs.Converter = _create_converter()
"""The converter of every model."""

_models: dict[type[Any], ModelHook] = {}


def register_model(
    cls: type[T],
    paths: Mapping[str, str] | None = None,
    parsers: Mapping[str, Callable[[Any], Any]] | None = None,
) -> type[T]:
    """Register a model of the API; see `ModelHook` for the arguments."""
    _models[cls] = hook = ModelHook(cls, paths or {}, parsers)
    converter.register_structure_hook(cls, hook)
    return cls


def get_path(value: object, path: str) -> Any:
    """Return the value at a dotted path ("" is the value itself); None where a member is missing or null.

    Raises:
        DecodeError: The path leads through a value that is not an object.
    """
    place = "$"
    for key in path.split(".") if path else ():
        if value is None:
            return None
        if not isinstance(value, dict):
            raise _decode_error(_expected("an object", value).under(place[1:]))
        value, place = value.get(key), f"{place}.{key}"
    return value


def structure(value: object, cls: type[T], context: Mapping[str, object] | None = None, root: str = "") -> T:
    """Structure a decoded JSON value as a model; `context` completes fields that are missing in the JSON.

    `root` is the dotted path of the value in its body.

    Raises:
        DecodeError: The value does not fit; `path` names the place.
    """
    invalid: list[str] = []
    try:
        if cls in _models:
            return _models[cls].build(value, context or {}, invalid)  # type: ignore[no-any-return]
        return converter.structure(value, cls)
    except _MismatchError as error:
        raise _decode_error(error.under(f".{root}" if root else "")) from None
    except Exception as error:
        raise DecodeError(f"The response does not fit: {error}") from error
    finally:
        report_invalid(invalid)


def structure_rows(
    value: object, cls: type[T], context: Mapping[str, object] | None = None, root: str = ""
) -> tuple[list[T], list[str]]:
    """Structure an array as rows, and return the members that count as missing because of their type.

    null counts as empty. Rows of `dict` stay as they are. `root` is the dotted path of the array in its body.

    Raises:
        DecodeError: The body is not an array, or a row does not fit; `path` names the place.
    """
    if value is None:
        return [], []
    prefix = f".{root}" if root else ""
    if not isinstance(value, list):
        raise _decode_error(_expected("an array", value).under(prefix))
    rows: list[T] = []
    invalid: list[str] = []
    model = _models.get(cls)
    hook = None if model is not None or cls is dict else converter.get_structure_hook(cls)
    for index, row in enumerate(value):
        try:
            if model is not None:
                rows.append(model.build(row, context or {}, invalid))
            elif hook is not None:
                rows.append(hook(row, cls))
            elif isinstance(row, dict):
                rows.append(row)  # type: ignore[arg-type]
            else:
                raise _expected("an object", row)  # noqa: TRY301
        except _MismatchError as error:
            raise _decode_error(error.under(f"{prefix}[{index}]")) from None
        except Exception as error:
            path = f"${prefix}[{index}]"
            raise DecodeError(f"The response does not fit: {error} at {path}", path=path) from error
    report_invalid(invalid)
    return rows, invalid


def _decode_error(error: _MismatchError) -> DecodeError:
    path = f"${error.path}"
    return DecodeError(f"The response does not fit: {error} at {path}", path=path)


def report_invalid(invalid: Sequence[str]) -> None:
    """Log each kind of invalid member once per process."""
    for text in invalid:
        if text not in _reported_members and len(_reported_members) < _MAX_REPORTED_MEMBERS:
            _reported_members.add(text)
            logger.warning("a member of a response has an unexpected type and counts as missing: %s", text)


def unstructure(value: object) -> Any:
    """Convert a model to plain JSON data under its field names, which are the API's for an `Execution`."""
    return converter.unstructure(value)
