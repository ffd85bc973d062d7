"""Requests that the server received, recorded for tests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping


@attrs.define
class RecordedRequest:
    """A request as received, and the status of its response."""

    method: str
    """The method, in upper case."""
    path: str
    """The percent-encoded path, with the server's prefix and without the query."""
    query_string: str
    """The percent-encoded query, without the question mark."""
    headers: Mapping[str, str] = attrs.field(repr=False)
    """The headers. Names are case-insensitive."""
    body: bytes
    """The body, empty if there was none."""
    status: int | None = None
    """The status of the response, or None if none has been sent."""

    @property
    def query(self) -> dict[str, list[str]]:
        """The decoded query: each name with its values in order."""
        return parse_qs(self.query_string, keep_blank_values=True)

    @property
    def json(self) -> Any:
        """The decoded body. Raises ValueError if it is not JSON."""
        return json.loads(self.body)
