"""A server of ready-made pages of executions, in another process, which costs little processor time.

It reads only the first line of a request. The name of a project says how long its list is: `project7_50` has 50
pages, the last of which misses one row. Rows are like those of the API, with keys of their own, newest first, and
older than the server. `--latency` delays each response.

    python -m benchmarks.server [--latency 0.05]

prints its URL and serves until its standard input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from functools import lru_cache
from pathlib import Path

from attrs import define, field

ROOT = Path(__file__).parents[1]

PAGE_SIZE = 100
"""Rows of a page: the maximum of the API."""

ORG = "default"

_LIST = re.compile(rb"GET /iacm/api/orgs/\w+/projects/(\w+_(\d+))/executions\?\S*?\bpage=(\d+)")

_INTERVAL = 90_000
"""Milliseconds between two executions of a project."""

_NEWEST = int(time.time() * 1000) - 60_000
"""When the newest execution was created: before any window that a client may freeze."""

_STATUSES = ("success", "success", "success", "failure", "none")
_WORKSPACES = ("network_prod", "network_test", "network_demo")
_ID_LENGTH = 22


def project_name(number: int, pages: int) -> str:
    """Return the name of a project whose list has so many pages."""
    return f"project{number}_{pages}"


def row_count(pages: int) -> int:
    """Return the number of rows of a list. The last page is short, so that no request follows it."""
    return pages * PAGE_SIZE - 1


def create_rows(project: str, page: int) -> list[dict[str, object]]:
    """Create the rows of a page, counted from 1; the same each time."""
    rng = random.Random(f"{project}/{page}")
    text = urlsafe_b64encode(rng.randbytes(2 * PAGE_SIZE * _ID_LENGTH)).decode()
    ids = [text[start : start + _ID_LENGTH] for start in range(0, 2 * PAGE_SIZE * _ID_LENGTH, _ID_LENGTH)]
    return [
        {
            "account": "Ab1Cd2Ef3Gh4Ij5Kl6Mn7O",
            "created": _NEWEST - ((page - 1) * PAGE_SIZE + index) * _INTERVAL,
            "org": ORG,
            "pipeline": "provision_network",
            "pipeline_execution_id": ids[2 * index],
            "pipeline_stage_id": ids[2 * index + 1],
            "project": project,
            "status": rng.choice(_STATUSES),
            "workspace": rng.choice(_WORKSPACES),
        }
        for index in range(PAGE_SIZE)
    ]


def create_body(project: str, page: int, pages: int) -> bytes:
    """Create a page as the API encodes it."""
    count = max(0, min(PAGE_SIZE, row_count(pages) - (page - 1) * PAGE_SIZE))
    return json.dumps(create_rows(project, page)[:count], separators=(",", ":")).encode()


@lru_cache(4096)
def create_response(project: str, pages: int, page: int) -> tuple[bytes, bytes]:
    """Create the response with a page: its head up to the date, and the rest."""
    body = create_body(project, page, pages)
    head = (
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        f"x-page-size: {PAGE_SIZE}\r\nx-total-items: {row_count(pages)}\r\nx-total-pages: {pages}\r\n"
        f"Content-Length: {len(body)}\r\nDate: "
    )
    return head.encode(), b"\r\n\r\n" + body


@lru_cache(1)
def format_second(second: int) -> bytes:
    """Format the `Date` of all responses of a second."""
    return formatdate(second, usegmt=True).encode()


@define(eq=False)
class Connection(asyncio.Protocol):
    """A kept-alive connection."""

    latency: float
    _transport: asyncio.Transport = field(init=False)
    _received: bytes = field(default=b"", init=False)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Respond to each complete request; none has a body."""
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            match = _LIST.match(self._received)
            self._received = self._received[end + 4 :]
            response = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
            if match is not None:
                head, body = create_response(match[1].decode(), int(match[2]), int(match[3]))
                response = head + format_second(int(time.time())) + body
            if self.latency:
                asyncio.get_running_loop().call_later(self.latency, self._transport.write, response)
            else:
                self._transport.write(response)


async def serve(latency: float) -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(latency), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


@contextmanager
def start_server(latency: float = 0.0) -> Iterator[str]:
    """Run a server in another process and return its URL."""
    command = [sys.executable, "-m", "benchmarks.server", "--latency", str(latency)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own interpreter
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--latency", type=float, default=0.0, help="seconds before each response (default: %(default)s)"
    )
    asyncio.run(serve(parser.parse_args().latency))


if __name__ == "__main__":
    main()
