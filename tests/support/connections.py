"""What a client holds: connections in use or pooled, and places for requests in flight."""

from __future__ import annotations

import ssl
from typing import Any

import aiohttp
import pytest

from harness_async import HarnessClient


def http_session(client: HarnessClient) -> aiohttp.ClientSession | None:
    """Return the HTTP session of a client; None before its first request."""
    return client._session.sender.transport._session


def connector_of(client: HarnessClient) -> aiohttp.BaseConnector:
    """Return the connector of a client that was used."""
    session = http_session(client)
    assert session is not None
    assert session.connector is not None
    return session.connector


def connections_in_use(client: HarnessClient) -> set[Any]:
    """Return the connections that carry a request."""
    return set(connector_of(client)._acquired)


def free_places(client: HarnessClient) -> int:
    """Return how many more requests may be in flight."""
    return client._session.sender.in_flight._value


def is_idle(client: HarnessClient) -> bool:
    """Return whether no request is in flight, none waits for its turn, and no connection is in use."""
    sender = client._session.sender
    free = free_places(client) == sender.max_in_flight
    return free and sender.pacer.waiting == 0 and not connections_in_use(client)


def anonymous_tls(protocol: int) -> ssl.SSLContext:
    """Create a TLS context that needs no certificate."""
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.set_ciphers("aNULL:@SECLEVEL=0")
    except ssl.SSLError:
        pytest.skip("this OpenSSL has no anonymous ciphers")
    return context
