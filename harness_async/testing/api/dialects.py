"""The list dialects of the platform, described as data: paging, sorting, scope, and the place of rows and totals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import attrs

from harness_async.testing.api.call import enveloped
from harness_async.testing.data.account import Totals
from harness_async.testing.responses import Json


@attrs.frozen
class Page:
    """The page that a request selects."""

    first: int
    """The number of the first page of the dialect."""
    number: int
    size: int
    """The size in effect."""
    reported: int
    """The size in headers and bodies."""

    @property
    def index(self) -> int:
        """The number of the page, counted from 0."""
        return self.number - self.first

    @property
    def start(self) -> int:
        """The position of the first row. It follows from the size in effect, so no row is lost between two pages."""
        return self.index * self.size

    def count(self, total: int) -> int:
        """Return the number of pages."""
        return -(-total // self.reported)


Layout = Callable[[Page, Sequence[Json], int, Totals], tuple[object, dict[str, str]]]
"""Arranges rows and their total in a body and headers."""


@attrs.frozen(eq=False)
class Dialect:
    """The conventions that a family of lists shares."""

    page: str
    """The parameter for the page number."""
    size: str
    """The parameter for the page size."""
    first: int
    """The number of the first page."""
    layout: Layout
    scope: Literal["path", "query"] = "path"
    """Whether organization and project are in the path or in the query."""
    sort: str | None = None
    """The parameter for the sort order: `member,ASC`, or a member if there is `order`."""
    order: str | None = None
    """The parameter for the direction, where it is separate."""


def array_iacm(page: Page, rows: Sequence[Json], total: int, totals: Totals) -> tuple[object, dict[str, str]]:
    """Return an array with the headers of IaCM. They contain no page number.

    The option `totals` selects other headers. Both families share the header for the page size.
    """
    iacm = {
        "x-page-size": str(page.reported),
        "x-total-items": str(total),
        "x-total-pages": str(page.count(total)),
    }
    match totals:
        case "iacm":
            return rows, iacm
        case "v1":
            return array_v1(page, rows, total, totals)
        case "both":
            _, headers = array_v1(page, rows, total, totals)
            del headers["X-Page-Size"]
            return rows, iacm | headers
        case "none":
            return rows, {}


def array_v1(page: Page, rows: Sequence[Json], total: int, totals: Totals) -> tuple[object, dict[str, str]]:
    """Return an array with the headers of v1. The page number counts from 0 in every dialect."""
    if totals == "none":
        return rows, {}
    return rows, {
        "X-Total-Elements": str(total),
        "X-Page-Number": str(page.index),
        "X-Page-Size": str(page.reported),
    }


def ng_page(page: Page, rows: Sequence[Json], total: int, totals: Totals) -> tuple[object, dict[str, str]]:
    """Return the page object of ng manager and audit."""
    counts = {} if totals == "none" else {"totalPages": page.count(total), "totalItems": total}
    body = counts | {
        "pageItemCount": len(rows),
        "pageSize": page.reported,
        "content": rows,
        "pageIndex": page.index,
        "empty": not rows,
        "pageToken": None,
    }
    return enveloped(body), {}


def spring_page(page: Page, rows: Sequence[Json], total: int, totals: Totals) -> tuple[object, dict[str, str]]:
    """Return the page object of the pipeline service."""
    counts: dict[str, Any] = {
        "totalElements": total,
        "totalPages": page.count(total),
        "last": page.start + len(rows) >= total,
    }
    sort = {"sorted": True, "unsorted": False, "empty": False}
    body = {
        "content": rows,
        "pageable": {
            "sort": sort,
            "offset": page.start,
            "pageNumber": page.index,
            "pageSize": page.reported,
            "paged": True,
            "unpaged": False,
        },
        **({} if totals == "none" else counts),
        "size": page.reported,
        "number": page.index,
        "sort": sort,
        "first": page.index == 0,
        "numberOfElements": len(rows),
        "empty": not rows,
    }
    return enveloped(body), {}


def object_page(member: str) -> Layout:
    """Return the layout of an object with the rows in a member and the totals next to it."""

    def layout(page: Page, rows: Sequence[Json], total: int, totals: Totals) -> tuple[object, dict[str, str]]:
        counts = {"pageSize": page.reported, "totalItems": total, "totalPages": page.count(total)}
        return {**({} if totals == "none" else counts), member: rows}, {}

    return layout


IACM: Final = Dialect("page", "limit", 1, array_iacm, sort="sort")
V1: Final = Dialect("page", "limit", 0, array_v1, sort="sort", order="order")
NG: Final = Dialect("pageIndex", "pageSize", 0, ng_page, "query", sort="sortOrders")
NG_PAGE: Final = Dialect("page", "size", 0, ng_page, "query", sort="sort")
PIPELINE: Final = Dialect("page", "size", 0, spring_page, "query", sort="sort")
