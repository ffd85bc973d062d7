"""List endpoints as sources of pages: what is requested, what comes back, and what a walk returns."""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, Generic, Protocol, TypeVar, get_args

from attrs import define, evolve, field, frozen
from yarl import URL

from harness_async.errors import DecodeError
from harness_async.http.endpoints import QueryValue, build_query
from harness_async.http.responses import check_error_body
from harness_async.http.session import Session
from harness_async.http.transport import RawResponse, Request, ServerClock
from harness_async.pagination.dialects import Dialect
from harness_async.serialization.converters import get_path, parse_json, structure_rows
from harness_async.serialization.msgspec_decoder import RowsDecoder
from harness_async.types import Consistency, Guarantee, TimeWindow
from harness_async.validation import check_choice, check_int

T = TypeVar("T")

_MAX_DIGITS = 18


@frozen(kw_only=True)
class Page(Generic[T]):
    """One page of a list, without the rows that an earlier page already delivered.

    Attributes:
        items: The rows.
        number: The number as the API counts: from 1 in IaCM, from 0 in v1.
        size: Rows of a full page, according to the server, else as requested.
        total_items: Rows of the whole list, where the server says so.
        total_pages: Pages of the whole list, where the server says so.
    """

    items: Sequence[T]
    number: int
    size: int
    total_items: int | None = None
    total_pages: int | None = None


@frozen(kw_only=True)
class WalkReport:
    """The cost of a walk, and what it guarantees.

    Attributes:
        guarantee: What is known about the rows that were delivered. `live`: the list was read as it was at each
            request. `exact`: the rows are the whole time window. `covered`: every row that stayed in the window was
            delivered; others may have left it. `seek`: the same, without relying on totals. `best_effort`: all rows
            that the server returned; whether they are complete is not known.
        requests: Requests sent, retries included.
        pages: Pages read.
        rows: Rows delivered.
        duplicates: Rows that were received again and not delivered again.
        window: Start and frozen end of the walk in milliseconds since 1970; None where nothing was frozen. The end
            is None where the server's time is not known.
        invalid_members: Members of rows that had an unexpected type and count as missing.
    """

    guarantee: Guarantee = "live"
    requests: int = 0
    pages: int = 0
    rows: int = 0
    duplicates: int = 0
    window: TimeWindow | None = None
    invalid_members: int = 0

    @property
    def consistency(self) -> Guarantee:
        """Deprecated alias of `guarantee`."""
        warnings.warn("WalkReport.consistency is deprecated; use guarantee", DeprecationWarning, stacklevel=2)
        return self.guarantee


@frozen(kw_only=True)
class ListEstimate:
    """The size of a list according to its first page."""

    rows: int | None
    """Total number of rows; None where the server does not report it."""

    requests: int
    """Requests that reading the list takes at least, the first page included."""


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

    invalid_members: int = 0
    """Members of rows that count as missing because of their type."""

    is_foreign: bool = False
    """Whether all rows belong to another scope than the one requested, also on a new connection."""


class PageSource(Protocol[T]):
    """A list endpoint that can be asked for pages."""

    first_page: int
    """Number of the first page."""

    clock: ServerClock
    """The server's clock."""

    @property
    def identity(self) -> object:
        """What is requested, as a value whose `repr` is the same for the same list."""
        ...

    def fetch(self, number: int, limit: int, window: TimeWindow | None = None, /) -> Awaitable[FetchedPage[T]]:
        """Fetch one page; `window` replaces the caller's time filters."""
        ...

    def decode(self, response: RawResponse) -> FetchedPage[T]:
        """Decode the response of an earlier `fetch` once more."""
        ...


@define(eq=False)
class LargestPage:
    """The page size of lists that request the largest page, until the server refuses or clips it.

    One for all lists of a kind that a client reads.
    """

    limit: int = 1000
    fallback: int = 100


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

    stable_order: bool = False
    """Whether new rows come last, and changes move no row."""

    limit: int = 100
    max_limit: int = 100
    largest_page: LargestPage | None = None
    """Replaces `limit`, and falls back to a smaller one where the server does not accept it."""

    ceiling: int | None = None
    """Position behind which the server refuses rows. A longer list is read by time windows."""

    prefetch: int = 0
    consistency: Consistency = "live"

    def __attrs_post_init__(self) -> None:
        check_int("limit", self.limit, 1, self.max_limit)
        check_int("prefetch", self.prefetch, 0)
        check_choice("consistency", self.consistency, get_args(Consistency))


def hash_by(key: Callable[[T], Hashable]) -> Callable[[Sequence[T]], Sequence[int]]:
    """Return a function that hashes the key of each row."""
    return lambda rows: [hash(key(row)) for row in rows]


@define(eq=False, kw_only=True)
class EndpointSource(Generic[T]):
    """A page-numbered list of the API. Safe for concurrent use by tasks of one loop."""

    _session: Session = field(alias="session", repr=False)
    path: str
    cls: type[T] = field(repr=False)
    dialect: Dialect = field(repr=False)
    params: Mapping[str, QueryValue] = field(factory=dict[str, QueryValue])
    method: str = field(default="GET", repr=False)
    json: Mapping[str, object] | None = None
    """The body of a list that is filtered by one."""

    apply_window: Callable[[TimeWindow], tuple[Mapping[str, QueryValue], Mapping[str, object]]] | None = field(
        default=None, repr=False
    )
    """Returns the query parameters and body members that select a time window; None: `start_time` and `end_time`."""

    context: Mapping[str, object] = field(factory=dict[str, object], repr=False)
    """Fields that complete a row where the server leaves them out."""

    is_own: Callable[[T], bool] | None = field(default=None, repr=False)
    """Whether a row belongs to the scope of the list. A page without any such row responds to another request."""

    decoder: RowsDecoder[T] | None = field(default=None, repr=False)
    """Decodes the rows of a plain array in C where it can."""

    first_page: int = field(init=False, repr=False)
    """Number of the first page."""

    clock: ServerClock = field(init=False, repr=False)
    """The server's clock."""

    _prepared: tuple[TimeWindow | None, str, bytes | None] = field(init=False, repr=False)
    """The query and body of the last window."""

    def __attrs_post_init__(self) -> None:
        self.first_page = self.dialect.first_page
        self.clock = self._session.sender.transport.clock
        self._prepared = self._prepare(None)

    @property
    def identity(self) -> object:
        """What is requested, as a value whose `repr` is the same for the same list."""
        return (self.method, self.path, self.dialect, *self._prepare(None)[1:])

    async def fetch(self, number: int, limit: int, window: TimeWindow | None = None) -> FetchedPage[T]:
        """Fetch one page; `window` replaces the caller's time filters.

        Raises:
            RequestError: The call failed.
        """
        if self._prepared[0] != window:
            self._prepared = self._prepare(window)
        _, query, body = self._prepared
        session, dialect = self._session, self.dialect
        url = URL(
            f"{session.prefix}{self.path}?{dialect.size}={limit}&{dialect.page}={number}{'&' if query else ''}{query}",
            encoded=True,
        )
        # The headers, which hold the key, are no variable of this frame, so that no traceback shows them.
        request = Request(self.method, url, session.headers if body is None else session.json_headers, body)
        result = await session.sender.send(request, self.decode)
        page, requests = result.value, result.requests
        if self.is_own is not None and page.items and not any(map(self.is_own, page.items)):
            # A response that arrives late on a kept-alive connection is taken for that of the next request.
            result = await session.sender.send(evolve(request, new_connection=True), self.decode)
            page, requests = result.value, requests + result.requests
            page.is_foreign = bool(page.items) and not any(map(self.is_own, page.items))
        page.requests = requests
        session.sender.record_page(url, number, len(page.items), page.totals.items)
        return page

    def _prepare(self, window: TimeWindow | None) -> tuple[TimeWindow | None, str, bytes | None]:
        params, body = self.params, self.json
        if window is not None and self.apply_window is not None:
            more, members = self.apply_window(window)
            params, body = {**params, **more}, {**(body or {}), **members}
        elif window is not None:
            params = {**params, "start_time": window.start, "end_time": window.end}
        return window, build_query(params), None if body is None else self._session.encode(body)

    def decode(self, response: RawResponse) -> FetchedPage[T]:
        """Decode a response.

        Raises:
            ValueError: The body is not JSON.
            DecodeError: The rows are not an array, or a row does not fit.
            ErrorBodyError: The body reports an error in spite of the status.
        """
        rows: list[T] | None = None
        invalid: Sequence[str] = ()
        content: Any = None
        if self.decoder is not None and not self.dialect.rows:
            with suppress(Exception):  # cattrs decides
                rows = self.decoder(response.body)
        if rows is None:
            content = parse_json(response.body)
            if isinstance(content, dict):
                check_error_body(content)
            found = get_path(content, self.dialect.rows)
            rows, invalid = structure_rows(found, self.cls, self.context, root=self.dialect.rows)
        get = response.headers.get
        totals = parse_page_totals(
            get("x-total-items"), get("X-Total-Elements"), get("x-total-pages"), get("x-page-size")
        )
        if content is not None:
            items = _read_count(content, self.dialect.total_items)
            pages = _read_count(content, self.dialect.total_pages)
            totals = PageTotals(
                totals.items if items is None else items, totals.pages if pages is None else pages, totals.size
            )
        return FetchedPage(items=rows, totals=totals, response=response, invalid_members=len(invalid))


def _read_count(content: object, path: str) -> int | None:
    """Return the count at a dotted path; None where there is none."""
    try:
        value = get_path(content, path)
    except DecodeError:
        return None
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**_MAX_DIGITS
    return value if is_count else None


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


def estimate_requests(spec: ListSpec[Any], first: FetchedPage[Any]) -> int:
    """Estimate from its first page how many requests a list takes, if nothing changes."""
    totals, count = first.totals, len(first.items)
    if not count:
        return 1
    largest = totals.size if totals.size and count <= totals.size < spec.limit else spec.limit
    page_size = largest if largest < spec.limit else min(spec.limit, count)
    seeks = spec.consistency == "strict" or (spec.consistency == "checked" and spec.volatile)
    if totals.items is None:
        requests = totals.pages if totals.pages is not None else 1 + (count == spec.limit)
    elif spec.created is not None and seeks:
        # A window begins with the last row of the one before, and one that is not full is the last.
        is_full = count == spec.limit or count < totals.items
        windows, rest = divmod(totals.items - 1, max(1, page_size - 1))
        # A last window that is full may hide rows, so another one follows.
        requests = windows + 1 + (not rest) if is_full else 1
    elif totals.items <= count < largest:
        requests = 1
    else:
        requests = totals.items // page_size + 1  # a full page is never the last one
    return max(1, requests)
