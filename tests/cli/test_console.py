"""Printing of numbers, and of text from outside."""

from __future__ import annotations

import pytest

from harness_async.cli.console import format_estimate, sanitize


def test_text_cannot_control_the_terminal() -> None:
    """Escape sequences and markup of outside sources are printed, not interpreted."""
    assert sanitize("\x1b[2J[red]a\u202eb").plain == "\\x1b[2J[red]a\\u202eb"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0:00"), (59.9, "1:00"), (203, "3:25"), (760, "12:30"), (3590, "1:00 h"), (360_000, "100:00 h")],
)
def test_format_estimate(seconds: float, text: str) -> None:
    """An estimate is rounded to seconds below a minute, to 5 and 30 seconds below an hour, then to minutes."""
    assert format_estimate(seconds) == text
