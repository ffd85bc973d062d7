"""The same job done in several ways: read lists of executions to their end, and touch every row.

A reader is opened once and then reads as many pages as it is told, through connections that stay open. All of them
do what their users would: ours iterate over executions, the others are the loops that one writes by hand.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from importlib import import_module
from typing import Any, TypeAlias

import aiohttp
from attrs import frozen

from benchmarks.server import ORG, PAGE_SIZE, project_name
from harness_async import HarnessClient

Read: TypeAlias = Callable[[int], Coroutine[Any, Any, int]]
"""Reads so many pages and gives the number of rows."""

Loads: TypeAlias = Callable[[bytes], Any]

API_KEY, ACCOUNT = "pat.Ab1Cd2Ef3Gh4Ij5Kl6Mn7O.benchmark.none", "Ab1Cd2Ef3Gh4Ij5Kl6Mn7O"
HEADERS = {"Accept": "application/json", "x-api-key": API_KEY, "Harness-Account": ACCOUNT}

PROJECTS = 40
"""Projects among which many at a time divide the pages: more than are read at once."""

CONCURRENCY = 32


def name_projects(pages: int) -> list[str]:
    """Name the projects of a run over so many pages."""
    return [project_name(number, max(1, pages // PROJECTS)) for number in range(min(PROJECTS, pages))]


def list_path(project: str) -> str:
    """Give the path of a project's executions."""
    return f"/iacm/api/orgs/{ORG}/projects/{project}/executions"


def make_client(url: str, http_session: aiohttp.ClientSession | None = None) -> HarnessClient:
    """Make a client of ours without pacing."""
    return HarnessClient(API_KEY, ACCOUNT, base_url=url, rate_limit=None, http_session=http_session)


@asynccontextmanager
async def open_walk(url: str, *, checked: bool = False, lent: bool = False) -> AsyncGenerator[Read, None]:
    """Walk one list with our client, over its own connections or over a session that is lent to it."""
    async with AsyncExitStack() as stack:
        http_session = await stack.enter_async_context(aiohttp.ClientSession()) if lent else None
        client = await stack.enter_async_context(make_client(url, http_session))

        async def read(pages: int) -> int:
            rows = checksum = 0
            pager = client.executions.list(
                ORG, project_name(0, pages), consistency="checked" if checked else "live", prefetch=0
            )
            async with pager.walk() as walk:
                async for execution in walk:
                    rows += 1
                    checksum += execution.created
            assert walk.report.consistency == ("exact" if checked else "live")
            return rows

        yield read


@asynccontextmanager
async def open_bulk(url: str) -> AsyncGenerator[Read, None]:
    """Walk many lists at a time with our client."""
    async with make_client(url) as client:

        async def read(pages: int) -> int:
            rows = checksum = 0
            refs = [(ORG, name) for name in name_projects(pages)]
            async with client.executions.bulk(refs, concurrency=CONCURRENCY) as run:
                async for execution in run:
                    rows += 1
                    checksum += execution.created
            run.report.raise_for_failures()
            assert all(outcome.consistency == "exact" for outcome in run.report.outcomes.values())
            return rows

        yield read


async def _read_raw(session: aiohttp.ClientSession, project: str, loads: Loads | None) -> int:
    """Read one list with nothing but aiohttp; without a decoder the rows are only counted."""
    rows = checksum = 0
    page = last = 1
    while page <= last:
        async with session.get(list_path(project), params={"limit": PAGE_SIZE, "page": page}) as response:
            response.raise_for_status()
            body = await response.read()
            last = int(response.headers["x-total-pages"])
        if loads is None:
            rows += PAGE_SIZE
        else:
            for row in loads(body):
                rows += 1
                checksum += row["created"]
        page += 1
    return rows


@asynccontextmanager
async def open_raw(url: str, *, decoder: str | None, many: bool = False) -> AsyncGenerator[Read, None]:
    """Walk one list, or many at a time, with nothing but aiohttp."""
    loads: Loads | None = None if decoder is None else import_module(decoder).loads
    async with aiohttp.ClientSession(url, headers=HEADERS) as session:
        places = asyncio.Semaphore(CONCURRENCY)

        async def read_one(project: str) -> int:
            async with places:
                return await _read_raw(session, project, loads)

        async def read(pages: int) -> int:
            if not many:
                return await _read_raw(session, project_name(0, pages), loads)
            return sum(await asyncio.gather(*map(read_one, name_projects(pages))))

        yield read


@asynccontextmanager
async def open_httpx(url: str) -> AsyncGenerator[Read, None]:
    """Walk one list with httpx."""
    loads = import_module("orjson").loads
    async with import_module("httpx").AsyncClient(base_url=url, headers=HEADERS) as client:

        async def read(pages: int) -> int:
            rows = checksum = 0
            path = list_path(project_name(0, pages))
            page = last = 1
            while page <= last:
                response = await client.get(path, params={"limit": PAGE_SIZE, "page": page})
                response.raise_for_status()
                last = int(response.headers["x-total-pages"])
                for row in loads(response.content):
                    rows += 1
                    checksum += row["created"]
                page += 1
            return rows

        yield read


@asynccontextmanager
async def open_generated(url: str) -> AsyncGenerator[Read, None]:
    """Walk one list with the client generated from the API's own description; it blocks, and gives dicts."""
    package = import_module("harness_open_api")
    configuration = package.Configuration()
    configuration.host = url
    configuration.api_key["x-api-key"] = API_KEY
    ask = package.ExecutionsApi(package.ApiClient(configuration)).executions_list_executions_with_http_info

    async def read(pages: int) -> int:
        rows = checksum = 0
        page = last = 1
        while page <= last:
            answer, _, headers = ask(ORG, project_name(0, pages), ACCOUNT, limit=PAGE_SIZE, page=page)
            last = int(headers["x-total-pages"])
            for row in answer:
                rows += 1
                checksum += row["created"]
            page += 1
        return rows

    yield read


@frozen
class Reader:
    """A way to read."""

    open: Callable[[str], AbstractAsyncContextManager[Read]]
    needs: tuple[str, ...] = ()
    """Modules that need not be there."""


READERS: dict[str, Reader] = {
    "live": Reader(open_walk),
    "live, lent session": Reader(partial(open_walk, lent=True)),
    "checked": Reader(partial(open_walk, checked=True)),
    "bulk": Reader(open_bulk),
    "raw": Reader(partial(open_raw, decoder=None)),
    "raw json": Reader(partial(open_raw, decoder="json")),
    "raw orjson": Reader(partial(open_raw, decoder="orjson"), ("orjson",)),
    "raw json, many": Reader(partial(open_raw, decoder="json", many=True)),
    "raw orjson, many": Reader(partial(open_raw, decoder="orjson", many=True), ("orjson",)),
    "httpx": Reader(open_httpx, ("httpx", "orjson")),
    "generated": Reader(open_generated, ("harness_open_api",)),
}
