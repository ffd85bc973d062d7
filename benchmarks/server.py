"""A server that does nearly nothing: ready-made pages of executions, from a process of its own.

It reads no more of a request than its first line. The project says how long its list is, so that any number of lists
can be asked for without being declared: `project7_50` has 50 full pages. Rows are like those of the API, with
keys of their own over the whole list, newest first, all older than the server. An answer may be held back for a
while, which costs the server no more than a timer. `GET /usage` tells what it has answered and what that took.

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
from urllib.request import urlopen

from attrs import define, field, frozen

ROOT = Path(__file__).parents[1]

PAGE_SIZE = 100
"""Rows of a page: the most that the API gives at once."""

ORG = "default"

_LIST = re.compile(rb"GET /iacm/api/orgs/(\w+)/projects/(\w+_(\d+))/executions\?(\S*)")
_PAGE = re.compile(rb"(?:^|&)page=(\d+)")
_LIMIT = re.compile(rb"(?:^|&)limit=(\d+)")
_USAGE = b"GET /usage "

_APART = 90_000
"""Milliseconds between two executions of a project: one every minute and a half."""

_BEGAN = int(time.time() * 1000) - 60_000
"""When the newest execution was created: before any window that a client may freeze."""

_STATUSES = ("success", "success", "success", "failure", "none")
_WORKSPACES = ("network_prod", "network_test", "network_demo")

_ID_LENGTH = 22
"""Characters of the API's own identifiers."""

_KEPT = 4096
"""Answers kept ready: all that a measurement of processor time asks for, more than once."""


def project_name(number: int, pages: int) -> str:
    """Name a project whose list has so many pages."""
    return f"project{number}_{pages}"


def make_rows(project: str, page: int) -> list[dict[str, object]]:
    """Make the rows of a page, counted from 1; the same each time."""
    rng = random.Random(f"{project}/{page}")
    ids = urlsafe_b64encode(rng.randbytes(2 * PAGE_SIZE * _ID_LENGTH)).decode()  # a third more than is needed
    dice = rng.randbytes(PAGE_SIZE)

    def take_id(number: int) -> str:
        return ids[number * _ID_LENGTH : (number + 1) * _ID_LENGTH]

    first = (page - 1) * PAGE_SIZE
    return [
        {
            "account": "Ab1Cd2Ef3Gh4Ij5Kl6Mn7O",
            "created": _BEGAN - (first + place) * _APART,
            "org": ORG,
            "pipeline": "provision_network",
            "pipeline_execution_id": take_id(2 * place),
            "pipeline_stage_id": take_id(2 * place + 1),
            "project": project,
            "status": _STATUSES[dice[place] % len(_STATUSES)],
            "workspace": _WORKSPACES[dice[place] % len(_WORKSPACES)],
        }
        for place in range(PAGE_SIZE)
    ]


def make_body(project: str, page: int) -> bytes:
    """Write a page as the API does."""
    return json.dumps(make_rows(project, page), separators=(",", ":")).encode()


@lru_cache(_KEPT)
def make_answer(project: str, pages: int, page: int) -> tuple[bytes, bytes]:
    """Make the headers of a page, up to the date, and its body."""
    body = make_body(project, page) if page <= pages else b"[]"
    head = (
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        f"x-page-size: {PAGE_SIZE}\r\nx-total-items: {pages * PAGE_SIZE}\r\nx-total-pages: {pages}\r\n"
        f"Content-Length: {len(body)}\r\nDate: "
    )
    return head.encode(), b"\r\n\r\n" + body


@define(eq=False)
class Connection(asyncio.Protocol):
    """One connection, kept open: a request, an answer, and so on."""

    latency: float
    usage: Usage
    _transport: asyncio.Transport = field(init=False)
    _received: bytes = field(default=b"", init=False)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request that is whole; none has a body."""
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            request, self._received = self._received[:end], self._received[end + 4 :]
            answer = self._answer(request)
            if self.latency:
                asyncio.get_running_loop().call_later(self.latency, self._transport.write, answer)
            else:
                self._transport.write(answer)

    def _answer(self, request: bytes) -> bytes:
        asked = _LIST.match(request)
        if asked is None:
            return self.usage.answer() if request.startswith(_USAGE) else _refuse(404)
        page, limit = _PAGE.search(asked[4]), _LIMIT.search(asked[4])
        if page is None or limit is None or int(limit[1]) != PAGE_SIZE:
            return _refuse(400)
        self.usage.answers += 1
        head, body = make_answer(asked[2].decode(), int(asked[3]), int(page[1]))
        return head + self.usage.date() + body


@define
class Usage:
    """What the server did, and the date, which is the same for a second."""

    answers: int = 0
    _second: int = 0
    _date: bytes = b""

    def date(self) -> bytes:
        """Write the date."""
        second = int(time.time())
        if second != self._second:
            self._second, self._date = second, formatdate(second, usegmt=True).encode()
        return self._date

    def answer(self) -> bytes:
        """Tell the pages answered so far and the seconds of processor time."""
        body = json.dumps({"answers": self.answers, "cpu": time.process_time()}).encode()
        return b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def _refuse(status: int) -> bytes:
    return b"HTTP/1.1 %d Refused\r\nContent-Length: 0\r\n\r\n" % status


async def serve(latency: float) -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    usage = Usage()
    server = await loop.create_server(lambda: Connection(latency, usage), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


@frozen
class Server:
    """A server that runs in another process."""

    url: str

    def usage(self) -> tuple[int, float]:
        """Ask how many pages it has answered, and with how many seconds of processor time."""
        with urlopen(f"{self.url}/usage") as answer:  # noqa: S310 - our own server
            told = json.load(answer)
        return told["answers"], told["cpu"]


@contextmanager
def start_server(latency: float = 0.0) -> Iterator[Server]:
    """Run a server in another process for as long as the block lasts."""
    command = [sys.executable, "-m", "benchmarks.server", "--latency", str(latency)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own interpreter
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Server(process.stdout.readline().strip())
        finally:
            process.stdin.close()


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer (%(default)s)")
    asyncio.run(serve(parser.parse_args().latency))


if __name__ == "__main__":
    main()
