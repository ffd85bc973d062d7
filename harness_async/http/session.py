"""The session: what resources call. It builds requests from endpoints and decodes single objects."""

from __future__ import annotations

import asyncio
import json as jsonlib
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from attrs import field, frozen
from yarl import URL

from harness_async import events
from harness_async.config import RetryPolicy, Timeouts
from harness_async.errors import Attempt, NotFoundError, UnexpectedResponseError
from harness_async.http.content_encoding import ACCEPT_ENCODING
from harness_async.http.endpoints import Endpoint, QueryValue, build_query, merge_headers
from harness_async.http.responses import Headers, check_error_body, is_html
from harness_async.http.sender import Sender
from harness_async.http.transport import RawResponse, Request
from harness_async.serialization.converters import get_path, parse_json, structure
from harness_async.validation import (
    REPEATABLE_METHODS,
    check_headers,
    check_method,
    check_path,
    check_seconds,
    check_text,
    check_type,
)

T = TypeVar("T")

_ERROR_STATUS = re.compile(rb'"status"\s*:\s*"(ERROR|FAILURE)"')


@frozen(kw_only=True)
class Response:
    """A response of the API to `HarnessClient.request`.

    Attributes:
        status: The status of the response.
        headers: Its header fields, by name in any case.
        body: Its body, decompressed.
        attempts: The attempts of the call.
    """

    status: int
    headers: Headers
    body: bytes = field(repr=lambda body: f"<{len(body)} bytes>")
    attempts: tuple[Attempt, ...]

    def json(self) -> Any:
        """Parse the body.

        Raises:
            UnexpectedResponseError: The body is not JSON.
        """
        try:
            return parse_json(self.body)
        except ValueError as error:
            message = f"The response is not JSON: {error}"
        # Without its cause, which holds the whole body.
        raise UnexpectedResponseError(message, attempts=self.attempts, status=self.status)


class Session:
    """One account behind one base URL. Safe for concurrent use by tasks of one loop."""

    def __init__(self, base_url: URL, sender: Sender) -> None:
        self.base_url = base_url
        self.sender = sender
        self.account_id: str = sender.credentials.account_id
        self.headers: Mapping[str, str] = {
            "Accept": "application/json",
            "Accept-Encoding": ACCEPT_ENCODING,
            "x-api-key": sender.credentials.api_key,
            "Harness-Account": sender.credentials.account_id,
        }
        self.json_headers: Mapping[str, str] = {**self.headers, "Content-Type": "application/json"}
        self.prefix: str = str(base_url).rstrip("/")
        """Scheme, host and path prefix of every URL."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.base_url} account={self.account_id!r}>"

    def with_options(
        self,
        timeouts: Timeouts | None,
        retry: RetryPolicy | None,
        on_event: Callable[[events.Event], None] | None,
    ) -> Session:
        """Return a session with other options over the same connections, pacer, key and counters."""
        return Session(self.base_url, self.sender.with_options(timeouts, retry, on_event))

    @staticmethod
    def encode(json: object) -> bytes | None:
        """Encode a body as JSON; None for None.

        Raises:
            TypeError: The value cannot be encoded.
            ValueError: It contains NaN, an infinity, or itself.
        """
        return None if json is None else jsonlib.dumps(json, allow_nan=False, separators=(",", ":")).encode()

    async def fetch(
        self,
        endpoint: Endpoint,
        cls: type[T],
        *,
        params: Mapping[str, QueryValue] | None = None,
        json: object = None,
        context: Mapping[str, object] | None = None,
        root: str = "",
        deadline: float | None = None,
        **identifiers: str,
    ) -> T:
        """Call an endpoint that returns one object, and structure it as a model.

        `context` completes fields that are missing in the response; `root` is the dotted path of the object in it.
        """
        query = build_query(params or {})
        body = self.encode(json)  # before the request exists, whose headers hold the key: it may raise
        request = self._build_request(endpoint, endpoint.path_for(**identifiers), body, query=query)
        if body is not None:
            request.headers = self.json_headers

        def decode(response: RawResponse) -> T:
            return structure(get_path(_parse_object(response), root), cls, context, root)

        return (await self.sender.send(request, decode, deadline=deadline)).value

    async def delete(
        self, endpoint: Endpoint, cls: type[T], *, context: Mapping[str, object] | None = None, **identifiers: str
    ) -> T | None:
        """Delete an object and return it as the server does; None where the server returns nothing.

        A delete whose response was lost is sent again. If the object is then missing, the first one succeeded.
        """
        request = self._build_request(endpoint, endpoint.path_for(**identifiers))

        def decode(response: RawResponse) -> T | None:
            return structure(_parse_object(response), cls, context) if response.body.strip() else None

        try:
            return (await self.sender.send(request, decode)).value
        except NotFoundError as error:
            if error.ambiguous:
                return None
            raise

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, QueryValue] | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the deadline of the call, which the sender applies
        repeatable: bool | None = None,
    ) -> Response:
        """Call any endpoint; see `HarnessClient.request`."""
        method = check_method(method)
        check_type("params", params, Mapping, optional=True)
        check_type("headers", headers, Mapping, optional=True)
        check_type("content", content, (bytes, str), optional=True)
        check_type("repeatable", repeatable, bool, optional=True)
        if content is not None and json is not None:
            raise ValueError("pass json or content, not both")
        if isinstance(content, str):
            content = (content and check_text("content", content)).encode()
        check_seconds("timeout", timeout, optional=True)
        deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
        endpoint = Endpoint(method, "", repeatable=method in REPEATABLE_METHODS if repeatable is None else repeatable)
        query = build_query(params or {})
        body = self.encode(json) if content is None else content
        request = self._build_request(endpoint, check_path(path), body, query=query, headers=headers)
        if json is not None and not any(name.lower() == "content-type" for name in headers or ()):
            request.headers = merge_headers(request.headers, {"Content-Type": "application/json"})
        result = await self.sender.send(request, _read_body, deadline=deadline)
        return Response(
            status=result.response.status,
            headers=Headers(result.response.headers),
            body=result.value,
            attempts=result.attempts,
        )

    def _build_request(
        self,
        endpoint: Endpoint,
        path: str,
        body: bytes | None = None,
        *,
        query: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Request:
        merged = merge_headers(self.headers, check_headers(headers)) if headers else self.headers
        url = URL(f"{self.prefix}{path}?{query}" if query else f"{self.prefix}{path}", encoded=True)
        return Request(endpoint.method, url, merged, body, endpoint.repeatable)


def _parse_object(response: RawResponse) -> object:
    content = parse_json(response.body)
    if isinstance(content, dict):
        check_error_body(content)
    return content


def _read_body(response: RawResponse) -> bytes:
    if is_html(response.headers, response.body):
        raise ValueError("HTML")
    if _ERROR_STATUS.search(response.body):
        with suppress(ValueError):  # the caller may have requested something else than JSON
            _parse_object(response)
    return response.body
