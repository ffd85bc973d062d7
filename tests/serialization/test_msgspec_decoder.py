"""Rows of a list response, and their errors, are the same with and without the extra `speed`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness_async import DecodeError, Execution, ExecutionStatus, HarnessClient
from harness_async.serialization.msgspec_decoder import decode_rows, fast_decoder
from harness_async.testing import FakeHarness

pytest.importorskip("msgspec")

FIXTURES = Path(__file__).parents[1] / "fixtures" / "list_executions"

ROW: dict[str, Any] = {
    "account": "Ab1Cd2Ef3Gh4Ij5Kl6Mn7O",
    "created": 1691150743950,
    "org": "default",
    "pipeline": "provision_network",
    "pipeline_execution_id": "k3Vb7QxRTs-9pLmZ_a1YwA",
    "pipeline_stage_id": "Zt5nW0cGQ8q2rH4uJ6yXbg",
    "project": "platform",
    "status": "success",
    "workspace": "network_prod",
}


def outcome(body: bytes, *, fast: bool) -> object:
    """Decode a body and return the rows, or what the error says."""
    try:
        return decode_rows(body, Execution, fast_decoder(Execution) if fast else None)
    except DecodeError as error:
        return DecodeError, str(error), error.path
    except ValueError as error:
        return ValueError, str(error)


MEMBERS: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.just([]) | st.just({})
)
ROWS = st.fixed_dictionaries(
    {}, optional={name: st.just(value) | MEMBERS for name, value in ROW.items()} | {"new_member": MEMBERS}
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ROWS, max_size=3) | MEMBERS)
def test_equal_results(value: object) -> None:
    """Whatever a body holds, msgspec and cattrs return equal rows or the same error."""
    body = json.dumps(value).encode()
    assert outcome(body, fast=True) == outcome(body, fast=False)


@pytest.mark.parametrize(
    "body",
    [
        *[path.read_bytes() for path in sorted(FIXTURES.glob("*.json"))],
        *[b"", b"<html>", b"null", b"[]", b"[null]", b"[1]", b"[{}]", b"\xef\xbb\xbf[]", b"[\xff]", b"[1,]", b"[NaN]"],
        b'{"rows": []}',
        json.dumps([ROW, {**ROW, "status": "brewing", "created": 10**30}]).encode(),
        json.dumps([ROW, {**ROW, "pipeline_stage_id": None}]).encode(),
        json.dumps([{**ROW, "workspace": None, "graph": {"a": [1, {"b": None}]}}]).encode(),
    ],
)
def test_equal_results_of_bodies(body: bytes) -> None:
    """Recorded bodies, and bodies that are odd or not lists, have the same result with msgspec and cattrs."""
    assert outcome(body, fast=True) == outcome(body, fast=False)


def test_msgspec_accepts_rows() -> None:
    """A page of executions is decoded by msgspec itself: known statuses are members, unknown ones are kept."""
    decode = fast_decoder(Execution)
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
    fast_decoder.cache_clear()
    try:
        assert await client.executions.list("default", "payments").collect() == expected
        assert fast_decoder(Execution) is None
    finally:
        fast_decoder.cache_clear()
