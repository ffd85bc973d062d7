"""What every list does alike: read the query strictly, cut a page, tell the totals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from harness_async.testing.responses import FakeResponse, HTTPError, encode_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from harness_async.testing.account import Account
    from harness_async.testing.recorded import RecordedRequest
    from harness_async.testing.responses import Json

DEFAULT_LIMIT = 30
MAX_LIMIT = 100
MAX_INTEGER = 2**63 - 1  # the parameters are declared int64


@attrs.frozen
class Call:
    """One request on its way to its answer."""

    account: Account
    request: RecordedRequest
    refuse: Callable[[int, str], FakeResponse]
    """Makes an error in the envelope of the part of the API that was asked."""
    clip: int | None = None
    """Rows a page may hold at most, None for as many as asked."""

    def refused(self, status: int, message: str) -> HTTPError:
        """Make the error that ends the handling with that status."""
        return HTTPError(self.refuse(status, message))


@attrs.frozen
class PageRequest:
    """Which rows are asked for."""

    first: int
    """The number of the first page: 1 on IaCM, 0 on v1."""
    number: int
    size: int
    """The page size in effect, after clipping."""

    @property
    def start(self) -> int:
        """The index of the first row; the stride is the clipped size, so no row falls between two pages."""
        return (self.number - self.first) * self.size


class Query:
    """The query of a request; unknown names are refused, as are single values given twice."""

    def __init__(self, call: Call, single: Iterable[str], repeated: Iterable[str] = ()) -> None:
        self._call = call
        self._values = call.request.query
        single, repeated = set(single), set(repeated)
        for name, values in self._values.items():
            if name not in single | repeated:
                raise call.refused(400, f"{name} is not a parameter of this operation")
            if name in single and len(values) > 1:
                raise call.refused(400, f"{name} is given {len(values)} times")

    def text(self, name: str) -> str | None:
        """Read a single value, None when it is absent."""
        return self._values.get(name, [None])[0]

    def texts(self, name: str) -> list[str]:
        """Read a repeated value, empty when it is absent."""
        return self._values.get(name, [])

    def choice(self, name: str, choices: Sequence[str]) -> str | None:
        """Read a value that must be one of the choices."""
        text = self.text(name)
        if text is not None and text not in choices:
            raise self._call.refused(400, f"{name} must be one of {', '.join(choices)} but got value {text!r}")
        return text

    def integer(self, name: str, *, least: int, most: int = MAX_INTEGER) -> int | None:
        """Read a whole number between the bounds."""
        text = self.text(name)
        if text is None:
            return None
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= len(str(MAX_INTEGER))):
            raise self._call.refused(400, f"{name} must be an integer but got value {text!r}")
        value = int(text)
        if value < least:
            raise self._call.refused(400, f"{name} must be greater or equal than {least} but got value {value}")
        if value > most:
            raise self._call.refused(400, f"{name} must be lesser or equal than {most} but got value {value}")
        return value

    def page(self, first: int) -> PageRequest:
        """Read `page` and `limit`; *first* is the number of the first page."""
        number = self.integer("page", least=first)
        limit = self.integer("limit", least=1, most=MAX_LIMIT) or DEFAULT_LIMIT
        size = min(limit, self._call.clip or limit, self._call.account.max_page_size or limit)
        return PageRequest(first, first if number is None else number, size)


def build_page(
    call: Call,
    page: PageRequest,
    total: int,
    rows: Callable[[int, int], Sequence[Json]],
    headers: dict[str, str],
) -> FakeResponse:
    """Return one page of a list; *rows* is asked for its slice after the hook between count and rows."""
    account = call.account
    if account.between_count_and_rows is not None:
        account.between_count_and_rows(call.request)
    beyond = page.number > page.first and page.start >= total
    if beyond and account.past_end != "empty":
        raise call.refused(account.past_end, f"page {page.number} is beyond the last page")
    return FakeResponse(200, encode_json(rows(page.start, page.start + page.size)), headers=headers)


def iacm_headers(page: PageRequest, total: int) -> dict[str, str]:
    """Tell the totals under IaCM's names: no page number among them."""
    return {
        "x-page-size": str(page.size),
        "x-total-items": str(total),
        "x-total-pages": str(-(-total // page.size)),
    }


def v1_headers(page: PageRequest, total: int) -> dict[str, str]:
    """Tell the totals under v1's names: the page number counts from 0 wherever `page` counts from."""
    return {
        "X-Total-Elements": str(total),
        "X-Page-Number": str(page.number - page.first),
        "X-Page-Size": str(page.size),
    }
