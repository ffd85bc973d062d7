"""One request and what goes back over its connection, in order or not."""

from __future__ import annotations

import http.client
import socket
import struct
import sys
from email.utils import formatdate
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness_async.testing.recorded import RecordedRequest
    from harness_async.testing.wire import Answer

_NO_LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


class Exchange:
    """What a fault may do with a request: take its true answer, send some answer, drop the connection."""

    def __init__(self, request: web.BaseRequest, recorded: RecordedRequest, make_answer: Callable[[], Answer]) -> None:
        self._request = request
        self._recorded = recorded
        self._make_answer = make_answer
        self._answer: Answer | None = None

    def answer(self) -> Answer:
        """Let the request take effect, once, and return the true answer."""
        if self._answer is None:
            self._answer = self._make_answer()
        return self._answer

    async def send(self, answer: Answer) -> web.StreamResponse:
        """Send an answer whole."""
        self._recorded.status = answer.status
        return web.Response(status=answer.status, headers=_headers(answer), body=answer.body)

    async def begin(self, answer: Answer) -> web.StreamResponse:
        """Send the head of an answer; its body is the caller's to write."""
        self._recorded.status = answer.status
        response = web.StreamResponse(status=answer.status, headers=_headers(answer))
        response.content_length = len(answer.body)
        await response.prepare(self._request)
        return response

    def head(self, answer: Answer) -> bytes:
        """Write the head of an answer out, for those who want to send less than the whole."""
        lines = [f"HTTP/1.1 {answer.status} {http.client.responses.get(answer.status, '')}"]
        fields = _headers(answer) | {"Content-Length": str(len(answer.body)), "Date": formatdate(usegmt=True)}
        lines += [f"{name}: {value}" for name, value in fields.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def drop(self, last_words: bytes = b"") -> web.StreamResponse:
        """Drop the connection, after sending these bytes; with none it is reset."""
        transport = self._request.transport
        if transport is not None:
            if last_words:
                transport.write(last_words)
            else:
                # Without lingering the kernel sends RST, what a crashed server or a firewall sends.
                connection: socket.socket = transport.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            transport.close()
        return web.Response()  # aiohttp wants one, and finds the connection gone


def _headers(answer: Answer) -> dict[str, str]:
    content_type = {} if answer.content_type is None else {"Content-Type": answer.content_type}
    return content_type | answer.headers
