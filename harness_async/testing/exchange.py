"""One request and the bytes sent back on its connection."""

from __future__ import annotations

import http.client
import socket
import struct
import sys
from email.utils import formatdate
from typing import TYPE_CHECKING

from aiohttp import web

from harness_async.testing.responses import FakeResponse

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness_async.testing.recorded import RecordedRequest

_NO_LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


class Exchange:
    """A request with the operations a fault may perform: execute it, send a response, close the connection."""

    def __init__(
        self, request: web.BaseRequest, recorded: RecordedRequest, execute: Callable[[], FakeResponse]
    ) -> None:
        self._request = request
        self._recorded = recorded
        self._execute = execute
        self._response: FakeResponse | None = None

    def response(self) -> FakeResponse:
        """Execute the request, once, and return its regular response."""
        if self._response is None:
            self._response = self._execute()
        return self._response

    async def send(self, response: FakeResponse) -> web.StreamResponse:
        """Send a complete response."""
        self._recorded.status = response.status
        return web.Response(status=response.status, headers=_headers(response), body=response.body)

    async def start(self, response: FakeResponse) -> web.StreamResponse:
        """Send the head of a response. The caller writes the body."""
        self._recorded.status = response.status
        stream = web.StreamResponse(status=response.status, headers=_headers(response))
        stream.content_length = len(response.body)
        await stream.prepare(self._request)
        return stream

    def encode_head(self, response: FakeResponse) -> bytes:
        """Encode the status line and the headers of a response."""
        lines = [f"HTTP/1.1 {response.status} {http.client.responses.get(response.status, '')}"]
        fields = _headers(response) | {"Content-Length": str(len(response.body)), "Date": formatdate(usegmt=True)}
        lines += [f"{name}: {value}" for name, value in fields.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    @staticmethod
    def encode_interim(status: int) -> bytes:
        """Encode an interim response."""
        return f"HTTP/1.1 {status} {http.client.responses.get(status, '')}\r\n\r\n".encode("latin-1")

    def write(self, data: bytes) -> None:
        """Send *data* as it is. Raises ConnectionResetError if the client has disconnected."""
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has disconnected")
        transport.write(data)

    def close(self, data: bytes = b"", *, status: int | None = None) -> web.StreamResponse:
        """Send *data* and close the connection. Without data the connection is reset.

        *status* is recorded as the status of the response, if it is complete with *data*.
        """
        self._recorded.status = status
        transport = self._request.transport
        if transport is not None:
            if data:
                transport.write(data)
            else:
                # With SO_LINGER at zero the kernel sends RST, as after the crash of a server.
                connection: socket.socket = transport.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            transport.close()
        return web.Response()  # required by aiohttp, which then finds the connection closed


def _headers(response: FakeResponse) -> dict[str, str]:
    content_type = {} if response.content_type is None else {"Content-Type": response.content_type}
    return content_type | response.headers
