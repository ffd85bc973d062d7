"""Helpers for tests of requests and responses: raw responses, clients, and what an error shows."""

from __future__ import annotations

import html
import traceback
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeAlias

from harness_async import HarnessClient, RetryPolicy

Connect: TypeAlias = Callable[..., HarnessClient]
"""The fixture `connect`."""

Serve: TypeAlias = Callable[..., Awaitable[str]]
"""The fixture `serve`."""

KEY = "pat.acc.tokenid.s3cr3t/+&<key>"
"""A key with characters that are escaped in JSON, URLs and HTML."""

ORG = b'{"org":{"identifier":"default","name":"Default"}}'

ONCE = RetryPolicy(max_attempts=1)


def quick(attempts: int | None = None, **options: Any) -> RetryPolicy:
    """Create a policy that retries almost at once."""
    return RetryPolicy(initial_backoff=0.001, max_backoff=0.002, max_attempts=attempts, **options)


def response(
    body: bytes | str = b"[]", *headers: str, status: str = "200 OK", kind: str = "application/json", length: int = -1
) -> bytes:
    """Encode a response; its Content-Length is that of the body unless `length` or a Transfer-Encoding is passed."""
    encoded = body if isinstance(body, bytes) else body.encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", *headers]
    if not any(header.startswith("Transfer-Encoding") for header in headers):
        lines.append(f"Content-Length: {len(encoded) if length < 0 else length}")
    return "\r\n".join([*lines, "", ""]).encode() + encoded


def client_of(url: str, **options: Any) -> HarnessClient:
    """Create an unpaced client with `KEY`."""
    return HarnessClient(**{"api_key": KEY, "base_url": url, "retry": quick(), "rate_limit": None, **options})


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all its causes and contexts."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        each = pending.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            pending += [each.__cause__, each.__context__]


def everything(error: BaseException) -> str:
    """Return all that an error shows: texts, attributes, and the variables of its frames."""
    parts: list[str] = []
    for each in chain(error):
        parts += [repr(each), str(each), repr(each.args), repr(getattr(each, "__dict__", {}))]
        for frame, _ in traceback.walk_tb(each.__traceback__):
            if "harness_async" in frame.f_code.co_filename or "aiohttp" in frame.f_code.co_filename:
                parts += [repr(value) for value in frame.f_locals.values()]
        body = getattr(each, "body", b"")
        parts += [body.decode(code, "replace") for code in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le")]
    return html.unescape("\n".join(parts))
