"""Messages: retries, hints, and text of outside sources."""

from __future__ import annotations

import pytest
from attrs import evolve

from harness_async import (
    DeadlineExceededError,
    DecodeError,
    HarnessError,
    PageRead,
    PaginationError,
    RequestTimeoutError,
    RetryPlanned,
    TransportError,
    UnexpectedResponseError,
)
from harness_async.cli.connection import RetryNotifier
from harness_async.cli.console import sanitize
from harness_async.cli.errors import advice_for
from tests.support.cli_errors import status_error


def test_text_cannot_control_the_terminal() -> None:
    """Escape sequences and markup of outside sources are printed, not interpreted."""
    assert sanitize("\x1b[2J[red]a\u202eb").plain == "\\x1b[2J[red]a\\u202eb"


def test_repeated_retries_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """From the second retry in succession the reason is available, and printed once unless a display shows it."""
    printing, silent = RetryNotifier(), RetryNotifier(prints_note=False)
    retry = RetryPlanned(method="GET", url="https://x", attempt=1, reason="refused (GET https://x)", wait=1.0)
    for notifier in (printing, silent):
        notifier.on_event(retry)
        assert notifier.reason == ""
        notifier.on_event(retry)
        notifier.on_event(evolve(retry, reason="status 503"))
        assert str(notifier.reason) == "status 503"
    assert capsys.readouterr().err == "Retrying: refused. Press Ctrl-C to stop.\n"
    silent.on_event(PageRead(url="https://x", page=1, rows=0, total_items=None))
    assert not silent.reason


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (status_error(400), "Check the options"),
        (status_error(403), "view permission"),
        (status_error(404), "harness-async projects"),
        (status_error(409), "temporary"),
        (status_error(429), "--requests-per-minute"),
        (status_error(503), "The server failed. Run again later."),
        (DeadlineExceededError("late"), "slow or failing"),
        (RequestTimeoutError("no response in 30 s"), "No response in time"),
        (TransportError("refused"), "Check the network and the server URL"),
        (UnexpectedResponseError("HTML"), "sign-in page"),
        (DecodeError("does not fit"), "newer harness-async"),
        (PaginationError("a page again"), "Run again."),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_hint(error: HarnessError, hint: str) -> None:
    """Each error has a hint that fits it: a temporary or server error does not blame the options."""
    assert hint in advice_for(error)
