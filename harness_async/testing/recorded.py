"""What came in: one object per request, whole, for tests to look at."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping


@attrs.define
class RecordedRequest:
    """One request as it arrived, and the status it was answered with."""

    method: str
    """The verb, in upper case."""
    path: str
    """The path still percent-encoded, with the server's prefix and without the query."""
    query_string: str
    """The query still percent-encoded, without its question mark."""
    headers: Mapping[str, str] = attrs.field(repr=False)
    """The headers; names are looked up in any case."""
    body: bytes
    """The body, empty when there was none."""
    status: int | None = None
    """The status answered, None as long as nothing was and when the connection was dropped instead."""

    @property
    def query(self) -> dict[str, list[str]]:
        """The decoded query: each name with its values in the order they came."""
        return parse_qs(self.query_string, keep_blank_values=True)

    @property
    def json(self) -> Any:
        """The decoded body; ValueError when it is not JSON."""
        return json.loads(self.body)
