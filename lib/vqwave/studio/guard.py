"""Access control and limits of the servers: hosts, origins, bodies and connections."""

import contextlib
import ipaddress
import socket
from asyncio import TimerHandle
from collections.abc import Mapping
from urllib.parse import urlsplit

import h11
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from uvicorn.protocols.http.h11_impl import H11Protocol

from . import limits

HEADERS = {
    # The page loads nothing from other servers; blobs are its own recordings and downloads.
    "content-security-policy":
        "default-src 'self'; img-src 'self' data:; media-src 'self' blob:; object-src 'none'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'self'",
    "referrer-policy": "no-referrer", "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin"}
UPLOADS = "/studio/recordings"
BUSY = (b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nRetry-After: 30\r\n"
        b"Connection: close\r\n\r\nToo many connections: try again later.")


class HostGuard:
    """ASGI middleware that only answers requests to this machine's names, against DNS rebinding: a
    foreign site's name could point here, and its page would count as the server's own. IP addresses
    cannot be redirected, so a server on all networks answers to every address.
    headers: what every response gets.
    """

    def __init__(self, app, host: str = "127.0.0.1", headers: Mapping[str, str] | None = None):
        self.app, self.headers = app, headers or {}
        self.everywhere = host in ("", "0.0.0.0", "::")  # noqa: S104
        name = socket.gethostname() if self.everywhere else host
        self.names = {"localhost", "127.0.0.1", "::1", name.lower()}

    def accepts(self, host: str) -> bool:
        """Whether a Host header, `name[:port]`, names this machine."""
        with contextlib.suppress(ValueError):
            name = urlsplit(f"//{host}").hostname or ""
            return name in self.names or self.everywhere and bool(ipaddress.ip_address(name))
        return False

    def refusal(self, scope, headers: Headers) -> tuple[int, str] | None:
        """Status and message for a refused request; None: the request is accepted."""
        if not self.accepts(headers.get("host", "")):
            return 421, ("This server answers at this machine's own addresses only; --host adds "
                         "another name.")
        return None

    async def __call__(self, scope, receive, send):
        async def send_with_headers(message):
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self.headers)
            await send(message)

        refusal = scope["type"] == "http" and self.refusal(scope, Headers(scope=scope))
        app = PlainTextResponse(refusal[1], refusal[0]) if refusal else self.app
        await app(scope, receive, send_with_headers)


class Guard(HostGuard):
    """The guard of the studio. It also refuses long bodies, and requests of other sites' pages."""

    def __init__(self, app, host: str = "127.0.0.1"):
        super().__init__(app, host, HEADERS)

    def refusal(self, scope, headers):
        if refusal := super().refusal(scope, headers):
            return refusal
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        # Any site may link to the page itself.
        if (origin and origin.partition("://")[2] != headers.get("host")
                or site not in ("none", "same-origin") and scope["path"] != "/"):
            return 403, "Another site's page may not use the studio."
        return None

    async def __call__(self, scope, receive, send):
        size = 0

        async def receive_limited():
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            # The route for recordings has its own limit.
            if size > limits.REQUEST_BYTES and scope["path"] != UPLOADS:
                raise HTTPException(400, "The request is too long.")
            return message

        await super().__call__(scope, receive_limited, send)


class Transport:
    """asyncio's transport. Its `close` drains the connection if the request is not read yet."""

    def __init__(self, transport, connection: "Connection"):
        self.transport, self.connection = transport, connection

    def __getattr__(self, name):
        return getattr(self.transport, name)

    def is_closing(self) -> bool:
        return self.connection.draining or self.transport.is_closing()

    def close(self):
        unread = self.connection.conn.their_state in (h11.SEND_BODY, h11.ERROR)
        if unread and not self.is_closing():
            self.connection.drain()
        else:
            self.transport.close()


class Connection(H11Protocol):
    """One of at most `most` connections, at most half of them from one address. At the limit, a new
    connection replaces the oldest one with an unfinished header. Slow requests are dropped.
    """

    most: int
    state: object = None
    """The state of h11 after the last data."""
    draining = False
    received = required = 0
    """Bytes so far, and the bytes that are required at the end of the timer."""
    timer: TimerHandle | None = None

    def connection_made(self, transport):
        super().connection_made(Transport(transport, self))
        self.opened = self.loop.time()
        address = self.client and self.client[0]
        if (self._make_room(max(1, self.most // 2), lambda x: x.client and x.client[0] == address)
                and self._make_room(self.most)):
            self._watch()
        else:
            transport.write(BUSY)
            self.drain()

    def _make_room(self, most: int, counts=lambda connection: True) -> bool:
        """Whether there is room for one more, if necessary after dropping an unfinished one."""
        others = [x for x in self.connections if isinstance(x, Connection)
                  and x is not self and not x.transport.is_closing() and counts(x)]
        unfinished = [x for x in others if x.state is h11.IDLE]
        if len(others) >= most and unfinished:
            min(unfinished, key=lambda x: x.opened).transport.abort()
        return len(others) < most or bool(unfinished)

    def drain(self):
        """Close after the client. A socket that closes with unread data resets the connection, and
        the client may lose the response. So drop what comes, for at most `DRAIN_SECONDS`.
        """
        draining = [x for x in self.connections if isinstance(x, Connection) and x.draining]
        if len(draining) >= self.most:
            min(draining, key=lambda x: x.opened).transport.abort()
        self.transport.write_eof()
        self.transport.resume_reading()
        self.draining, self.state = True, None
        self._set_timer(limits.DRAIN_SECONDS)

    def connection_lost(self, error):
        self._set_timer(None)
        super().connection_lost(error)

    def data_received(self, data):
        self.received += len(data)
        if self.draining:
            return
        super().data_received(data)
        self._watch()

    def _watch(self):
        """Limit the time of the header, and then of each part of the body."""
        if self.conn.their_state is not self.state:
            self.state = self.conn.their_state
            self._set_timer({h11.IDLE: limits.HEADER_SECONDS,
                             h11.SEND_BODY: limits.STALL_SECONDS}.get(self.state))

    def _set_timer(self, seconds: float | None):
        if self.timer:
            self.timer.cancel()
        self.required = self.received + limits.STALL_BYTES
        self.timer = None if seconds is None else self.loop.call_later(seconds, self._end_of_time)

    def _end_of_time(self):
        flowing = self.received >= self.required or self.flow.read_paused
        if self.state is h11.SEND_BODY and flowing:
            self._set_timer(limits.STALL_SECONDS)
        else:
            self.transport.abort()
