"""The list dialects of the platform, as data.

Harness has grown several ways to page a list. They differ in the names of the parameters, the number of the first page,
the sizes allowed, and in where rows, totals and the scope are. Sources: apidocs.harness.io, and the public code of the
platform for sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias, get_args

from attrs import Attribute, evolve, field, frozen

from harness_async.validation import check_choice, check_int, check_text

DialectName: TypeAlias = Literal["iacm", "v1", "v1_large", "ng", "ng_page", "pipeline"]
Scope: TypeAlias = Literal["path", "query"]


def _is_text(_: object, attribute: Attribute[str], value: object) -> None:
    check_text(attribute.name, value)


def _is_path(_: object, attribute: Attribute[str], value: object) -> None:
    if value != "":
        check_text(attribute.name, value)


def _is_position(_: object, attribute: Attribute[int | None], value: object) -> None:
    if value is not None:
        check_int(attribute.name, value, 1)


@frozen(kw_only=True)
class Dialect:
    """How a list is paged.

    Attributes:
        page: The parameter with the page number.
        size: The parameter with the page size.
        first_page: Number of the first page.
        default_limit: Page size where the caller gives none.
        max_limit: The largest page size.
        rows: Dotted path of the rows in the body; "" where the body is the array.
        total_items: Dotted path of the total of items in the body. Where it is missing, the headers of both
            families are read.
        total_pages: Dotted path of the total of pages in the body.
        scope: Where organization and project are: in the path, or as `accountIdentifier`, `orgIdentifier` and
            `projectIdentifier` in the query.
        ceiling: Position behind which the server refuses rows; None where there is no such limit.

    Raises:
        TypeError: A value has the wrong type.
        ValueError: A value is out of range.
    """

    page: str = field(default="page", validator=_is_text)
    size: str = field(default="limit", validator=_is_text)
    first_page: int = field(default=0, validator=lambda _i, _a, value: check_int("first_page", value, 0))
    default_limit: int = field(default=100, validator=lambda _i, _a, value: check_int("default_limit", value, 1))
    max_limit: int = field(default=100, validator=lambda _i, _a, value: check_int("max_limit", value, 1))
    rows: str = field(default="", validator=_is_path)
    total_items: str = field(default="", validator=_is_path)
    total_pages: str = field(default="", validator=_is_path)
    scope: Scope = field(default="path", validator=lambda _i, _a, value: check_choice("scope", value, get_args(Scope)))
    ceiling: int | None = field(default=None, validator=_is_position)


_NG = Dialect(
    page="pageIndex",
    size="pageSize",
    scope="query",
    rows="data.content",
    total_items="data.totalItems",
    total_pages="data.totalPages",
)

DIALECTS: Mapping[DialectName, Dialect] = {
    "iacm": Dialect(first_page=1),
    "v1": Dialect(),
    "v1_large": Dialect(max_limit=1000),
    "ng": _NG,
    "ng_page": evolve(_NG, page="page", size="size", max_limit=1000),
    "pipeline": Dialect(
        size="size",
        max_limit=1000,
        scope="query",
        rows="data.content",
        total_items="data.totalElements",
        total_pages="data.totalPages",
        ceiling=10_000,
    ),
}
"""The dialects by name."""

_PREFIXES: Mapping[str, DialectName] = {"/iacm/": "iacm", "/v1/": "v1", "/ng/api/": "ng", "/pipeline/api/": "pipeline"}


def resolve_dialect(path: str, dialect: DialectName | Dialect | None, first_page: int | None) -> Dialect:
    """Return the dialect of a list: the one given, else that of its path.

    Raises:
        TypeError: `dialect` is neither a name nor a `Dialect`.
        ValueError: The name is not known, or the path belongs to no dialect.
    """
    if isinstance(dialect, Dialect):
        return dialect
    if dialect is not None:
        if not isinstance(dialect, str):
            raise TypeError(f"dialect must be a name or a Dialect, not {type(dialect).__name__}")
        check_choice("dialect", dialect, get_args(DialectName))
        return DIALECTS[dialect]
    for prefix, name in _PREFIXES.items():
        if path.startswith(prefix) or f"/gateway{prefix}" in path:
            return DIALECTS[name]
    if first_page is not None:
        return Dialect(first_page=first_page)
    names = ", ".join(map(repr, get_args(DialectName)))
    raise ValueError(f"the paging of {path!r} is not known: pass dialect (one of {names}, or a Dialect) or first_page")
