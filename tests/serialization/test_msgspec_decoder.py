"""Rows of a list response are the same with and without the extra `speed`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness_async import Execution, ExecutionStatus, HarnessClient
from harness_async.serialization.converters import parse_json, structure_rows
from harness_async.serialization.msgspec_decoder import create_rows_decoder
from harness_async.testing import FakeHarness

pytest.importorskip("msgspec")

FIXTURES = Path(__file__).parents[1] / "fixtures" / "list_executions"

ROW: dict[str, Any] = json.loads((FIXTURES / "typical.json").read_bytes())[0]


def check_equal(body: bytes) -> bool:
    """Assert that cattrs returns the rows that msgspec returns; return whether msgspec accepts the body."""
    decode = create_rows_decoder(Execution)
    assert decode is not None
    try:
        rows = decode(body)
    except Exception:  # noqa: BLE001 - cattrs decides
        return False
    assert structure_rows(parse_json(body), Execution) == (rows, [])
    return True


MEMBERS: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.just([]) | st.just({})
)
ROWS = st.fixed_dictionaries(
    {}, optional={name: st.just(value) | MEMBERS for name, value in ROW.items()} | {"new_member": MEMBERS}
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ROWS, max_size=3) | MEMBERS)
def test_equal_rows(value: object) -> None:
    """Where msgspec accepts a body, cattrs returns equal rows and reports no invalid member."""
    check_equal(json.dumps(value).encode())


@pytest.mark.parametrize(
    ("body", "accepted"),
    [
        *[(path.read_bytes(), path.stem in {"empty", "typical", "extremes"}) for path in sorted(FIXTURES.glob("*"))],
        (b"[]", True),
        (json.dumps([{**ROW, "status": "brewing", "graph": {"a": [1, {"b": None}]}}]).encode(), True),
        (b'[{"org": "a", %s]' % json.dumps(ROW).encode()[1:], True),
        *[(body, False) for body in (b"", b"<html>", b"null", b"[null]", b"[1]", b"[{}]", b"\xef\xbb\xbf[]", b"[NaN]")],
        *[(json.dumps([{**ROW, name: None}]).encode(), False) for name in ROW],
        (json.dumps([{**ROW, "created": 1.5}]).encode(), False),
    ],
)
def test_accepted_bodies(body: bytes, *, accepted: bool) -> None:
    """A well-formed page is accepted, with the rows of cattrs; everything that is odd is left to cattrs."""
    assert check_equal(body) == accepted


def test_msgspec_accepts_rows() -> None:
    """A page of executions is decoded by msgspec itself: known statuses are members, unknown ones are kept."""
    decode = create_rows_decoder(Execution)
    assert decode is not None
    known, unknown = decode(json.dumps([ROW, {**ROW, "status": "brewing"}]).encode())
    assert known == Execution(**{**ROW, "status": ExecutionStatus.SUCCESS})
    assert known.status is ExecutionStatus.SUCCESS
    assert (unknown.status, unknown.status.is_known) == ("brewing", False)
    assert "BREWING" not in ExecutionStatus.__members__


async def test_without_the_extra(fake: FakeHarness, client: HarnessClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where msgspec is not installed, lists return the same rows."""
    expected = await client.executions.list("default", "payments").collect()
    monkeypatch.setitem(sys.modules, "msgspec", None)
    create_rows_decoder.cache_clear()
    try:
        assert await client.executions.list("default", "payments").collect() == expected
        assert create_rows_decoder(Execution) is None
    finally:
        create_rows_decoder.cache_clear()
