"""Parsing of options."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from harness_async.cli.options import RowFormat, parse_time
from harness_async.cli.writers import choose_format

NOW = datetime(2025, 3, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-01-31", "2025-01-31T00:00:00+00:00"),
        ("2025-01-31T18:00", "2025-01-31T18:00:00+00:00"),
        ("2025-01-31T18:00Z", "2025-01-31T18:00:00+00:00"),
        ("2025-01-31 18:00:00.5+01:00", "2025-01-31T17:00:00.500000+00:00"),
        (" 30m ", "2025-03-31T11:30:00+00:00"),
        ("12h", "2025-03-31T00:00:00+00:00"),
        ("7d", "2025-03-24T12:00:00+00:00"),
        ("2w", "2025-03-17T12:00:00+00:00"),
        ("0d", "2025-03-31T12:00:00+00:00"),
    ],
)
def test_time(text: str, expected: str) -> None:
    """A time is ISO 8601, in UTC if it has no zone, or an age."""
    assert parse_time(text, NOW).isoformat() == expected


@pytest.mark.parametrize(
    "text", ["", "7", "7x", "-7d", "7.5d", "d", "1700000000000", "99999999999d", "2025-13-01", "0001-01-01T00:00+01:00"]
)
def test_not_a_time(text: str) -> None:
    """Other text, milliseconds included, is rejected with the value and the accepted forms."""
    with pytest.raises(ValueError, match=r"^not a time: '.*' \(use ISO 8601 .* or an age such as 30m"):
        parse_time(text, NOW)


def test_row_format() -> None:
    """Without --format, the extension .csv in any case selects CSV, anything else JSON Lines."""
    assert choose_format(None, None) is RowFormat.JSONL
    assert choose_format(None, "rows.CSV") is RowFormat.CSV
    assert choose_format(RowFormat.JSONL, "rows.csv") is RowFormat.JSONL
