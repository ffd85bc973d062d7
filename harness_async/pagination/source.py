"""List endpoints as sources of pages, and how a list is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Generic, Protocol, TypeVar, get_args

from attrs import define, field, frozen
from yarl import URL

from harness_async.http.endpoints import QueryValue, build_query
from harness_async.http.session import Session
from harness_async.http.transport import RawResponse, Request, ServerClock
from harness_async.serialization.converters import parse_json, structure_rows
from harness_async.serialization.msgspec_decoder import RowsDecoder
from harness_async.types import Consistency, TimeWindow
from harness_async.validation import check_choice, check_int, check_limit

T = TypeVar("T")

_MAX_DIGITS = 18


@frozen
class PageTotals:
    """The size of a list according to a response; None for what is missing or malformed."""

    items: int | None = None
    pages: int | None = None
    size: int | None = None
    """The page size in effect, which may be less than the requested limit."""


@define(kw_only=True, eq=False)
class FetchedPage(Generic[T]):
    """A page as the server returned it."""

    items: Sequence[T]
    totals: PageTotals
    response: RawResponse | None = None
    requests: int = 1
    """Requests sent for it, retries included."""


class PageSource(Protocol[T]):
    """A list endpoint that can be asked for pages."""

    @property
    def first_page(self) -> int:
        """Number of the first page."""
        ...

    @property
    def clock(self) -> ServerClock:
        """The server's clock."""
        ...

    def fetch(self, number: int, limit: int, window: TimeWindow | None = None) -> Awaitable[FetchedPage[T]]:
        """Fetch one page; `window` replaces the caller's time filters."""
        ...

    def decode(self, response: RawResponse) -> FetchedPage[T]:
        """Decode the response of an earlier `fetch` once more."""
        ...


@frozen(kw_only=True, eq=False)
class ListSpec(Generic[T]):
    """A list, and how it is read.

    Raises:
        ValueError: `limit`, `prefetch` or `consistency` cannot be used.
    """

    source: PageSource[T]
    hash_keys: Callable[[Sequence[T]], Sequence[int]] | None = None
    """Hashes the keys of rows; without it no duplicate is recognized. Among a million rows, two share a hash with a
    probability of 3 in 100 million."""

    created: Callable[[T], int] | None = None
    """Returns when a row was created, in milliseconds; without it only `live` is possible."""

    window: TimeWindow = field(default=TimeWindow())
    """The caller's own time filters, which `source` applies too."""

    volatile: bool = False
    """Whether a filter lets existing rows enter and leave the list, such as a filter by status."""

    limit: int = 100
    prefetch: int = 0
    consistency: Consistency = "live"

    def __attrs_post_init__(self) -> None:
        check_limit(self.limit)
        check_int("prefetch", self.prefetch, 0)
        check_choice("consistency", self.consistency, get_args(Consistency))


def hash_by(key: Callable[[T], Hashable]) -> Callable[[Sequence[T]], Sequence[int]]:
    """Return a function that hashes the key of each row."""
    return lambda rows: [hash(key(row)) for row in rows]


@define(eq=False)
class EndpointSource(Generic[T]):
    """A page-numbered list with the parameters `page` and `limit`. Safe for concurrent use by tasks of one loop."""

    _session: Session = field(repr=False)
    path: str
    cls: type[T] = field(repr=False)
    params: Mapping[str, QueryValue]
    first_page: int = field(default=1, repr=False)
    complete: Callable[[T], T] | None = field(default=None, repr=False)
    """Completes a row with what the request knows."""

    decoder: RowsDecoder[T] | None = field(default=None, repr=False)
    """Decodes rows in C where it can."""

    _query: tuple[TimeWindow | None, str] = field(init=False, repr=False)  # that of the last window

    def __attrs_post_init__(self) -> None:
        self._query = (None, build_query(self.params))

    @property
    def clock(self) -> ServerClock:
        """The server's clock."""
        return self._session.sender.transport.clock

    async def fetch(self, number: int, limit: int, window: TimeWindow | None = None) -> FetchedPage[T]:
        """Fetch one page; `window` replaces the caller's time filters.

        Raises:
            RequestError: The call failed.
        """
        if self._query[0] != window:
            filters = {} if window is None else {"start_time": window.start, "end_time": window.end}
            self._query = (window, build_query({**self.params, **filters}))
        session, query = self._session, self._query[1]
        url = URL(f"{session.prefix}{self.path}?limit={limit}&page={number}{'&' if query else ''}{query}", encoded=True)
        result = await session.sender.send(Request("GET", url, session.headers), self.decode)
        page = result.value
        page.requests = result.requests
        session.sender.record_page(url, number, len(page.items), page.totals.items)
        return page

    def decode(self, response: RawResponse) -> FetchedPage[T]:
        """Decode a response.

        Raises:
            ValueError: The body is not JSON.
            DecodeError: The body is not an array, or a row does not fit.
        """
        rows: list[T] | None = None
        if self.decoder is not None:
            with suppress(Exception):  # cattrs decides
                rows = self.decoder(response.body)
        if rows is None:
            rows = structure_rows(parse_json(response.body), self.cls)
        if self.complete is not None:
            rows = [self.complete(row) for row in rows]
        get = response.headers.get
        totals = parse_page_totals(
            get("x-total-items"), get("X-Total-Elements"), get("x-total-pages"), get("x-page-size")
        )
        return FetchedPage(items=rows, totals=totals, response=response)


@lru_cache(64)  # the pages of a list repeat the same totals
def parse_page_totals(items: str | None, elements: str | None, pages: str | None, size: str | None) -> PageTotals:
    """Parse the headers of both families: `x-total-items` of IaCM and `X-Total-Elements` of v1.

    `X-Page-Number` is ignored: its base (0 or 1) is not that of the `page` parameter.
    """
    total = _parse_count(items)
    return PageTotals(
        _parse_count(elements) if total is None else total, _parse_count(pages), _parse_count(size) or None
    )


def _parse_count(text: str | None) -> int | None:
    text = (text or "").strip()
    # isdecimal alone accepts digits of other scripts, and int() has a limit of digits.
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS else None
