"""`api`: requests, bodies, lists and errors."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from harness_async.testing import FakeHarness, Status
from tests.support.cli_runner import Terminal, invoke, json_lines

ORG = {"identifier": "labs", "name": "Labs"}


def test_response_as_received(server: FakeHarness) -> None:
    """The body is printed byte for byte; query parameters come from the path and from -f, headers from -H."""
    result = invoke("api", "get", "v1/orgs?limit=1", "-f", "org=default", "-f", "org=x", "-H", "X-Team: core")
    assert (result.exit_code, result.stderr) == (0, "")
    (request,) = server.requests
    assert (request.method, request.path) == ("GET", "/v1/orgs")
    assert request.query == {"limit": ["1"], "org": ["default", "x"]}
    assert request.headers["X-Team"] == "core"
    (row,) = json.loads(result.stdout)
    assert row["org"]["identifier"] == "default"
    assert not result.stdout.endswith("\n")


@pytest.mark.parametrize("source", ["file", "-"])
def test_body(server: FakeHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """--input sends a file or stdin; JSON gets its content type, anything else needs a header."""
    path = tmp_path / "body"
    path.write_text(json.dumps({"org": ORG}))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    result = invoke("api", "POST", "/v1/orgs", "--input", source if source == "-" else str(path))
    assert (result.exit_code, json.loads(result.stdout)["org"]["identifier"]) == (0, "labs")
    assert json.loads(invoke("api", "GET", "/v1/orgs/labs").stdout)["org"]["name"] == "Labs"
    path.write_text("a: b")
    refused = invoke("api", "POST", "/v1/orgs", "--input", str(path))
    assert (refused.exit_code, "--input is not JSON" in refused.stderr) == (2, True)
    invoke("api", "POST", "/v1/orgs", "--input", str(path), "-H", "Content-Type: application/yaml")
    assert server.requests[-1].headers["Content-Type"] == "application/yaml"


def test_paginate(server: FakeHarness) -> None:
    """--paginate prints the rows of all pages, as a JSON array or as JSON lines."""
    path = "/iacm/api/orgs/default/projects/payments/executions"
    rows = json.loads(invoke("api", "GET", path, "--paginate").stdout)
    assert (len(rows), len(server.requests)) == (250, 3)
    assert json_lines(invoke("api", "GET", path, "--paginate", "--format", "jsonl", "--dialect", "iacm").stdout) == rows
    assert invoke("api", "GET", path, "--paginate", "-f", "workspace=none").stdout == "[]\n"


@pytest.mark.parametrize(
    ("fault", "path", "exit_code", "advice"),
    [
        (None, "/v1/orgs/nope", 1, "Check the path"),
        (Status(401), "/v1/orgs", 3, "rejected"),
        (Status(400), "/v1/orgs", 1, "Check the options"),
    ],
    ids=["not found", "key", "bad request"],
)
def test_error_status(server: FakeHarness, fault: Any, path: str, exit_code: int, advice: str) -> None:
    """The body of an error status goes to stdout, the message to stderr."""
    if fault is not None:
        server.faults.add(fault)
    result = invoke("api", "GET", path)
    assert result.exit_code == exit_code
    assert "message" in json.loads(result.stdout)
    assert result.stderr.startswith("Error: 4")
    assert advice in result.stderr


def test_terminal(server: FakeHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the body cannot move the cursor, and the prompt begins on a new line."""
    from harness_async.cli.app import run

    server.faults.add(Status(400, body=b"\x1b[2Jbad\ninput"))
    with Terminal() as terminal:
        monkeypatch.setattr("sys.stdout", terminal.stream)
        assert run(["api", "GET", "/v1/orgs"]) == 1
    assert terminal.text == "\\x1b[2Jbad\ninput\n"
