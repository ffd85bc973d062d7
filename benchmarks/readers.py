"""Several ways to read lists of executions to their end and use every row.

A reader is opened once and then reads any number of pages through connections that stay open.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from importlib import import_module
from typing import Any, TypeAlias

import aiohttp
from attrs import frozen

from benchmarks.server import ORG, PAGE_SIZE, project_name, row_count
from harness_async import HarnessClient

Read: TypeAlias = Callable[[int], Coroutine[Any, Any, int]]
"""Reads so many pages and returns the number of rows."""

Loads: TypeAlias = Callable[[bytes], Any]

API_KEY, ACCOUNT = "pat.Ab1Cd2Ef3Gh4Ij5Kl6Mn7O.benchmark.none", "Ab1Cd2Ef3Gh4Ij5Kl6Mn7O"
HEADERS = {"Accept": "application/json", "x-api-key": API_KEY, "Harness-Account": ACCOUNT}

PROJECTS = 40
"""Projects of a bulk run: more than are read at once."""

CONCURRENCY = 32


def name_projects(pages: int) -> list[str]:
    """Return the names of the projects of a bulk run over so many pages."""
    return [project_name(number, max(1, pages // PROJECTS)) for number in range(min(PROJECTS, pages))]


def expected_rows(which: str, pages: int) -> int:
    """Return the number of rows that a reader returns for so many pages."""
    if which != "bulk" and "many" not in which:
        return row_count(pages)
    projects = min(PROJECTS, pages)
    return projects * row_count(max(1, pages // PROJECTS))


def list_path(project: str) -> str:
    """Return the path of the executions of a project."""
    return f"/iacm/api/orgs/{ORG}/projects/{project}/executions"


def create_client(url: str) -> HarnessClient:
    """Create a client without pacing."""
    return HarnessClient(API_KEY, ACCOUNT, base_url=url, rate_limit=None)


@asynccontextmanager
async def open_walk(url: str, *, checked: bool = False) -> AsyncGenerator[Read, None]:
    """Walk one list with HarnessClient."""
    async with create_client(url) as client:

        async def read(pages: int) -> int:
            rows = checksum = 0
            pager = client.executions.list(
                ORG, project_name(0, pages), consistency="checked" if checked else "live", prefetch=0
            )
            async with pager.walk() as walk:
                async for execution in walk:
                    rows += 1
                    checksum += execution.created
            assert walk.report.guarantee == ("exact" if checked else "live")
            return rows

        yield read


@asynccontextmanager
async def open_bulk(url: str) -> AsyncGenerator[Read, None]:
    """Read many lists at a time with HarnessClient."""
    async with create_client(url) as client:

        async def read(pages: int) -> int:
            rows = checksum = 0
            refs = [(ORG, name) for name in name_projects(pages)]
            async with client.executions.bulk(refs, concurrency=CONCURRENCY) as run:
                async for execution in run:
                    rows += 1
                    checksum += execution.created
            run.report.raise_for_failures()
            assert all(outcome.guarantee == "exact" for outcome in run.report.outcomes.values())
            return rows

        yield read


async def _read_raw(session: aiohttp.ClientSession, project: str, loads: Loads) -> int:
    """Read one list with aiohttp alone."""
    rows = checksum = 0
    page = last = 1
    while page <= last:
        async with session.get(list_path(project), params={"limit": PAGE_SIZE, "page": page}) as response:
            response.raise_for_status()
            body = await response.read()
            last = int(response.headers["x-total-pages"])
        for row in loads(body):
            rows += 1
            checksum += row["created"]
        page += 1
    return rows


@asynccontextmanager
async def open_raw(url: str, *, decoder: str, many: bool = False) -> AsyncGenerator[Read, None]:
    """Read one list, or many at a time, with aiohttp alone."""
    loads: Loads = import_module(decoder).loads
    async with aiohttp.ClientSession(url, headers=HEADERS) as session:
        semaphore = asyncio.Semaphore(CONCURRENCY)

        async def read_one(project: str) -> int:
            async with semaphore:
                return await _read_raw(session, project, loads)

        async def read(pages: int) -> int:
            if not many:
                return await _read_raw(session, project_name(0, pages), loads)
            return sum(await asyncio.gather(*map(read_one, name_projects(pages))))

        yield read


@asynccontextmanager
async def open_generated(url: str) -> AsyncGenerator[Read, None]:
    """Read one list with the client generated from the specification of the API, which blocks and returns dicts."""
    package = import_module("harness_open_api")
    configuration = package.Configuration()
    configuration.host = url
    configuration.api_key["x-api-key"] = API_KEY
    list_executions = package.ExecutionsApi(package.ApiClient(configuration)).executions_list_executions_with_http_info

    async def read(pages: int) -> int:
        rows = checksum = 0
        page = last = 1
        while page <= last:
            page_rows, _, headers = list_executions(ORG, project_name(0, pages), ACCOUNT, limit=PAGE_SIZE, page=page)
            last = int(headers["x-total-pages"])
            for row in page_rows:
                rows += 1
                checksum += row["created"]
            page += 1
        return rows

    yield read


@frozen
class Reader:
    """A reader and the modules that it needs."""

    open: Callable[[str], AbstractAsyncContextManager[Read]]
    needs: tuple[str, ...] = ()


READERS: dict[str, Reader] = {
    "live": Reader(open_walk),
    "checked": Reader(partial(open_walk, checked=True)),
    "bulk": Reader(open_bulk),
    "raw json": Reader(partial(open_raw, decoder="json")),
    "raw orjson": Reader(partial(open_raw, decoder="orjson"), ("orjson",)),
    "raw json, many": Reader(partial(open_raw, decoder="json", many=True)),
    "raw orjson, many": Reader(partial(open_raw, decoder="orjson", many=True), ("orjson",)),
    "generated": Reader(open_generated, ("harness_open_api",)),
}
