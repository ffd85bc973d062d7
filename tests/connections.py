"""What tests ask about the connections of a client."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from harness_async import HarnessClient
from harness_async.direct import DirectWire


def connections_in_use(client: HarnessClient) -> set[Any]:
    """Give the connections that carry a request."""
    home = client._session.sender.transport._home
    assert home is not None
    assert home.wire.connector is not None
    kept = home.wire._peers.values() if isinstance(home.wire, DirectWire) else ()
    return {*home.wire.connector._acquired} - {connection.protocol for peer in kept for connection, _ in peer.idle}


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
