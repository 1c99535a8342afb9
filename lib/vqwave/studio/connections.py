"""HTTP connections that cannot block a server: limited in number, and dropped when the client does
not send what it announced.
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
    """All open connections, in the order in which they came."""

    def connection_made(self, transport):
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        self._received = self._counted = 0
        self._awaited = self._timer = None
        same = [other for other in self.open_connections if other.address == self.address]
        if (_has_room(same, max(1, self.most_connections // 2))
                and _has_room(list(self.open_connections), self.most_connections)):
            self.open_connections[self] = None
            self._watch()
        else:
            transport.write(BUSY)
            transport.close()

    def connection_lost(self, error):
        self.open_connections.pop(self, None)
        self._stop_timer()
        super().connection_lost(error)

    def data_received(self, data):
        self._received += len(data)
        super().data_received(data)
        self._watch()

    @property
    def unfinished(self) -> bool:
        """The header of a request has not arrived."""
        return self._timer is not None and self._awaited is h11.IDLE

    def drop(self):
        self.open_connections.pop(self, None)
        self._stop_timer()
        self.transport.abort()

    def _watch(self):
        """Limit the time for the header, and then for each part of the body."""
        state = self.conn.their_state
        if state is self._awaited:
            return
        self._stop_timer()
        self._awaited, self._counted = state, self._received
        if state is h11.IDLE:
            self._timer = self.loop.call_later(limits.HEADER_SECONDS, self.drop)
        elif state is h11.SEND_BODY:
            self._timer = self.loop.call_later(limits.STALL_SECONDS, self._check_body)

    def _check_body(self):
        stalled = self._received - self._counted < limits.STALL_BYTES
        if stalled and not self.flow.read_paused:
            return self.drop()
        self._counted = self._received
        self._timer = self.loop.call_later(limits.STALL_SECONDS, self._check_body)

    def _stop_timer(self):
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None


def limited_protocol(most: int) -> type[H11Protocol]:
    """A protocol for uvicorn with at most `most` connections, half of them from one address.

    Where there are more, the oldest whose request is unfinished makes room; else the new one is
    refused.
    """
    return type("LimitedConnection", (Connection,),
                {"most_connections": most, "open_connections": {}})


def _has_room(connections, most: int) -> bool:
    """Whether one more fits, after the oldest unfinished one is dropped where it must be."""
    if len(connections) < most:
        return True
    unfinished = next((one for one in connections if one.unfinished), None)
    if unfinished:
        unfinished.drop()
    return unfinished is not None
