"""From the body of a list to rows: the fast way where a C decoder is installed (extra `speed`), the sure way without.

The sure way is `parse_json` and `structure_rows`; what it gives is right, errors included. The C decoder is tried first
on bodies and classes where its success means the same rows; whatever it refuses goes the sure way, which then takes it
(a byte order mark, null for a default, half of a surrogate pair) or says what is wrong. So it must never take what the
sure way refuses, and the only such bodies are those it skips through too lightly:

- Members that no field wants are not checked to be UTF-8. Bodies are, beforehand.
- They may be nested a little deeper than Python's parser can follow. A body of very many objects and arrays is not
  tried.

The decoder is msgspec, which fills attrs classes itself. For a page of 100 executions, the lowest of many runs on one
machine: 71 us, and 76 with the checks of the body; orjson takes 61 for dicts alone and 137 with rows made of them, and
Python's own parser 137 and 205. (`python -m benchmarks cpu` shows what that makes of a whole walk.) It has wheels for
every CPython that is maintained and no dependencies, and it keeps to the types that it is given: 1.0 is no int, and
true is not 1.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

import attrs

from harness_async.converters import (
    OWN_HOOKS,
    OpenEnum,
    converter,
    envelopes,
    parse_json,
    row_makers,
    structure_rows,
)

T = TypeVar("T")

_Decode: TypeAlias = Callable[[bytes], list[Any]]

_MAX_OPENINGS = 600
"""Objects and arrays in a body that is tried: below Python's depth of recursion (1,000), above a page's need (101)."""

_OLDEST = (0, 19)
"""The release of msgspec from which on it reads integers below -2**64 right; what the extra asks for."""

_decoders: dict[object, _Decode | None] = {}
"""What decodes lists, by the hook of their rows: who teaches the converter a class anew gets another hook."""


def rows_decoder(cls: type[T]) -> Callable[[bytes], list[T]]:
    """Choose the way to make rows of the bodies of a list; null counts as empty. Rows of `dict` stay as they are.

    What is returned raises `ValueError` for what is not JSON, and `DecodeError` for what is no list or has a row that
    does not fit, with the `path` of the place.
    """
    decode_in_c = _decoder_of(cls)

    def decode(body: bytes) -> list[T]:
        if decode_in_c is not None and _is_tame(body):
            try:
                return decode_in_c(body)
            except Exception:  # noqa: BLE001, S110 - whatever it is, the sure way decides
                pass
        return structure_rows(parse_json(body), cls)

    return decode


def _is_tame(body: bytes) -> bool:
    """Whether the C decoder's success with a body means that it is JSON to Python's parser as well."""
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError:
            return False
    # `replace` finds one byte several times as fast as `count`.
    return len(body) - len(body.replace(b"{", b"").replace(b"[", b"")) <= _MAX_OPENINGS


def _decoder_of(cls: type[Any]) -> _Decode | None:
    try:
        hook = dict if cls is dict else converter.get_structure_hook(cls)
        if hook not in _decoders:
            _decoders[hook] = _make_decoder(cls, hook)
        return _decoders[hook]
    except Exception:  # noqa: BLE001 - a class that cannot be made of JSON; the sure way says why
        return None


def _make_decoder(cls: type[Any], hook: Any) -> _Decode | None:
    decoder = _find_decoder()
    if decoder is None:
        return None
    if cls is dict:
        return decoder(list[dict[str, Any]])
    if hook in envelopes:
        envelope, unwrap = envelopes[hook]
        decode = _make_decoder(envelope, converter.get_structure_hook(envelope))
        return None if decode is None else lambda body: [unwrap(row) for row in decode(body)]
    return decoder(list[cls]) if _is_decodable(cls, frozenset()) else None  # type: ignore[valid-type]


@cache
def _find_decoder() -> Callable[[Any], _Decode] | None:
    try:
        import msgspec

        release = tuple(map(int, msgspec.__version__.split(".")[:2]))
        return (lambda kind: msgspec.json.Decoder(kind).decode) if release >= _OLDEST else None
    except Exception:  # noqa: BLE001 - not installed, or not in a state to be imported
        return None


def _is_decodable(kind: Any, holders: frozenset[type]) -> bool:
    """Whether the C decoder makes of JSON what the converter makes of it, or refuses."""
    if kind in OWN_HOOKS:
        return converter.get_structure_hook(kind) is OWN_HOOKS[kind]
    if isinstance(kind, enum.EnumMeta):
        own = converter.get_structure_hook(kind) is OWN_HOOKS[str]
        return own and issubclass(kind, OpenEnum) and all(type(word) is str for word in kind._value2member_map_)
    origin, inner = get_origin(kind), get_args(kind)
    if origin is list or (origin is tuple and inner[-1] is Ellipsis) or (origin is dict and inner[0] is str):
        return _is_decodable(inner[1 if origin is dict else 0], holders)
    if kind in holders:
        return True
    if not attrs.has(kind) or converter.get_structure_hook(kind) not in row_makers:  # not plain
        return False
    types = get_type_hints(kind)
    return all(
        types[field.name] == field.type and _is_decodable_field(field, holders | {kind}) for field in attrs.fields(kind)
    )


def _is_decodable_field(field: attrs.Attribute[Any], holders: frozenset[type]) -> bool:
    inner = get_args(field.type)
    if get_origin(field.type) in {Union, UnionType} and len(inner) == 2 and NoneType in inner:  # noqa: PLR2004
        # Null counts as left out, whatever the type says.
        return field.default is None and _is_decodable(inner[inner[0] is NoneType], holders)
    return _is_decodable(field.type, holders) and not isinstance(field.default, (list, dict))
