"""What tests ask about the connections of a client."""

from __future__ import annotations

from typing import Any

from harness_async import HarnessClient
from harness_async.wire import DirectWire


def connections_in_use(client: HarnessClient) -> set[Any]:
    """Give the connections that carry a request."""
    home = client._session.sender.transport._home
    assert home is not None
    assert home.wire.connector is not None
    kept = home.wire._peers.values() if isinstance(home.wire, DirectWire) else ()
    return {*home.wire.connector._acquired} - {connection.protocol for peer in kept for connection, _ in peer.idle}
