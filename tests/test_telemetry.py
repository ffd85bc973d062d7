"""OpenTelemetry over a borrowed session: requests are traced, and the key is in no trace."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from harness_async import HarnessClient, NotFoundError, RetryPolicy
from harness_async.testing import CutBody, FakeHarness, Reset, Status, TooManyRequests
from tests.support.http import Connect

pytest.importorskip("opentelemetry.sdk.trace")
pytest.importorskip("opentelemetry.instrumentation.aiohttp_client")

from opentelemetry.instrumentation.aiohttp_client import create_trace_config
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

METHOD = ("http.method", "http.request.method")
URL = ("http.url", "url.full")
STATUS = ("http.status_code", "http.response.status_code")
"""The names of an attribute, before and after semantic conventions 1.23 of OpenTelemetry."""


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    """An exporter that keeps the finished spans."""
    return InMemorySpanExporter()


@pytest.fixture
async def client(
    exporter: InMemorySpanExporter, connect: Connect, quick: RetryPolicy, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[HarnessClient]:
    """A client over a traced session, as a user sets it up."""
    monkeypatch.delenv("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_REQUEST", raising=False)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with aiohttp.ClientSession(trace_configs=[create_trace_config(tracer_provider=provider)]) as session:
        yield connect(http_session=session, retry=quick)
    provider.shutdown()


def attribute(span: ReadableSpan, names: tuple[str, ...]) -> object:
    """Return an attribute by the name that the installed version uses."""
    attributes = span.attributes or {}
    return next((attributes[name] for name in names if name in attributes), None)


def summaries(spans: tuple[ReadableSpan, ...]) -> list[tuple[object, ...]]:
    """Return method, URL and status of each span."""
    return [tuple(attribute(span, names) for names in (METHOD, URL, STATUS)) for span in spans]


async def test_each_request_is_a_span(fake: FakeHarness, exporter: InMemorySpanExporter, client: HarnessClient) -> None:
    """A call that sends three requests has three spans, each with method, URL, status and its own trace context."""
    fake.faults.add(Status(503), times=1)
    fake.faults.add(TooManyRequests(), times=1)
    await client.organizations.get("default")
    spans = exporter.get_finished_spans()
    url = f"{fake.url}/v1/orgs/default"
    assert summaries(spans) == [("GET", url, 503), ("GET", url, 429), ("GET", url, 200)]
    assert len(spans) == len(fake.requests) == client.stats.requests
    assert {span.kind for span in spans} == {SpanKind.CLIENT}
    sent = [request.headers["traceparent"].split("-")[2] for request in fake.requests]
    assert sent == [f"{span.context.span_id:016x}" for span in spans if span.context is not None]


async def test_no_span_contains_the_key(
    fake: FakeHarness, exporter: InMemorySpanExporter, client: HarnessClient
) -> None:
    """Names, attributes and events of spans do not contain the key, whatever fails."""
    for fault in (Status(500), TooManyRequests(), Reset("before"), Reset("after_head"), CutBody()):
        fake.faults.add(fault, times=1)
    await client.organizations.get("default")
    await client.organizations.create("new", "New")
    with pytest.raises(NotFoundError):
        await client.organizations.get("nobody")
    secret = fake.api_key.split(".")[-1]
    spans = exporter.get_finished_spans()
    assert len(spans) >= 6
    assert all(request.headers["x-api-key"] == fake.api_key for request in fake.requests)
    for span in spans:
        assert secret not in span.to_json()
        assert "x-api-key" not in span.to_json().lower()
