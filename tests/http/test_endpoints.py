"""Paths, query strings and headers of requests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from yarl import URL

from harness_async.http.endpoints import Endpoint, build_query
from harness_async.resources.executions import ExecutionStatus

IDENTIFIERS = st.text(min_size=1, max_size=20).filter(lambda text: text not in {".", ".."})


@pytest.mark.parametrize(
    ("identifier", "segment"),
    [
        ("k3Vb7QxRTs-9pLmZ_a1.w~", "k3Vb7QxRTs-9pLmZ_a1.w~"),
        ("-2w/../b", "-2w%2F..%2Fb"),
        ("%2e%2e", "%252e%252e"),
        ("...", "..."),
        (" ", "%20"),
        ("a?b#c", "a%3Fb%23c"),
        ("a\\b", "a%5Cb"),
        ("{org}", "%7Borg%7D"),
        ("a\r\nb\x00", "a%0D%0Ab%00"),
        ("ü" * 128, "%C3%BC" * 128),
    ],
)
def test_segments(identifier: str, segment: str) -> None:
    """An identifier becomes one segment of the path; every character that could end the segment is encoded."""
    assert Endpoint("GET", "/v1/orgs/{org}/projects").path_for(org=identifier) == f"/v1/orgs/{segment}/projects"


@settings(max_examples=30, deadline=None)
@given(IDENTIFIERS, IDENTIFIERS)
@example("-2w/../b", "%2F?#")
def test_paths_round_trip(run: str, stage: str) -> None:
    """Decoding a path segment by segment returns its identifiers, also after joining it to a base URL."""
    path = Endpoint("GET", "/executions/{run}/{stage}").path_for(run=run, stage=stage)
    url = URL(f"https://app.harness.io/gateway{path}", encoded=True)
    assert url.raw_path == str(url).removeprefix("https://app.harness.io") == f"/gateway{path}"
    segments = [unquote(segment, errors="strict") for segment in url.raw_path.split("/")]
    assert segments == ["", "gateway", "executions", run, stage]


@pytest.mark.parametrize(
    ("template", "expected"),
    [("/v1/orgs", "/v1/orgs"), ("/v1/orgs/{a}", "/v1/orgs/1%2F"), ("/{b}/{a}/{b}/x", "/2/1%2F/2/x")],
)
def test_templates(template: str, expected: str) -> None:
    """Identifiers replace their names in the template; a missing or unusable one is an error."""
    assert Endpoint("GET", template).path_for(a="1/", b="2") == expected
    with pytest.raises(ValueError, match=r"^b "):
        Endpoint("GET", "/v1/orgs/{b}").path_for(b="..")
    with pytest.raises(KeyError, match="project"):
        Endpoint("GET", template + "/{project}").path_for(a="1/", b="2")


@pytest.mark.parametrize(
    ("params", "query"),
    [
        ({}, ""),
        ({"a": None, "page": 1, "b": None}, "page=1"),
        ({"has_module": True, "x": False}, "has_module=true&x=false"),
        ({"limit": 100, "page": 0, "rate": 0.5, "search_term": ""}, "limit=100&page=0&rate=0.5&search_term="),
        ({"org": ["a", "b"], "status": ("c",), "none": []}, "org=a&org=b&status=c"),
        ({"q": "a b+c&d=e/f?g#h%,ü"}, "q=a%20b%2Bc%26d%3De%2Ff%3Fg%23h%25%2C%C3%BC"),
        ({"a b": "x"}, "a%20b=x"),
        ({"status": ExecutionStatus.SUCCESS}, "status=success"),
        ({"status": [ExecutionStatus.NONE, ExecutionStatus("odd, word")]}, "status=none&status=odd%2C%20word"),
    ],
    ids=repr,
)
def test_queries(params: dict[str, Any], query: str) -> None:
    """None is omitted, booleans are lower case, sequences repeat their key, and reserved characters are encoded."""
    assert build_query(params) == query


@pytest.mark.parametrize("value", [object, [None], [["a"]], 1j, datetime(2024, 1, 1, tzinfo=UTC), b"ab", {"a": "b"}])
def test_refused_parameters(value: Any) -> None:
    """A query value of an unsupported type is refused, and the error names the parameter."""
    with pytest.raises(TypeError, match="filter"):
        build_query({"filter": value})
