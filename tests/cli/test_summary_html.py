"""The page of `summary` in a headless browser. Skipped where Chromium is not installed."""

from __future__ import annotations

import re
import shutil
from asyncio import create_subprocess_exec
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse

from harness_async.cli.summary_html import render_page
from harness_async.cli.summary_table import GroupBy, SummaryTable

CHROMIUM = shutil.which("chromium")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs the browser chromium on PATH")

DAY = 86_400_000
START = 1_700_006_400_000  # 2023-11-15, midnight
MIN_TEXT_CONTRAST, MIN_GRAPHICS_CONTRAST = 4.5, 3.0  # WCAG 2.1, AA

OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --remote-debugging-port=0"
)

MEASURE = """(() => {
    const color = (selector, property) => {
        const element = document.querySelector(selector);
        return element && getComputedStyle(element)[property];
    };
    const bar = [...document.querySelectorAll("svg g")].map(group =>
        [...group.querySelectorAll("rect:not(.hit)")].map(rect => [rect.className.baseVal, rect.getBBox().height]));
    return {
        overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
        name: document.querySelector(".groups tbody th").offsetWidth,
        labels: [...document.querySelectorAll("svg text")].filter(text => text.getClientRects().length).length,
        card: color("section", "backgroundColor"),
        texts: [color("h1", "color"), color(".muted", "color"), color("td.bad", "color"), color("thead th", "color")],
        shapes: [color("svg .f", "fill"), color("svg .s", "fill")],
        text: document.body.innerText,
        bar,
    };
})()"""


class _Tab:
    """A page of the browser, by the DevTools protocol, which works although the page forbids scripts."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self.requests: list[str] = []
        self.log: list[dict[str, Any]] = []
        self._socket = socket
        self._numbers = count(1)

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method and return its result."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": params})
        result: dict[str, Any] = (await self.wait_for("id", number))["result"]
        return result

    async def wait_for(self, member: str, value: object) -> dict[str, Any]:
        """Receive messages up to one with this member, and keep the requests and the log of the page."""
        while True:
            message: dict[str, Any] = await self._socket.receive_json()
            method = message.get("method", "")
            if method == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            elif method in {"Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"}:
                self.log.append(message)
            if message.get(member) == value:
                return message

    async def open(self, path: Path) -> None:
        """Load a file to its end."""
        for domain in ("Page", "Network", "Log", "Runtime", "Accessibility"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=path.as_uri())
        await self.wait_for("method", "Page.loadEventFired")

    async def show(self, width: int, scheme: str) -> dict[str, Any]:
        """Set the width and the color scheme, and return the measures of the page."""
        size = {"width": width, "height": 1200, "deviceScaleFactor": 1, "mobile": False}
        await self.call("Emulation.setDeviceMetricsOverride", **size)
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        result = await self.call("Runtime.evaluate", expression=MEASURE, returnByValue=True)
        measures: dict[str, Any] = result["result"]["value"]
        return measures


@asynccontextmanager
async def browse(profile: Path) -> AsyncIterator[_Tab]:
    """Start a browser with an empty profile, and end it."""
    command = [str(CHROMIUM), *OPTIONS.split(), f"--user-data-dir={profile}", "about:blank"]
    browser = await create_subprocess_exec(*command, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE)
    assert browser.stderr is not None
    try:
        async for line in browser.stderr:
            if found := re.search(rb"DevTools listening on ws://([^/]+)/", line):
                break
        else:
            pytest.fail("the browser does not start")
        async with ClientSession(f"http://{found[1].decode()}/") as session:
            async with session.get("json/list") as response:
                (tab,) = [each for each in await response.json() if each["type"] == "page"]
            async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                yield _Tab(socket)
    finally:
        browser.terminate()
        await browser.communicate()


def page(by: GroupBy) -> str:
    """Render a page of 90 days, with a name that is markup and one that is long."""
    table = SummaryTable(by)
    names = ("payments", "network", "<script>document.title='hit'</script>", "long_name" * 20)
    statuses = ("failure", "none", "success", "success", "success")
    for number in range(90 * 5):
        created = START + number // 5 * DAY
        row = {"project": names[number % 4], "status": statuses[number % 5], "created": created}
        table.add({"org": "default", "plan_execution_id": "r", **row})
    groups = table.groups()
    return render_page(table, groups[:3], groups[3:], source="executions.jsonl", notes=["A note."])


@pytest.mark.parametrize("by", [GroupBy.PROJECT, GroupBy.DAY])
async def test_page_in_a_browser(tmp_path: Path, by: GroupBy) -> None:
    """The page loads and reports nothing; narrow and wide, light and dark, it fits and has enough contrast."""
    path = tmp_path / "page.html"
    path.write_text(page(by), encoding="utf-8")
    async with browse(tmp_path / "profile") as tab:
        await tab.open(path)
        for scheme in ("light", "dark"):
            wide, medium, narrow = [await tab.show(width, scheme) for width in (1200, 800, 400)]
            assert narrow["labels"] < wide["labels"]
            for measures in (wide, medium, narrow):
                assert measures["overflow"] == 0
                assert measures["name"] >= 160
                card = luminance(measures["card"])
                assert (card > 0.5) == (scheme == "light")
                assert all(contrast(luminance(text), card) >= MIN_TEXT_CONTRAST for text in measures["texts"])
                assert all(contrast(luminance(fill), card) >= MIN_GRAPHICS_CONTRAST for fill in measures["shapes"])
            assert len(wide["bar"]) == 90
            for failed, other, success in wide["bar"]:
                assert [failed[0], other[0], success[0]] == ["f", "o", "s"]
                assert success[1] == pytest.approx(3 * failed[1], abs=0.5)
                assert other[1] == pytest.approx(failed[1], abs=0.5)
            assert "450\n" in wide["text"]
        nodes = (await tab.call("Accessibility.getFullAXTree"))["nodes"]
        roles = [node["role"]["value"] for node in nodes if not node["ignored"]]
        names = [node.get("name", {}).get("value", "") for node in nodes]
        assert "Executions per day, by outcome" in names
        assert " failed" in names  # a label of the narrow table, whose header is not visible
        assert {"table", "row", "rowheader", "cell"} <= set(roles)
    assert tab.requests == [path.as_uri()]
    assert tab.log == []


def luminance(color: str) -> float:
    """Return the relative luminance of a CSS color, as in WCAG 2.1."""
    channels = [int(value) / 255 for value in re.findall(r"\d+", color)[:3]]
    red, green, blue = (each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first: float, second: float) -> float:
    """Return the contrast ratio of two luminances, as in WCAG 2.1."""
    return (max(first, second) + 0.05) / (min(first, second) + 0.05)
