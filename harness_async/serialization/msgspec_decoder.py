"""Optional decoding of rows in C, by msgspec (extra `speed`).

msgspec is used for the library's own row classes. It fills attrs classes directly and never converts a value to
another type, so whatever it accepts, cattrs accepts with the same result. Whatever it refuses is left to cattrs, which
accepts it (null for a default, a byte order mark) or names the place that does not fit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")

RowsDecoder: TypeAlias = Callable[[bytes], list[T]]


@cache
def create_rows_decoder(cls: type[Any]) -> RowsDecoder[Any] | None:
    """Create the decoder of a JSON array of an attrs class; None where msgspec is not installed."""
    try:
        import msgspec
    except ImportError:
        return None
    rows: Any = list[cls]  # type: ignore[valid-type]
    return msgspec.json.Decoder(rows).decode
