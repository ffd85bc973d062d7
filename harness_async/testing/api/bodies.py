"""Strict parsing of the bodies that filter lists.

The API ignores unknown members. Here they are rejected, because a misspelt filter would filter nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from harness_async.testing.api.query import Query


def check_object(query: Query, body: object, known: Collection[str]) -> dict[str, Any]:
    """Return the body, empty if there is none. Reject other types and members that are not known."""
    body = {} if body is None else body
    if not isinstance(body, dict):
        raise query.call.error(400, "the body must be an object", field="body")
    for name in body:
        if name not in known:
            raise query.call.error(400, f"{name} is not a filter of this list", field=name)
    return body


def array(query: Query, body: dict[str, Any], name: str, kind: type) -> list[Any]:
    """Return an array of the body, empty if it is absent. Reject other types and items of other types."""
    value = body.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, kind) for item in value):
        raise query.call.error(400, f"{name} must be an array of {kind.__name__}", field=name)
    return value


def choice(query: Query, body: dict[str, Any], name: str, choices: Collection[str]) -> str | None:
    """Return a string of the body that must be one of the choices, None if it is absent."""
    value = body.get(name)
    if value is not None and value not in choices:
        raise query.call.error(400, f"{name} must be one of {', '.join(choices)} but is {value!r}", field=name)
    return value


def integer(query: Query, body: dict[str, Any], name: str) -> int | None:
    """Return an integer of the body, None if it is absent."""
    value = body.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise query.call.error(400, f"{name} must be an integer but is {value!r}", field=name)
    return value
