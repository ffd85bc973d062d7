"""OpenTelemetry over a session of the caller's: what is sent can be traced, and the key stays out of the traces."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

import aiohttp
import pytest

from harness_async import HarnessClient, NotFoundError, RetryPolicy
from harness_async.testing import CutBody, FakeHarness, Reset, Status, TooManyRequests

pytest.importorskip("opentelemetry.sdk.trace")
pytest.importorskip("opentelemetry.instrumentation.aiohttp_client")

from opentelemetry.instrumentation.aiohttp_client import create_trace_config
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

Connect: TypeAlias = Callable[..., HarnessClient]

METHOD = ("http.method", "http.request.method")
URL = ("http.url", "url.full")
STATUS = ("http.status_code", "http.response.status_code")
"""The names of an attribute, before and after OpenTelemetry settled them (semantic conventions 1.23)."""


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    """Keeps the spans that ended."""
    return InMemorySpanExporter()


@pytest.fixture
async def client(
    exporter: InMemorySpanExporter, connect: Connect, quick: RetryPolicy, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[HarnessClient]:
    """A client over a session that is traced, as a user would set it up."""
    monkeypatch.delenv("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_REQUEST", raising=False)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with aiohttp.ClientSession(trace_configs=[create_trace_config(tracer_provider=provider)]) as session:
        yield connect(http_session=session, retry=quick)
    provider.shutdown()


def attribute(span: ReadableSpan, names: tuple[str, ...]) -> object:
    """Give an attribute by whichever of its names the installed version uses."""
    attributes = span.attributes or {}
    return next((attributes[name] for name in names if name in attributes), None)


def server_clips(spans: tuple[ReadableSpan, ...]) -> list[tuple[object, ...]]:
    """Give method, URL and status of each span."""
    return [tuple(attribute(span, names) for names in (METHOD, URL, STATUS)) for span in spans]


async def test_each_send_is_a_span(fake: FakeHarness, exporter: InMemorySpanExporter, client: HarnessClient) -> None:
    """A call that needs three sends makes three spans, each with method, URL and status."""
    fake.faults.add(Status(503), times=1)
    fake.faults.add(TooManyRequests(), times=1)
    await client.organizations.get("default")
    spans = exporter.get_finished_spans()
    url = f"{fake.url}/v1/orgs/default"
    assert server_clips(spans) == [("GET", url, 503), ("GET", url, 429), ("GET", url, 200)]
    assert len(spans) == len(fake.requests) == client.stats.requests
    assert {span.kind for span in spans} == {SpanKind.CLIENT}
    assert len({span.context.span_id for span in spans if span.context is not None}) == 3
    assert all(span.end_time is not None for span in spans)


async def test_pages_and_errors_are_spans(
    fake: FakeHarness, exporter: InMemorySpanExporter, client: HarnessClient
) -> None:
    """Each page of a list is a span with its query, and so is a request that ends in an error."""
    rows = await client.executions.list("default", "payments", limit=2).collect()
    with pytest.raises(NotFoundError):
        await client.organizations.get("nobody")
    spans = exporter.get_finished_spans()
    assert len(rows) == 3
    assert len(spans) == len(fake.requests) == 3
    assert [status for *_, status in server_clips(spans)] == [200, 200, 404]
    urls = [str(attribute(span, URL)) for span in spans]
    assert [url.partition("?")[0].removeprefix(fake.url) for url in urls] == [request.path for request in fake.requests]
    assert [url.partition("?")[2] for url in urls] == [request.query_string for request in fake.requests]
    assert [span.status.status_code for span in spans] == [StatusCode.UNSET, StatusCode.UNSET, StatusCode.ERROR]


async def test_a_resend_of_aiohttp_is_within_its_span(
    fake: FakeHarness, exporter: InMemorySpanExporter, client: HarnessClient
) -> None:
    """What a borrowed session sends again by itself after a lost connection shares the span of the first send."""
    fake.faults.add(Reset("before"), times=1)
    await client.organizations.get("default")
    assert len(fake.requests) == 2
    assert server_clips(exporter.get_finished_spans()) == [("GET", f"{fake.url}/v1/orgs/default", 200)]


async def test_the_key_is_in_no_span(fake: FakeHarness, exporter: InMemorySpanExporter, client: HarnessClient) -> None:
    """Neither attributes nor events nor names of spans hold the key, whatever went wrong."""
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


async def test_a_trace_goes_on_at_the_server(
    fake: FakeHarness, exporter: InMemorySpanExporter, client: HarnessClient
) -> None:
    """Each send carries the trace context of its own span, resends included."""
    fake.faults.add(Status(503), times=1)
    await client.organizations.get("default")
    sent = [request.headers["traceparent"].split("-")[2] for request in fake.requests]
    spans = [span.context.span_id for span in exporter.get_finished_spans() if span.context is not None]
    assert sent == [f"{span:016x}" for span in spans]
