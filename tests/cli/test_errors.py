"""Errors of commands: each has a message, advice that fits, and an exit code; none has a traceback or the key."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import trustme

from harness_async import (
    BudgetError,
    CheckpointError,
    DeadlineExceededError,
    DecodeError,
    HarnessError,
    PaginationError,
    RequestTimeoutError,
    TransportError,
    UnexpectedResponseError,
)
from harness_async.cli import run
from harness_async.cli.errors import CommandError, report_error
from harness_async.testing import FakeHarness, Redirect, SignInPage, Status
from tests.support.cli_errors import status_error
from tests.support.cli_http import ClosedProxy, EmptyLists, serve
from tests.support.cli_runner import Result, invoke, json_lines, posix, row_keys, start

OTHER_ACCOUNT = "Zz1Cd2Ef3Gh4Ij5Kl6Mn7O"

HTML = {"Content-Type": "text/html"}


def late(cause: HarnessError) -> DeadlineExceededError:
    """Create the error of a call that ran out of time because of another error."""
    error = DeadlineExceededError("late")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code", "advice"),
    [
        (status_error(400), 1, "Check the options"),
        (status_error(401), 3, "The key was rejected"),
        (status_error(403), 1, "view permission"),
        (status_error(404), 1, "harness-async projects"),
        (status_error(409), 1, "temporary"),
        (status_error(429), 1, "--requests-per-minute"),
        (status_error(503), 1, "The server failed. Run again later."),
        (DeadlineExceededError("late"), 1, "slow or failing"),
        (late(status_error(503)), 1, "The server failed"),
        (RequestTimeoutError("no response in 30 s"), 1, "No response in time"),
        (TransportError("refused"), 1, "Check the network and the server URL"),
        (UnexpectedResponseError("HTML"), 1, "Check the server URL"),
        (DecodeError("does not fit"), 1, "newer harness-async"),
        (PaginationError("a page again"), 1, "Run again."),
        (BudgetError("max_requests=5 is too few"), 2, "Increase --max-requests"),
        (CheckpointError("another run"), 2, ""),
        (CommandError("wrong", "Do this."), 2, "Do this."),
        (OSError(28, "No space left on device", "rows"), 1, "Free space"),
        (ZeroDivisionError("x"), 1, "fault of harness-async"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_report(error: Exception, code: int, advice: str) -> None:
    """Each error has an exit code and advice that fits it: a temporary or server error does not blame the options."""
    report = report_error(error)
    assert report.code == code
    assert advice in report.advice
    assert bool(advice) == bool(report.advice)


def test_message_without_the_request() -> None:
    """The message is the text of the API with what support needs; the last error leads when the time is over."""
    error = status_error(503, "down")
    assert report_error(error).message == "503: down"
    assert report_error(late(error)).message == "503: down (0 attempts within --timeout)"


def check_error(result: Result, code: int, *texts: str) -> None:
    """Assert that a command failed with a message of two lines at most that contains these texts."""
    assert (result.exit_code, result.stdout) == (code, "")
    error = result.stderr[result.stderr.index("Error: ") :]
    assert len(error.splitlines()) <= 2
    assert "Traceback" not in result.stderr
    for text in texts:
        assert text in error


@pytest.mark.parametrize(
    ("fault", "texts"),
    [
        (Status(403), ["Error: 403", "view permission"]),
        (Status(400, message="\x1b[2J[red]bad"), ["\\x1b[2J[red]bad", "Check the options"]),
        (SignInPage(), ["HTML page", "Check the server URL (--base-url or HARNESS_BASE_URL)"]),
        (Redirect("https://sso.example/login"), ["to another host", "check --base-url or HARNESS_BASE_URL"]),
        (Status(429, body=b"<html>", headers=HTML), ["429", "gateway or firewall", "Too many requests"]),
    ],
    ids=["denied", "escape sequence", "sign-in page", "redirect", "page of a rate limit"],
)
def test_server_error(server: FakeHarness, fault: Any, texts: list[str]) -> None:
    """An error of the server is one line, safe for the terminal, and one line of advice."""
    server.faults.add(fault, times=None)
    check_error(invoke("executions", "default/network", "--timeout", "3"), 1, *texts)


@pytest.mark.parametrize("command", [["projects"], ["export"], ["executions", "default/payments"]], ids=" ".join)
def test_wrong_account(server: FakeHarness, monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    """An account that is not the one of the key: both accounts and the setting are named; no list is suggested."""
    account = server.account_id
    monkeypatch.setenv("HARNESS_ACCOUNT_ID", OTHER_ACCOUNT)
    result = invoke(*command)
    check_error(result, 1, f"belongs to account {account}, but HARNESS_ACCOUNT_ID names account {OTHER_ACCOUNT}.")
    assert "List the projects" not in result.stderr
    monkeypatch.setenv("HARNESS_API_KEY", "opaque")
    server.api_key = "opaque"
    check_error(invoke(*command), 1, f"Check the account {OTHER_ACCOUNT}: --account or HARNESS_ACCOUNT_ID sets it.")


@pytest.mark.parametrize(
    ("options", "variable", "setting"),
    [([], "HTTP_PROXY", "HTTP_PROXY"), ([], "all_proxy", "all_proxy"), (["--proxy"], "HTTP_PROXY", "--proxy")],
    ids=["variable", "lower case", "option"],
)
def test_proxy_is_down(
    server: FakeHarness, monkeypatch: pytest.MonkeyPatch, options: list[str], variable: str, setting: str
) -> None:
    """A proxy that does not respond is named without its password, and so is the setting that it comes from."""
    proxy = "http://user:secret@127.0.0.1:1"
    monkeypatch.setenv(variable, proxy)
    result = invoke("projects", "--timeout", "0.1", *options, *([proxy] if options else []))
    check_error(
        result,
        1,
        "annot connect to the proxy http://127.0.0.1:1: Connection refused",
        f"Check that the proxy runs: {setting} sets it,",
    )
    assert "secret" not in result.stderr


@pytest.mark.parametrize(
    ("code", "message", "advice"),
    [
        (socket.EAI_NONAME, "The host harness.example is unknown", "Check the host in --base-url"),
        (socket.EAI_AGAIN, "Cannot connect to harness.example:443", "No name server responds. Check the network."),
    ],
    ids=["unknown host", "no network"],
)
def test_no_address(server: FakeHarness, monkeypatch: pytest.MonkeyPatch, code: int, message: str, advice: str) -> None:
    """A host without an address and a network without name servers have different messages."""

    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(code, "made up")

    monkeypatch.setattr("socket.getaddrinfo", fail)
    check_error(invoke("projects", "--base-url", "https://harness.example", "--timeout", "0.1"), 1, message, advice)


@pytest.mark.parametrize(
    ("user", "advice"), [("", "Put user and password into its URL"), ("u:p@", "Check user and password in its URL")]
)
def test_proxy_requires_a_password(
    server: FakeHarness, monkeypatch: pytest.MonkeyPatch, user: str, advice: str
) -> None:
    """A proxy that requires a password, or rejects the one in its URL, is an error that says where to put it."""
    with serve(ClosedProxy) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://{user}{proxy}")
        message = f"The proxy http://{proxy} requires authentication"
        check_error(invoke("projects"), 1, message, f"{advice}: HTTP_PROXY sets it,")


def test_server_without_tls(server: FakeHarness) -> None:
    """An https URL of a server that speaks http is named as the reason."""
    url = server.url.replace("http", "https")
    advice = "The server, or the proxy, does not speak TLS at this port. Check --base-url"
    check_error(invoke("projects", "--base-url", url, "--timeout", "1"), 1, "The connection is not secure", advice)


@pytest.fixture
def private_server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """An HTTPS server whose authority is private: its URL, and the PEM file of the authority."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with serve(EmptyLists, context) as address:
        yield f"https://{address}", tmp_path / "ca.pem"


def test_private_authority(private_server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A certificate of a private authority is refused with the two settings that accept it, and both do."""
    url, file = private_server
    monkeypatch.setenv("HARNESS_API_KEY", "pat.account.key.secret")
    monkeypatch.setenv("HARNESS_BASE_URL", url)
    advice = "For a private authority, name its PEM file with --ca-bundle or SSL_CERT_FILE."
    check_error(invoke("projects"), 1, "is not trusted: unable to get local issuer certificate", advice)
    assert invoke("projects", "--ca-bundle", str(file)).exit_code == 0
    check_error(invoke("projects", "--ca-bundle", str(tmp_path / "no")), 2, "(--ca-bundle): No such file or directory")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    assert invoke("projects").exit_code == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize(
    "command", [["projects"], ["projects", "--format", "jsonl"], ["--help"], ["api", "GET", "/v1/orgs"]], ids=" ".join
)
def test_full_disk(server: FakeHarness, capfd: pytest.CaptureFixture[str], command: list[str]) -> None:
    """Output that cannot be written is an error that says so."""
    with Path("/dev/full").open("w", encoding="utf-8") as stream, redirect_stdout(stream):
        assert run(command) == 1
    assert capfd.readouterr().err.startswith(
        "Error: Cannot write standard output: No space left on device.\n       Free space on the disk"
    )


@pytest.mark.parametrize(
    "command",
    [
        *(["projects"], ["export"], ["--help"], ["--version"], ["doctor", "--dry-run"], ["--show-completion", "bash"]),
        ["summary", "--demo", "--html", "/dev/stdout"],
    ],
    ids=" ".join,
)
def test_closed_pipe(server: FakeHarness, command: list[str]) -> None:
    """A reader that closes the pipe, such as head, ends the command without a message, with the code of SIGPIPE."""
    process = start(*command)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process, process.stderr:
        assert "Error" not in (errors := process.stderr.read()), errors
    assert process.returncode == 141


def test_closed_stderr(server: FakeHarness) -> None:
    """A reader that closes stderr loses the messages only: all rows are written, and the exit code is that of them."""
    process = start("export", "-v")
    assert process.stderr is not None
    process.stderr.close()
    assert process.stdout is not None
    with process, process.stdout:
        assert row_keys(json_lines(process.stdout.read())) == row_keys(server.all_executions())
    assert process.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize(("command", "code"), [("export", 0), ("nonsense", 2)])
def test_full_stderr(server: FakeHarness, command: str, code: int) -> None:
    """Messages that cannot be written are lost, and nothing else."""
    with Path("/dev/full").open("w", encoding="utf-8") as full, start(command, stderr=full) as process:
        assert process.stdout is not None
        assert len(process.stdout.readlines()) == (253 if command == "export" else 0)
    assert process.returncode == code


@posix
@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["api", "POST", "/v1/orgs", "--input", "-"], "--input is not JSON"),
        (["projects", "--api-key-file", "-"], "--api-key-file: - is empty"),
        (["summary", "-"], "No rows in stdin"),
    ],
    ids=["api", "projects", "summary"],
)
def test_closed_stdin(server: FakeHarness, command: list[str], message: str) -> None:
    """A stdin that is closed is like an empty one."""
    shell = ["sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-m", "harness_async", *command]
    done = subprocess.run(shell, capture_output=True, text=True, check=False)  # noqa: S603 - the command under test
    assert message in done.stderr


def test_fault_of_the_command(server: FakeHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected exception has no traceback and no key; -vv shows where it was raised."""

    def fail(**_: object) -> None:
        raise RuntimeError(f"broken with {server.api_key}")

    monkeypatch.setattr("harness_async.cli.connection.HarnessClient", fail)
    check_error(invoke("projects"), 1, "Error: unexpected RuntimeError: broken with ***", "This is a fault")
    assert "test_errors.py" in invoke("projects", "-vv").stderr
