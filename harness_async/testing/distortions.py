"""Faults that change the content of a response: headers, totals, members, and the rows of a page."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, TypeAlias

import attrs

from harness_async.testing.faults import Fault
from harness_async.testing.responses import JSON, FakeResponse, encode_json

_ITEMS = ("x-total-items", "x-total-elements", "totalItems", "totalElements")
_PAGES = ("x-total-pages", "totalPages")
_SIZES = ("x-page-size", "pageSize", "size")


class _Unchanged:
    """The default of `Totals`: leaves the value unchanged."""

    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED: Final = _Unchanged()
_Total: TypeAlias = "str | int | _Unchanged | None"


@attrs.frozen
class ChangeResponse(Fault):
    """Changes the regular response by a function."""

    function: Callable[[FakeResponse], FakeResponse]

    def apply(self, response: FakeResponse) -> FakeResponse:
        """Call the function."""
        return self.function(response)


@attrs.frozen
class ChangeJson(Fault):
    """Changes the decoded body of the regular response by a function. It returns the new body."""

    function: Callable[[Any], Any]

    def apply(self, response: FakeResponse) -> FakeResponse:
        """Call the function, if the body is JSON."""
        return _change_json(response, self.function)


@attrs.frozen
class Headers(Fault):
    """Adds headers to the regular response, such as `Date`, `Age`, or a very long one. None removes a header."""

    headers: Mapping[str, str | None]

    def apply(self, response: FakeResponse) -> FakeResponse:
        """Replace the headers, whose names are compared without regard to case."""
        replaced = {name.lower() for name in self.headers}
        kept = {name: text for name, text in response.headers.items() if name.lower() not in replaced}
        added = {name: text for name, text in self.headers.items() if text is not None}
        return attrs.evolve(response, headers=kept | added)


@attrs.frozen
class Nulls(Fault):
    """Sets all members with the given names to null, at any depth."""

    names: Collection[str]

    def apply(self, response: FakeResponse) -> FakeResponse:
        """Replace the members."""
        return _change_json(response, self._without)

    def _without(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: None if name in self.names else self._without(inner) for name, inner in value.items()}
        return [self._without(item) for item in value] if isinstance(value, list) else value


@attrs.frozen
class Totals(Fault):
    """Overrides the totals in headers and bodies with any text or number, or removes them (None)."""

    items: _Total = attrs.field(default=UNCHANGED, kw_only=True)
    pages: _Total = attrs.field(default=UNCHANGED, kw_only=True)
    size: _Total = attrs.field(default=UNCHANGED, kw_only=True)

    def apply(self, response: FakeResponse) -> FakeResponse:
        """Override the totals that the response has."""
        new: dict[str, _Total] = {
            **dict.fromkeys(_ITEMS, self.items),
            **dict.fromkeys(_PAGES, self.pages),
            **dict.fromkeys(_SIZES, self.size),
        }
        headers: dict[str, str] = {}
        for name, text in response.headers.items():
            value = new.get(name.lower(), UNCHANGED)
            if value is not None:
                headers[name] = text if isinstance(value, _Unchanged) else str(value)
        return _change_json(attrs.evolve(response, headers=headers), lambda body: _override(body, new))


@attrs.frozen
class PageTotals(Fault):
    """Reports the number of rows of the page as the total, as some services and clients do."""

    def apply(self, response: FakeResponse) -> FakeResponse:
        """Override the totals that the response has."""
        rows = _rows(_decode(response))
        return response if rows is None else Totals(items=len(rows), pages=1).apply(response)


@attrs.frozen
class SamePage(Fault):
    """Ignores the page number: every request gets the first page, with *shuffled* in random order."""

    shuffled: bool = False

    @property
    def ignore_page(self) -> bool:
        """Whether a list returns its first page for every page number."""
        return True

    @property
    def shuffle(self) -> bool:
        """Whether the rows of a page come in random order."""
        return self.shuffled


def _decode(response: FakeResponse) -> Any:
    """Return the decoded body, None if it is not JSON."""
    try:
        return json.loads(response.body) if response.content_type == JSON else None
    except ValueError:
        return None


def _change_json(response: FakeResponse, function: Callable[[Any], Any]) -> FakeResponse:
    body = _decode(response)
    return response if body is None else attrs.evolve(response, body=encode_json(function(body)))


def _page_object(body: Any) -> dict[str, Any] | None:
    """Return the object that holds the totals of a list, None if there is none."""
    inner = body.get("data", body) if isinstance(body, dict) else None
    return inner if isinstance(inner, dict) and not inner.keys().isdisjoint({*_ITEMS, *_PAGES}) else None


def _rows(body: Any) -> list[Any] | None:
    if isinstance(body, list):
        return body
    page = _page_object(body) or {}
    return next((page[name] for name in ("content", "workspaces") if name in page), None)


def _override(body: Any, new: Mapping[str, _Total]) -> Any:
    page = _page_object(body)
    for name in list(page or ()):
        value = new.get(name, UNCHANGED)
        if page is None or isinstance(value, _Unchanged):
            continue
        if value is None:
            del page[name]
        else:
            page[name] = value
    return body
