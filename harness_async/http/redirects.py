"""Redirects, which never leave the origin: the key is sent to no other host."""

from __future__ import annotations

from attrs import evolve
from yarl import URL

from harness_async.errors import UnexpectedResponseError
from harness_async.http.call import Call
from harness_async.http.transport import RawResponse, Request

_MAX_REDIRECTS = 5
_NOT_MODIFIED = 304
_METHOD_KEEPING_REDIRECTS = (307, 308)


def follow_redirect(call: Call, response: RawResponse) -> Request:
    """Return the request for the target of a redirect within the origin.

    Raises:
        UnexpectedResponseError: The redirect leads elsewhere, or would change the request.
    """
    request = call.request
    location = response.headers.get("Location", "")
    try:
        target = request.url.join(URL(location))
        elsewhere = target.origin() != request.url.origin()
    except ValueError:
        target, elsewhere = request.url, True
    keeps_method = request.method in {"GET", "HEAD"} or response.status in _METHOD_KEEPING_REDIRECTS
    problem = (
        "without a target"
        if not location or response.status == _NOT_MODIFIED
        else "to another host; the key is sent to no other host, so check base_url"
        if elsewhere
        else "that would change the request"
        if not keeps_method
        else "too often"
        if call.redirects >= _MAX_REDIRECTS
        else None
    )
    if problem:
        error = UnexpectedResponseError(
            f"The server redirected {problem} ({request.method} {call.display_url}, status {response.status}, "
            f"location {call.redact_text(location)!r})",
            method=request.method,
            url=call.display_url,
            attempts=call.attempts,
            status=response.status,
            body=call.redact(response.body),
        )
        del location, target  # the traceback keeps the variables, and these may hold the key
        raise error
    call.redirects += 1
    return evolve(request, url=target.with_user(None).with_fragment(None))
