"""A server for the commands, and an environment without settings of the machine."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from harness_async.testing import FakeHarness, run_in_thread

KEY = "pat.Ab1Cd2Ef3Gh4Ij5Kl6Mn7O.thekey.thesecret"
CREATED = 1_700_000_000_000


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PLATFORM_API_KEY", "API_KEY", "ACCOUNT_ID", "BASE_URL", "ENDPOINT"):
        monkeypatch.delenv(f"HARNESS_{name}", raising=False)
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.fixture
def fake() -> FakeHarness:
    """A server, not started, with three projects of 250, 3 and 0 executions."""
    fake = FakeHarness(api_key=KEY)
    fake.add_executions("default", "payments", 250, created=CREATED, status="success")
    fake.add_executions("default", "network", 3, created=CREATED, status="failure", workspace="dns_prod")
    fake.add_project("retail", "empty", modules=["IACM"])
    return fake


@pytest.fixture
def server(fake: FakeHarness, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHarness]:
    """The server `fake`, started, and the environment set to it."""
    with run_in_thread(fake):
        monkeypatch.setenv("HARNESS_API_KEY", fake.api_key)
        monkeypatch.setenv("HARNESS_ACCOUNT_ID", fake.account_id)
        monkeypatch.setenv("HARNESS_BASE_URL", fake.url)
        yield fake


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c() -> None:
    """Let commands be interrupted also where the tests run in the background, with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
