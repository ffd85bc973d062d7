"""Endpoints as data, and the parts of a request: paths, query strings, headers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from string import Formatter
from typing import TypeAlias
from urllib.parse import quote, urlencode

from attrs import field, frozen

from harness_async.validation import check_identifier

QueryValue: TypeAlias = str | int | float | bool | Sequence[str] | None


@frozen
class Endpoint:
    """One operation of the API. Declared at import and shared freely.

    `path` names its identifiers in braces; each becomes one percent-encoded segment.
    """

    method: str
    path: str
    repeatable: bool = field(default=True, kw_only=True)
    """Whether sending the request twice has the same effect as sending it once."""

    _parts: tuple[tuple[str, str | None], ...] = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        parts = tuple((text, name) for text, name, _, _ in Formatter().parse(self.path))
        object.__setattr__(self, "_parts", parts)

    def path_for(self, **identifiers: str) -> str:
        """Return the encoded path with these identifiers.

        Raises:
            TypeError: An identifier is not a str.
            ValueError: An identifier cannot stand in a path.
        """
        path = ""
        for text, name in self._parts:
            path += text if name is None else text + quote(check_identifier(name, identifiers[name]), safe="")
        return path


def build_query(params: Mapping[str, QueryValue]) -> str:
    """Encode a query string: None is left out, a sequence repeats its key, booleans are lower case.

    Raises:
        TypeError: A value has a type that no parameter has.
        ValueError: A text has a lone surrogate, which no encoding can carry.
    """
    pairs: list[tuple[str, str]] = []
    for name, value in params.items():
        if value is None:
            continue
        if isinstance(value, str):
            # A plain str even for a member of a str enum, whose str() may differ.
            pairs.append((name, str.__str__(value)))
        elif isinstance(value, bytes | Mapping) or not isinstance(value, Iterable):
            pairs.append((name, _as_text(name, value)))
        else:
            pairs.extend((name, _as_text(name, item)) for item in value)
    try:
        return urlencode(pairs, quote_via=quote, safe="")
    except UnicodeEncodeError:
        raise ValueError(f"the parameters {[name for name, _ in pairs]} have a lone surrogate") from None


def _as_text(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int | float):
        return str(value)
    raise TypeError(f"parameter {name} must be text, a number or a sequence of texts, not {type(value).__name__}")


def merge_headers(headers: Mapping[str, str], additional: Mapping[str, str]) -> dict[str, str]:
    """Return both sets of headers; additional ones replace those of the same name, in any case."""
    names = {name.lower() for name in additional}
    return {name: value for name, value in headers.items() if name.lower() not in names} | dict(additional)
