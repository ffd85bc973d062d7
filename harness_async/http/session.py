"""The session: what resources call. It makes requests of endpoints, rows of answers, and sources of lists."""

from __future__ import annotations

import json as jsonlib
import re
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, cast
from urllib.parse import quote

from attrs import define, field, frozen
from yarl import URL

from harness_async import events
from harness_async.config import RetryPolicy, Timeouts
from harness_async.errors import Attempt, NotFoundError, UnexpectedResponseError
from harness_async.http.protocol import (
    Endpoint,
    Headers,
    QueryValue,
    ServerClock,
    build_query,
    join_target,
    looks_like_html,
    merge_headers,
    read_totals,
)
from harness_async.http.sender import Sender
from harness_async.http.transport import RawResponse, Request
from harness_async.pagination.pager import FetchedPage
from harness_async.pagination.strategy import TimeWindow
from harness_async.serialization.converters import parse_json, structure
from harness_async.serialization.msgspec_decoder import Decode, decode_rows, fast_decoder

T = TypeVar("T")

_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_METHODS = _REPEATABLE | {"POST", "PATCH"}
_OWN_HEADERS = frozenset({"x-api-key", "harness-account", "host", "content-length", "transfer-encoding"})


@frozen(kw_only=True)
class Response:
    """An answer of the API to `HarnessClient.request`."""

    status: int
    headers: Headers
    body: bytes = field(repr=lambda body: f"<{len(body)} bytes>")
    attempts: tuple[Attempt, ...]

    def json(self) -> Any:
        """Parse the body.

        Raises:
            UnexpectedResponseError: It is not JSON.
        """
        try:
            return parse_json(self.body)
        except ValueError as error:
            message = f"The answer is not JSON: {error}"
        # Without its cause, which holds the whole body.
        raise UnexpectedResponseError(message, attempts=self.attempts, status=self.status)


class Session:
    """Makes calls of endpoints. Safe for any number of tasks of one loop."""

    def __init__(self, base_url: URL, sender: Sender) -> None:
        self.base_url = base_url
        self.sender = sender
        self.origin: URL = base_url.origin()
        self.headers: Mapping[str, str] = {
            "Accept": "application/json",
            "x-api-key": sender.credentials.api_key,
            "Harness-Account": sender.credentials.account_id,
        }

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.base_url} account={self.sender.credentials.account_id!r}>"

    def with_options(
        self,
        timeouts: Timeouts | None,
        retry: RetryPolicy | None,
        on_event: Callable[[events.Event], None] | None,
    ) -> Session:
        """Make a session with other options over the same connections, pacer, key and counters."""
        return Session(self.base_url, self.sender.with_options(timeouts, retry, on_event))

    async def fetch(
        self,
        endpoint: Endpoint,
        cls: type[T],
        *,
        json: object = None,
        deadline: float | None = None,
        **identifiers: str,
    ) -> T:
        """Call an endpoint that answers with one object, and make a model of it."""
        request = self._request(endpoint, endpoint.format(**identifiers), json=json)
        answer = await self.sender.send(
            request, lambda reply: structure(parse_json(reply.body), cls), deadline=deadline
        )
        return answer.value

    async def delete(self, endpoint: Endpoint, cls: type[T], **identifiers: str) -> T | None:
        """Delete an object and return it as the server gives it; None where it gives nothing.

        A delete whose answer was lost is sent again; that it then finds nothing means that the first one worked.
        """
        request = self._request(endpoint, endpoint.format(**identifiers))

        def decode(reply: RawResponse) -> T | None:
            return structure(parse_json(reply.body), cls) if reply.body.strip() else None

        try:
            return (await self.sender.send(request, decode)).value
        except NotFoundError as error:
            if error.ambiguous:
                return None
            raise

    def source(
        self,
        endpoint: Endpoint,
        cls: type[T],
        params: Mapping[str, QueryValue],
        *,
        finish: Callable[[T], T] | None = None,
        fast: bool = False,
        **identifiers: str,
    ) -> PageSource[T]:
        """Make the source of a list, checking its arguments now rather than at the first page.

        `finish` completes each row from what the request knows.
        """
        decoder = cast("Decode[T]", fast_decoder(cls)) if fast else None  # type: ignore[arg-type]
        return PageSource(self, endpoint.format(**identifiers), params, cls, endpoint.first_page, finish, decoder)

    def raw_source(self, path: str, cls: type[T], params: Mapping[str, QueryValue], first_page: int) -> PageSource[T]:
        """Make the source of any page-numbered list of the platform."""
        if not {"page", "limit"}.isdisjoint(params):
            raise ValueError("params must not have page or limit: the pager sets them (first_page, limit)")
        return PageSource(self, check_path(path), params, cls, check_first_page(first_page))

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, QueryValue] | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool | None = None,
    ) -> Response:
        """Call any endpoint; see `HarnessClient.request`."""
        method = check_method(method)
        endpoint = Endpoint(method, "", repeatable=method in _REPEATABLE if repeatable is None else repeatable)
        request = self._request(endpoint, check_path(path), query=build_query(params or {}), json=json, headers=headers)
        answer = await self.sender.send(request, _read_body)
        return Response(
            status=answer.reply.status,
            headers=Headers(answer.reply.headers),
            body=answer.value,
            attempts=tuple(answer.attempts),
        )

    def _request(
        self,
        endpoint: Endpoint,
        path: str,
        *,
        query: str = "",
        json: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Request:
        sent = merge_headers(self.headers, check_headers(headers)) if headers else self.headers
        body = None
        if json is not None:
            body = jsonlib.dumps(json, allow_nan=False, separators=(",", ":")).encode()
            sent = merge_headers(sent, {"Content-Type": "application/json"})
        target = join_target(self.base_url, path, query)
        url = URL(f"{self.origin}{target}", encoded=True)
        return Request(endpoint.method, url, sent, body, endpoint.repeatable)


@define(eq=False)
class PageSource(Generic[T]):
    """A list that can be asked for its pages."""

    _session: Session = field(repr=False)
    path: str
    params: Mapping[str, QueryValue]
    cls: type[T] = field(repr=False)
    first_page: int = field(repr=False)
    finish: Callable[[T], T] | None = field(default=None, repr=False)
    _encoded: tuple[TimeWindow | None, str] = field(
        init=False, repr=False
    )  # the last query: pages of a window share it
    _target: str = field(init=False, repr=False)
    fast: Decode[T] | None = field(default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        self._encoded = (None, _encode(self.params))
        self._target = join_target(self._session.base_url, self.path)

    def query_of(self, bounds: TimeWindow | None) -> str:
        """Encode the parameters, with a window in place of the caller's if there is one, to follow others."""
        if self._encoded[0] != bounds:
            window = {} if bounds is None else {"start_time": bounds[0], "end_time": bounds[1]}
            self._encoded = (bounds, _encode({**self.params, **window}))
        return self._encoded[1]

    @property
    def clock(self) -> ServerClock:
        """The server's clock, as far as it is known."""
        return self._session.sender.clock

    async def fetch(self, number: int, limit: int, bounds: TimeWindow | None = None) -> FetchedPage[T]:
        """Ask for one page."""
        session = self._session
        target = f"{self._target}?limit={limit}&page={number}{self.query_of(bounds)}"
        request = Request("GET", URL(f"{session.origin}{target}", encoded=True), session.headers)
        answer = await session.sender.send(request, self._decode)
        rows = answer.value if self.finish is None else [self.finish(row) for row in answer.value]
        totals = read_totals(answer.reply.headers)
        session.sender.count_page(request, number, len(rows), totals.items)
        return FetchedPage(items=rows, totals=totals, requests=len(answer.attempts))

    def _decode(self, reply: RawResponse) -> list[T]:
        return decode_rows(reply.body, self.cls, self.fast)


def _encode(params: Mapping[str, QueryValue]) -> str:
    query = build_query(params)
    return f"&{query}" if query else ""


def _read_body(reply: RawResponse) -> bytes:
    if looks_like_html(reply.headers, reply.body):
        raise ValueError("HTML")
    return reply.body


def check_method(method: object) -> str:
    """Return an HTTP method in upper case, or raise `ValueError`."""
    if not isinstance(method, str) or method.upper() not in _METHODS:
        raise ValueError(f"method must be one of {', '.join(sorted(_METHODS))}, not {method!r}")
    return method.upper()


def check_first_page(number: object) -> int:
    """Return the number of a first page, 0 or 1, or raise `ValueError`."""
    if isinstance(number, bool) or number not in {0, 1}:
        raise ValueError(f"first_page must be 0 or 1, not {number!r}")
    return 1 if number else 0


def check_path(path: object) -> str:
    """Return a path of the API, encoded where it needs to be, or say what is wrong with it.

    Percent-encoded parts are left as they are: identifiers with odd characters come encoded from the caller.

    Raises:
        TypeError: It is not text.
        ValueError: It does not begin with one slash, has a query or fragment, or climbs.
    """
    if not isinstance(path, str):
        raise TypeError(f"path must be a str, not {type(path).__name__}")
    if not path.startswith("/") or path.startswith("//"):
        raise ValueError(f"path must begin with one slash and no host, as in '/v1/orgs', not {path!r}")
    if "?" in path or "#" in path or "\\" in path:
        raise ValueError(f"path must have no query, fragment or backslash (use params), not {path!r}")
    if any(part.lower().replace("%2e", ".") in {".", ".."} for part in path.split("/")):
        raise ValueError(f"path must not climb with '.' or '..', not {path!r}")
    return quote(path, safe="/%:@!$&'()*+,;=~")


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return extra headers, or raise `ValueError` for those that are ours to set and those that break the request."""
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError("headers must map names to texts")
        if name.lower() in _OWN_HEADERS:
            raise ValueError(f"header {name} is set by the client; leave it out")
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or re.search(r"[\r\n\0]", value):
            raise ValueError(f"header {name!r} has a name or a value that no header can carry")
    return dict(headers)
