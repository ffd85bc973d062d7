"""Messages: retries, and text of outside sources."""

from __future__ import annotations

import pytest
from attrs import evolve

from harness_async import PageRead, RetryPlanned
from harness_async.cli.connection import RetryNotifier
from harness_async.cli.console import sanitize


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
