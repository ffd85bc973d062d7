from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import harness_async.testing
from harness_async.testing import FakeHarness, run_in_thread
from harness_async.testing.__main__ import main

ROOT = Path(harness_async.testing.__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

SUITE = """
import asyncio
import threading
import urllib.request

def request_status(fake, path="/v1/orgs"):
    request = urllib.request.Request(fake.url + path, headers={"x-api-key": fake.api_key})
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.status

def test_plain(fake_harness):
    fake_harness.add_project("mine", "own")
    assert request_status(fake_harness, "/v1/orgs/mine/projects/own") == 200

async def test_asynchronous(fake_harness):
    assert await asyncio.to_thread(request_status, fake_harness) == 200
    assert len(fake_harness.requests) == 1

def test_nothing_is_left():
    assert [thread.name for thread in threading.enumerate() if thread.name == "FakeHarness"] == []
"""


def request_status(url: str, key: str) -> int:
    """Request the organizations, without an event loop, and return the status."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/v1/orgs", headers={"x-api-key": key})
        return connection.getresponse().status


def test_the_fixture_in_a_suite_of_its_own(tmp_path: Path) -> None:
    """The fixture works in synchronous and asynchronous tests, with warnings as errors, and leaves no thread."""
    (tmp_path / "test_it.py").write_text(SUITE)
    options = ["-W", "error", "-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function"]
    plugins = ["-p", "harness_async.testing.plugin", "-p", "pytest_asyncio.plugin"]
    command = [sys.executable, "-m", "pytest", "-q", *plugins, *options, "--rootdir", str(tmp_path), str(tmp_path)]
    run = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False, cwd=tmp_path)  # noqa: S603
    assert "3 passed" in run.stdout, run.stdout + run.stderr


def test_the_plugin_costs_nothing() -> None:
    """Loading the plugin loads no web server."""
    code = "import sys, harness_async.testing.plugin; assert 'aiohttp.web' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, check=True)  # noqa: S603


def test_a_thread_that_cannot_start() -> None:
    """A taken port raises OSError in the calling thread."""
    with run_in_thread(FakeHarness()) as fake:
        port = int(fake.url.rsplit(":", 1)[1])
        with pytest.raises(OSError, match=str(port)), run_in_thread(FakeHarness(port=port)):
            pass


def test_every_public_name_is_there() -> None:
    """Each name in `__all__` loads and is listed by dir; others raise AttributeError."""
    for name in harness_async.testing.__all__:
        assert getattr(harness_async.testing, name).__name__ == name
    assert set(harness_async.testing.__all__) <= set(dir(harness_async.testing))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = harness_async.testing.nonsense


async def test_a_taken_port_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A taken port is one line of error and exit code 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        # In a thread, because the command runs a loop of its own.
        assert await asyncio.to_thread(main, ["--port", str(port), "--projects", "1", "--executions", "0"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert f"127.0.0.1:{port}" in printed.err


@pytest.mark.skipif(sys.platform == "win32", reason="interrupts are sent differently there")
def test_command_line() -> None:
    """It prints the variables to export, serves within the configured limit, and returns 0 after an interrupt."""
    numbers = {"port": 0, "projects": 5, "executions": 9, "requests-per-minute": 1, "latency": 0.001}
    options = [f"--{name}={number}" for name, number in numbers.items()]
    command = [sys.executable, "-W", "error", "-m", "harness_async.testing", *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True) as run:  # noqa: S603
        assert run.stdout is not None
        exports: dict[str, str] = {}
        while len(exports) < 3:
            exports |= dict(re.findall(r"export (\w+)=(\S+)", run.stdout.readline()))
        url, key = exports["HARNESS_BASE_URL"], exports["HARNESS_API_KEY"]
        assert [request_status(url, key), request_status(url, key)] == [200, 429]
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=20)
    assert (run.returncode, errors) == (0, "")
