"""Rows of a list response: decoded in C by msgspec where the extra `speed` is installed, by cattrs otherwise.

msgspec is used for the library's own row classes. It fills attrs classes directly and never converts a value to
another type, so whatever it accepts, cattrs accepts with the same result. Whatever it refuses is left to cattrs, which
accepts it (null for a default, a byte order mark) or names the place that does not fit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from harness_async.serialization.converters import parse_json, structure_rows

T = TypeVar("T")

Decode = Callable[[bytes], list[T]]


@cache
def fast_decoder(cls: type[Any]) -> Decode[Any] | None:
    """Create the msgspec decoder of an attrs class; None where msgspec is not installed."""
    try:
        import msgspec
    except ImportError:
        return None
    return msgspec.json.Decoder(list[cls]).decode  # type: ignore[valid-type]


def decode_rows(body: bytes, cls: type[T], fast: Decode[T] | None = None) -> list[T]:
    """Decode the body of a list into rows; null counts as empty. Rows of `dict` stay as they are.

    Raises:
        ValueError: The body is not JSON.
        DecodeError: It is not an array, or a row does not fit; `path` names the place.
    """
    if fast is not None:
        try:
            return fast(body)
        except Exception:  # noqa: BLE001, S110 - cattrs decides
            pass
    return structure_rows(parse_json(body), cls)
