"""Which requests are answered: those to this machine's own names, from the studio's own page."""

from __future__ import annotations

import contextlib
import ipaddress
import socket

from . import limits

# The page loads nothing from elsewhere; blobs are recordings and downloads that it makes itself.
POLICY = ("default-src 'self'; img-src 'self' data:; media-src 'self' blob:; object-src 'none'; "
          "base-uri 'none'; form-action 'self'; frame-ancestors 'self'")
HEADERS = {"content-security-policy": POLICY, "referrer-policy": "no-referrer",
           "x-content-type-options": "nosniff", "cross-origin-resource-policy": "same-origin"}
UPLOADS = "/studio/recordings"


class HostGuard:
    """ASGI middleware that answers requests to this machine's own names only.

    A site whose name is made to point here would otherwise count as the server's own page. Nobody
    can make an address point elsewhere, so a server on all networks answers to every address.
    """

    headers: dict[str, str] = {}
    """Of every answer."""

    def __init__(self, app, host: str = "127.0.0.1"):
        self.app, self.names = app, {"localhost", "127.0.0.1", "[::1]"}
        self.everywhere = host in ("", "0.0.0.0", "::")  # noqa: S104
        if self.everywhere:
            host = socket.gethostname()
        self.names.add(f"[{host}]" if ":" in host else host.lower())

    def accepts(self, name: str) -> bool:
        """Whether this machine is asked for by a name of its own."""
        if self.everywhere:
            with contextlib.suppress(ValueError):
                return bool(ipaddress.ip_address(name.strip("[]")))
        return name in self.names

    def refusal(self, scope, headers) -> tuple[int, str] | None:
        """Status and message for a request that is not answered."""
        if not self.accepts(_host_name(headers.get("host", ""))):
            return 421, ("This server answers at this machine's own addresses only; --host adds "
                         "another name.")
        return None

    async def __call__(self, scope, receive, send):
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        headers = {key.decode("latin-1").lower(): value.decode("latin-1")
                   for key, value in scope["headers"]}
        if refused := self.refusal(scope, headers):
            if scope["type"] == "websocket":
                return await send({"type": "websocket.close", "code": 1008})
            return await _refuse(receive, send, *refused)

        async def send_with_headers(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *(
                    (key.encode(), value.encode()) for key, value in self.headers.items())]
            await send(message)

        await self.app(scope, self.limited(scope, receive), send_with_headers)

    def limited(self, scope, receive):
        """`receive` with a limit on what it brings."""
        return receive


class Guard(HostGuard):
    """The guard of the studio: it refuses what pages of other sites send or embed, and bodies that
    are not JSON or too long.
    """

    headers = HEADERS

    def refusal(self, scope, headers):
        if refused := super().refusal(scope, headers):
            return refused
        foreign = 403, "Another site's page may not use the studio."
        origin = headers.get("origin")
        if origin and origin.partition("://")[2] != headers.get("host"):
            return foreign
        # Any site may link to the page itself.
        site = headers.get("sec-fetch-site", "none")
        if site not in ("none", "same-origin") and scope["path"] != "/":
            return foreign
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] != UPLOADS:
            if headers.get("content-type", "").partition(";")[0] != "application/json":
                return 400, "This takes JSON."
            if headers.get("content-length", "").isdigit() and (
                    int(headers["content-length"]) > limits.REQUEST_BYTES):
                return 400, "The request is too long."
        return None

    def limited(self, scope, receive):
        if scope["path"] == UPLOADS:
            return receive
        size = 0

        async def receive_limited():
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            # A body of unknown length that is too long is cut off.
            return message if size <= limits.REQUEST_BYTES else {"type": "http.disconnect"}

        return receive_limited


async def _refuse(receive, send, status: int, words: str):
    # A connection that is closed while the request is half read is reset, and the answer is lost.
    left = limits.REFUSED_BYTES
    while left > 0 and (message := await receive())["type"] == "http.request":
        left -= len(message.get("body", b""))
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": status,
                "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": words.encode()})


def _host_name(header: str) -> str:
    """The name in a Host header, without the port."""
    name = header.lower()
    end = name.find("]") + 1 if name.startswith("[") else name.find(":")
    return name[:end] if end > 0 else name
