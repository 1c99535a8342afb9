"""HTTP connections that cannot block a server: their number is limited, and those that do not send
what they announced are dropped.
"""

from __future__ import annotations

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from . import limits

BUSY = (b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nRetry-After: 30\r\n"
        b"Connection: close\r\n\r\nToo many connections: try again later.")


class Connection(H11Protocol):
    """A connection among at most `most_connections`, see `limited_protocol`."""

    most_connections: int
    open_connections: dict[Connection, None]
    """All open connections, the oldest first."""

    def connection_made(self, transport):
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        self._received = self._counted = 0
        self._state = self._timer = None
        neighbours = [x for x in self.open_connections if x.address == self.address]
        if (_make_room(neighbours, max(1, self.most_connections // 2))
                and _make_room(list(self.open_connections), self.most_connections)):
            self.open_connections[self] = None
            self._watch()
        else:
            transport.write(BUSY)
            transport.close()

    def connection_lost(self, error):
        self._forget()
        super().connection_lost(error)

    def data_received(self, data):
        self._received += len(data)
        super().data_received(data)
        self._watch()

    @property
    def unfinished(self) -> bool:
        """Whether the header of its request has not arrived."""
        return self._timer is not None and self._state is h11.IDLE

    def drop(self):
        self._forget()
        self.transport.abort()

    def _forget(self):
        self.open_connections.pop(self, None)
        self._set_timer(None)

    def _watch(self):
        """Limit the time for the header, and then for each part of the body."""
        state = self.conn.their_state
        if state is self._state:
            return
        self._state, self._counted = state, self._received
        if state is h11.IDLE:
            self._set_timer(limits.HEADER_SECONDS, self.drop)
        elif state is h11.SEND_BODY:
            self._set_timer(limits.STALL_SECONDS, self._check_body)
        else:
            self._set_timer(None)

    def _check_body(self):
        stalled = self._received - self._counted < limits.STALL_BYTES
        if stalled and not self.flow.read_paused:
            return self.drop()
        self._counted = self._received
        self._set_timer(limits.STALL_SECONDS, self._check_body)

    def _set_timer(self, seconds: float | None, call=None):
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, call)


def limited_protocol(most: int) -> type[H11Protocol]:
    """A protocol of uvicorn with at most `most` connections, at most half of them from one address.

    At the limit the oldest connection with an unfinished request is dropped for a new one.
    """
    return type("LimitedConnection", (Connection,),
                {"most_connections": most, "open_connections": {}})


def _make_room(connections: list[Connection], most: int) -> bool:
    """Whether there is room for one more, if need be after dropping an unfinished one."""
    if len(connections) < most:
        return True
    unfinished = next((x for x in connections if x.unfinished), None)
    if unfinished:
        unfinished.drop()
    return unfinished is not None
