"""What tests ask about the connections of a client."""

from __future__ import annotations

import ssl
from typing import Any

import aiohttp
import pytest

from harness_async import HarnessClient
from harness_async.direct import DirectWire
from harness_async.wire import SessionWire, Wire


def connections_in_use(client: HarnessClient) -> set[Any]:
    """Give the connections that carry a request."""
    wire = client._session.sender.transport.at_home().wire
    kept = wire._peers.values() if isinstance(wire, DirectWire) else ()
    return {*connector_of(wire)._acquired} - {connection.protocol for peer in kept for connection, _ in peer.idle}


def open_connections(client: HarnessClient) -> set[Any]:
    """Give the connections of a client, in use or not."""
    connector = connector_of(client._session.sender.transport.at_home().wire)
    return {*connector._acquired, *(protocol for kept in connector._conns.values() for protocol, _ in kept)}


def connector_of(wire: Wire) -> aiohttp.BaseConnector:
    """Give what opens the connections of a wire."""
    if isinstance(wire, DirectWire):
        return wire.connector
    assert isinstance(wire, SessionWire)
    assert wire._http.connector is not None
    return wire._http.connector


def anonymous_tls(protocol: int) -> ssl.SSLContext:
    """Make a TLS context that needs no certificate."""
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.set_ciphers("aNULL:@SECLEVEL=0")
    except ssl.SSLError:
        pytest.skip("this OpenSSL has no anonymous ciphers")
    return context
