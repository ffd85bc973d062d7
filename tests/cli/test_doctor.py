"""`doctor`: what it finds, over real HTTP, and what it never shows."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import trustme

from harness_async.cli.doctor.probes import MAX_REQUESTS, PROBES
from harness_async.testing import (
    Body,
    ChangeJson,
    ClipPages,
    FakeHarness,
    Headers,
    PageTotals,
    Redirect,
    Reset,
    SamePage,
    SignInPage,
    Status,
    TooManyRequests,
    Totals,
    run_in_thread,
)
from tests.support.cli_http import ClosedProxy, serve
from tests.support.cli_runner import Result, invoke

ORG, PROJECT = "quaggaorg", "zebraproject"
CREATED = 1_700_000_000_000
LIST = "*/executions"


@pytest.fixture
def fake() -> FakeHarness:
    """A server, not started, with 250 executions and other rows in the last of the three projects with IaCM."""
    fake = FakeHarness(api_key="pat.Wx1Yz2Ab3Cd4Ef5Gh6Ij7K.thekey.thesecret", account_id="Wx1Yz2Ab3Cd4Ef5Gh6Ij7K")
    fake.add_organization(ORG, created=CREATED)
    fake.add_organization("other", created=CREATED + 5)
    for number in (19, 18, 17):
        fake.add_project(ORG, f"other{number}", modules=["CD"], updated=CREATED + number)
    for number in (9, 8):
        fake.add_project(ORG, f"empty{number}", modules=["IACM"], updated=CREATED + number)
    fake.add_project(ORG, PROJECT, modules=["IACM"], updated=CREATED)
    for status in ("success", "failure", "none"):
        fake.add_executions(ORG, PROJECT, 84 if status == "none" else 83, created=CREATED, status=status)
    fake.add_rows("activities", ORG, PROJECT, 3, newest=CREATED)
    fake.add_rows("pipeline_executions", ORG, PROJECT, 3, newest=CREATED)
    return fake


def examine(*arguments: str) -> tuple[Result, dict[str, tuple[str, str]], dict[str, Any]]:
    """Run the command. Return its result, the verdict and detail of each check, and the report."""
    result = invoke("doctor", "--format", "json", *arguments)
    report = json.loads(result.stdout)
    return result, {each["name"]: (each["verdict"], each["detail"]) for each in report["checks"]}, report


def test_all_is_well(server: FakeHarness) -> None:
    """Against a server with the expected habits every check is ok, and the exit code is 0."""
    result, found, report = examine()
    assert {name: verdict for name, verdict in found.items() if verdict[0] != "ok"} == {}
    assert (result.exit_code, result.stderr) == (0, "")
    assert report["requests"] == len(server.requests) <= MAX_REQUESTS
    assert found["executions"] == ("ok", "the project examined has 250 executions")


def split(request: str) -> list[str]:
    """Split a request into its path and its sorted parameters."""
    path, _, query = request.partition("?")
    return [path, *sorted(filter(None, query.split("&")))]


def is_like(one: list[str], pattern: list[str]) -> bool:
    return len(one) == len(pattern) and all(map(fnmatchcase, one, pattern))


def test_only_announced_requests_are_sent(server: FakeHarness) -> None:
    """`--dry-run` sends nothing, and lists every request that a run sends: only reads, and at most 25."""
    planned = json.loads(invoke("doctor", "--dry-run", "--format", "json").stdout)
    assert server.requests == []
    assert sum(each["times"] for each in planned) == MAX_REQUESTS == 25
    table = invoke("doctor", "--dry-run").stdout
    assert all(f"{probe.method} {probe.target}" in table for probe in PROBES)
    server.faults.add(Status(403), path="/ng/api/projects")
    assert examine()[2]["requests"] == MAX_REQUESTS
    patterns = [split(re.sub(r"\{[^}]*\}", "*", f"{each['method']} {each['target']}")) for each in planned]
    sent = [split(f"{each.method} {each.path}?{unquote(each.query_string)}") for each in server.requests]
    assert len(sent) == MAX_REQUESTS
    assert [one for one in sent if not any(is_like(one, pattern) for pattern in patterns)] == []
    posts = {each.path for each in server.requests if each.method != "GET"}
    assert posts == {"/pipeline/api/pipelines/execution/summary"}


def test_limit(server: FakeHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """No request is sent beyond the limit; what needs one is unknown."""
    monkeypatch.setattr("harness_async.cli.doctor.probes.MAX_REQUESTS", 12)
    result, found, report = examine()
    assert (result.exit_code, report["requests"], len(server.requests)) == (0, 12, 12)
    assert found["pipelines: order"][0] == "unknown"


def change_rows(change: Callable[[list[Any]], list[Any]]) -> ChangeJson:
    """Change the rows of a list of executions of pipelines."""
    return ChangeJson(lambda body: {**body, "data": {**body["data"], "content": change(body["data"]["content"])}})


def options(**values: Any) -> Callable[[FakeHarness], object]:
    def change(fake: FakeHarness) -> None:
        for name, value in values.items():
            assert hasattr(fake, name)
            setattr(fake, name, value)

    return change


def fault(kind: Any, path: str = LIST, **conditions: Any) -> Callable[[FakeHarness], object]:
    return lambda fake: fake.faults.add(kind, path=path, **conditions)


def add_equal_times(fake: FakeHarness) -> None:
    fake.order = "random_ties"
    for _ in range(50):
        fake.add_execution(ORG, PROJECT, created=CREATED + 1)


@pytest.mark.parametrize(
    ("habit", "name", "detail"),
    [
        (options(v1_max_limit=100), "v1: page of 1000, sorted", "refused: 400 INVALID_ARGUMENT"),
        (
            fault(ChangeJson(lambda body: body[::-1]), "/v1/orgs"),
            "v1: page of 1000, sorted",
            "accepted, but not sorted",
        ),
        (options(v1_over_limit="clip"), "v1: page above 1000", "accepted: the page is larger, or clipped"),
        (fault(SamePage(), "/v1/orgs"), "v1: first page", "page 1 has rows although page 0 has all"),
        (options(not_found=400), "v1: missing organization", "400 RESOURCE_NOT_FOUND_EXCEPTION"),
        (
            fault(Body(b"[]"), "/v1/orgs/*_missing/projects"),
            "v1: projects of missing org",
            "a list of 0 rows: a misspelt name is not an error",
        ),
        (fault(Status(400, envelope="legacy"), "/ng/api/projects"), "ng: account-wide projects", "400 INVALID"),
        (
            fault(change_rows(lambda rows: rows[::-1]), "/ng/api/projects"),
            "ng: account-wide projects",
            "listed in another order",
        ),
        (fault(Status(403), "*_missing/executions"), "iacm: missing project", "403"),
        (options(totals="v1"), "iacm: total headers", "x-total-elements, x-page-number, x-page-size"),
        (options(totals="none"), "iacm: total headers", "none"),
        (options(order="oldest"), "iacm: order", "oldest first"),
        (options(order="hash"), "iacm: order", "neither newest nor oldest first"),
        (add_equal_times, "iacm: stable order", "rows"),
        (fault(SamePage()), "iacm: page number", "page 2 is page 1: the number is ignored"),
        (fault(ClipPages(10)), "iacm: page of 100", "10 rows, although more follow"),
        (options(iacm_over_limit="clip"), "iacm: page above 100", "clipped to 100"),
        (options(iacm_max_limit=1000), "iacm: page above 100", "accepted: the maximum is higher than 100"),
        (fault(Totals(items=290)), "iacm: totals and rows", "50 rows where the total leaves 90"),
        (fault(PageTotals()), "iacm: past the last page", "100 rows behind the total"),
        (options(past_end=404), "iacm: past the last page", "404 not_found"),
        (options(end_time="exclusive"), "iacm: end_time", "exclusive: the execution of that millisecond does not come"),
        (options(end_time="ignored"), "iacm: end_time", "ignored: executions of other times come too"),
        (options(end_time="ignored"), "iacm: activity times", "ignored: activities of other times come too"),
        (
            fault(Body(b"[]"), when=lambda request: "status" in request.query),
            "iacm: several statuses",
            "no execution comes: not understood",
        ),
        (
            fault(Body(b"[]"), "*/activities", when=lambda request: "start_time" in request.query),
            "iacm: activity times",
            "not milliseconds: the activity of that time does not come",
        ),
        (fault(change_rows(lambda rows: rows[::-1]), "/pipeline/*"), "pipelines: order", "not as requested"),
        (
            fault(
                Status(400, envelope="legacy"), "/pipeline/*", when=lambda request: request.query["size"] == ["1000"]
            ),
            "pipelines: page of 1000",
            "refused: 400",
        ),
        (options(ceiling=None), "pipelines: past row 10,000", "accepted"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_habits(server: FakeHarness, habit: Callable[[FakeHarness], object], name: str, detail: str) -> None:
    """Each habit of the service that is not the expected one is found, and is not a failure."""
    habit(server)
    result, found, _ = examine()
    assert found[name][0] == "differs"
    assert detail in found[name][1]
    assert (result.exit_code, result.stderr) == (0, "")
    assert "failed" not in {verdict for verdict, _ in found.values()}


def test_wrong_key(server: FakeHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused key is exit code 3, and nothing is sent after the first request."""
    monkeypatch.setenv("HARNESS_API_KEY", f"pat.{server.account_id}.thekey.anothersecret")
    result, found, report = examine()
    assert (result.exit_code, report["requests"]) == (3, 1)
    assert found["service"] == ("ok", "responds: 401 INVALID_TOKEN")
    assert found["key and account"] == ("failed", "refused: 401 INVALID_TOKEN")
    assert found["iacm: order"] == ("unknown", "skipped: key and account failed")
    table = invoke("doctor")
    assert table.exit_code == 3
    assert re.search(r"^key and account failed: refused: 401 INVALID_TOKEN\n  \w", table.stdout, re.MULTILINE)
    assert "pat…cret from HARNESS_API_KEY" in table.stdout


def test_wrong_key_and_clock(server: FakeHarness) -> None:
    """A refused key decides about the exit code, whatever else fails."""
    server.faults.add(Status(401, envelope="legacy", headers={"Date": "Tue, 14 Nov 2023 22:13:20 GMT"}))
    result, found, _ = examine()
    assert (found["clock"][0], found["key and account"][0], result.exit_code) == ("failed", "failed", 3)


def test_wrong_account(server: FakeHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """An account that is not the key's is pointed out, whatever the service responds."""
    monkeypatch.setenv("HARNESS_ACCOUNT_ID", "AnotherAccountOfMine")
    result, found, _ = examine()
    assert result.exit_code == 1
    assert found["account"] == ("differs", "…Mine from HARNESS_ACCOUNT_ID; the key is of another account, …Ij7K")
    assert found["key and account"] == ("failed", "not found: 404 ENTITY_NOT_FOUND")


@pytest.mark.parametrize(
    ("variables", "arguments", "failures"),
    [
        ({"HARNESS_API_KEY": ""}, [], {"key": "neither HARNESS_PLATFORM_API_KEY nor HARNESS_API_KEY is set"}),
        (
            {"HARNESS_API_KEY": "plain", "HARNESS_ACCOUNT_ID": "", "HARNESS_BASE_URL": "ftp://x"},
            [],
            {"account": "HARNESS_ACCOUNT_ID is not set", "base URL": "must begin with https://"},
        ),
        ({"HARNESS_API_KEY": "pat.a.b.c\n"}, [], {"key": "has a line break"}),
        ({"HTTP_PROXY": "socks5://secret.example"}, [], {"proxy": "SOCKS proxies are not supported"}),
        ({"SSL_CERT_FILE": "/nowhere/secret.pem"}, [], {"certificates": "Cannot read certificates from '…'"}),
        ({}, ["--base-url", "http://example.com"], {"base URL": "would send the key unencrypted"}),
    ],
    ids=["no key", "several", "line break", "proxy", "certificates", "unencrypted"],
)
def test_configuration(
    server: FakeHarness,
    variables: dict[str, str],
    arguments: list[str],
    failures: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every setting that cannot work is named at once, with exit code 2, and nothing is sent."""
    for name, value in variables.items():
        if value:
            monkeypatch.setenv(name, value)
        else:
            monkeypatch.delenv(name)
    result, found, report = examine(*arguments)
    assert (result.exit_code, report["requests"], server.requests) == (2, 0, [])
    assert {name for name, (verdict, _) in found.items() if verdict == "failed"} == failures.keys()
    assert all(text in found[name][1] for name, text in failures.items())
    assert found["DNS"] == ("unknown", "skipped: the configuration is incomplete")
    assert "secret" not in result.stdout


def test_sources(server: FakeHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report says where each setting comes from, and which other variable is not used."""
    monkeypatch.setenv("HARNESS_PLATFORM_API_KEY", server.api_key)
    monkeypatch.setenv("HARNESS_API_KEY", "sat.Wx1Yz2Ab3Cd4Ef5Gh6Ij7K.old.oldsecret")
    monkeypatch.delenv("HARNESS_ACCOUNT_ID")
    monkeypatch.setenv("HTTP_PROXY", "http://user:secret@proxy.example:8080")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    result, found, _ = examine("--base-url", server.url)
    assert result.exit_code == 0
    assert found["key"][1] == "pat…cret from HARNESS_PLATFORM_API_KEY (before HARNESS_API_KEY, which differs)"
    assert found["account"][1] == "…Ij7K from the key"
    assert found["base URL"][1] == f"{server.url} from --base-url"
    assert found["proxy"][1] == "none: NO_PROXY excludes the host from HTTP_PROXY"


def test_unresolvable_host(monkeypatch: pytest.MonkeyPatch, fake: FakeHarness) -> None:
    """Without a network, the failure is that of DNS, and the report does not name the host."""
    monkeypatch.setenv("HARNESS_API_KEY", fake.api_key)
    monkeypatch.setenv("HARNESS_BASE_URL", "https://quagga.invalid")
    result, found, report = examine()
    assert (result.exit_code, report["requests"]) == (1, 0)
    assert found["DNS"][0] == "failed"
    assert found["DNS"][1].startswith("… cannot be resolved: ")
    assert found["service"] == ("unknown", "skipped: DNS failed")
    assert "quagga" not in result.stdout
    assert "quagga.invalid cannot be resolved" in invoke("doctor").stdout


def test_options(secure: str, unused_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The options of the connection win over the environment, and are named as the sources."""
    (tmp_path / "key").write_text(f"{os.environ['HARNESS_API_KEY']}\n")
    monkeypatch.setenv("HARNESS_API_KEY", "pat.other.other.other")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid")
    options = ["--api-key-file", f"{tmp_path / 'key'}", "--ca-bundle", f"{tmp_path / 'authority.pem'}"]
    _, found, _ = examine(*options, "--proxy", f"http://127.0.0.1:{unused_port}")
    assert found["key"] == ("ok", "pat…cret from --api-key-file")
    assert found["certificates"] == ("ok", "those of --ca-bundle")
    assert found["proxy"] == ("ok", f"http://127.0.0.1:{unused_port} from --proxy")
    assert found["proxy connection"][0] == "failed"
    monkeypatch.setenv("NO_PROXY", "*")
    result, found, _ = examine(*options)
    assert (result.exit_code, found["key and account"][0]) == (0, "ok")
    result, found, _ = examine("--api-key-file", str(tmp_path / "nokey"), "--ca-bundle", str(tmp_path / "noca"))
    assert (result.exit_code, found["key"][0], found["certificates"][0]) == (2, "failed", "failed")
    assert str(tmp_path) not in result.stdout


def test_refused_connection(server: FakeHarness, unused_port: int) -> None:
    """A host that accepts no connection is a failure of the service."""
    _, found, _ = examine("--base-url", f"https://127.0.0.1:{unused_port}")
    assert found["TLS"] == ("unknown", "no connection")
    assert found["service"][0] == "failed"
    assert "Cannot connect" in found["service"][1]


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def test_refusing_proxy(server: FakeHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that refuses the request is a failure of the proxy, not of the service."""
    with serve(ClosedProxy) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"http://user:s3cret@{proxy}")
        result, found, report = examine()
    assert (result.exit_code, report["requests"], server.requests) == (1, 1, [])
    assert found["proxy connection"][0] == "failed"
    assert "requires authentication (407)" in found["proxy connection"][1]
    assert "s3cret" not in result.stdout


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    """A private certificate authority, whose certificate is in the file authority.pem."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    return authority


@pytest.fixture
def secure(fake: FakeHarness, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of the server behind TLS with a certificate of the private authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    fake.ssl_context = context
    with run_in_thread(fake):
        monkeypatch.setenv("HARNESS_API_KEY", fake.api_key)
        monkeypatch.setenv("HARNESS_BASE_URL", fake.url)
        yield fake.url


def test_private_authority(secure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A private certificate authority is a failure with the variable to set, and none once it is set."""
    result, found, _ = examine()
    assert result.exit_code == 1
    assert found["TLS"][0] == "failed"
    assert "is not trusted" in found["TLS"][1]
    assert "set SSL_CERT_FILE to its PEM file" in invoke("doctor").stdout
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    result, found, _ = examine()
    assert result.exit_code == 0
    assert found["certificates"] == ("ok", "those of SSL_CERT_FILE")
    assert found["TLS"] == ("ok", "the certificate is trusted")


@pytest.mark.parametrize(
    ("date", "verdict", "detail"),
    [
        ("Tue, 14 Nov 2023 22:13:20 GMT", "failed", "ahead of that of the service"),
        ("Tue, 14 Nov 2223 22:13:20 GMT", "failed", "behind that of the service"),
        ("soon", "unknown", "the response has no valid Date"),
    ],
    ids=["ahead", "behind", "no date"],
)
def test_clock(server: FakeHarness, date: str, verdict: str, detail: str) -> None:
    """A clock that differs by minutes from the server's is a failure, and the other checks go on."""
    server.faults.add(Headers({"Date": date}))
    result, found, _ = examine()
    assert found["clock"][0] == verdict
    assert detail in found["clock"][1]
    assert result.exit_code == (verdict == "failed")
    assert found["iacm: order"] == ("ok", "newest first")


@pytest.mark.parametrize(
    ("kind", "detail"),
    [
        (SignInPage(), "an HTML page"),
        (Status(503), "503"),
        (TooManyRequests(), "429"),
        (Reset(), "connection was lost: [Errno"),
        (Redirect("https://elsewhere.example/"), "redirect"),
        (Body(b'{"message": "moved"}'), "The response is not a list of objects"),
    ],
    ids=["sign-in page", "unavailable", "rate limit", "reset", "redirect", "other API"],
)
def test_service_fails(server: FakeHarness, kind: Any, detail: str) -> None:
    """What responds in place of the API is a failure of the service, after one request, with advice."""
    server.faults.add(kind)
    result, found, report = examine()
    assert (result.exit_code, report["requests"]) == (1, 1)
    assert found["service"][0] == "failed"
    assert detail in found["service"][1]
    assert [each["name"] for each in report["checks"] if each["advice"]] == ["service"]


def test_failure_during_the_habits(server: FakeHarness) -> None:
    """A single error makes one habit unknown; a rate limit ends the run, which is not a failure."""
    server.faults.add(Status(403), path="*/activities")
    result, found, _ = examine()
    assert (result.exit_code, found["iacm: activity times"]) == (0, ("unknown", "403 forbidden"))
    assert found["pipelines: page of 1000"][0] == "ok"
    server.faults.add(TooManyRequests(), path="*/activities")
    server.faults.add(TooManyRequests(), path="/v1/orgs/*")
    before = len(server.requests)
    result, found, report = examine()
    assert found["v1: missing organization"] == ("unknown", "429")
    assert found["iacm: order"] == ("unknown", "skipped: v1: missing organization received an error")
    assert report["requests"] == len(server.requests) - before


def test_empty_account(fake: FakeHarness, server: FakeHarness) -> None:
    """A key that sees nothing is a failure, and what needs a project is unknown."""
    server.faults.add(Body(b"[]"), path="/v1/orgs")
    server.faults.add(change_rows(lambda _: []), path="/ng/api/projects")
    result, found, _ = examine()
    assert result.exit_code == 1
    assert found["organizations"] == ("failed", "the key sees none")
    assert found["projects"] == ("failed", "the key sees none")
    assert found["executions"] == ("unknown", "no project")
    assert found["iacm: order"] == ("unknown", "no project with executions")
    assert found["v1: missing organization"] == ("ok", "404 ENTITY_NOT_FOUND")


def test_project(server: FakeHarness) -> None:
    """`--project` names the project to examine; one without executions leaves its habits unknown."""
    _, found, report = examine("--project", f"{ORG}/{PROJECT}")
    assert found["executions"] == ("ok", "the project examined has 250 executions")
    assert report["requests"] < MAX_REQUESTS - 2
    result, found, _ = examine("--project", f"{ORG}/empty9")
    assert (result.exit_code, found["executions"][0]) == (0, "unknown")
    result, found, _ = examine("--project", f"{ORG}/typo")
    assert (result.exit_code, found["executions"]) == (1, ("failed", "404 not_found"))


def test_report_is_anonymous(server: FakeHarness) -> None:
    """The JSON has no key, account id, name or identifier of the account, whatever the service responds."""
    names = {ORG, PROJECT, "empty9", server.account_id, "thekey", "thesecret"}
    for name in ("executions", "activities", "pipeline_executions"):
        names |= {str(value) for row in server.rows(name, ORG, PROJECT) for value in row.values() if is_name(value)}
    for kind, path in [
        (Headers({}), "*"),
        (Status(400, message=f"{ORG} of {server.account_id}"), LIST),
        (Status(403, message=f"{ORG} of {server.account_id}"), "*"),
        (Status(401, message=f"{ORG} of {server.account_id}"), "*"),
        (Body(f'"{ORG}'.encode()), "*"),
    ]:
        server.faults.add(kind, path=path)
        result, _, _ = examine()
        server.faults.clear()
        assert [name for name in names if name in result.stdout] == []


def is_name(value: object) -> bool:
    return isinstance(value, str) and len(value) > 7


def test_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--demo` examines a server in this process, without any setting."""
    monkeypatch.setattr("harness_async.cli.connection._DEMO_LATENCY", 0.0)
    result, found, report = examine("--demo")
    assert (result.exit_code, {verdict for verdict, _ in found.values()}) == (0, {"ok"})
    assert report["requests"] <= MAX_REQUESTS
    assert found["demo"][1].endswith("DNS, proxy and TLS are not checked")


def test_table(server: FakeHarness) -> None:
    """The table has a line for each check, one for all that are skipped, and advice below."""
    server.order = "oldest"
    lines = invoke("doctor").stdout.splitlines()
    assert any(re.fullmatch(r"  iacm: order +differs +oldest first", line) for line in lines)
    assert lines[-1].startswith("ok: 36, differs: 1. 24 requests sent. ")
    server.faults.add(SignInPage())
    lines = invoke("doctor").stdout.splitlines()
    assert any(re.fullmatch(r"28 further checks +unknown +skipped: service failed", line) for line in lines)
    assert lines[-4].startswith("service failed: ")
    assert re.match(r"  \w", lines[-3])
