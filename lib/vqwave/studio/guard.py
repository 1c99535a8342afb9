"""Which requests are answered: those to this machine's own names, from the studio's own page."""

from __future__ import annotations

import contextlib
import ipaddress
import socket

from . import limits

# The page loads nothing from other servers; blobs are recordings and downloads of its own.
POLICY = ("default-src 'self'; img-src 'self' data:; media-src 'self' blob:; object-src 'none'; "
          "base-uri 'none'; form-action 'self'; frame-ancestors 'self'")
UPLOADS = "/studio/recordings"


class HostGuard:
    """ASGI middleware that answers requests to this machine's own names only.

    Otherwise a site could point its name to this machine, and its page would count as the server's
    own. Nobody can redirect an address, so a server on all networks answers to every address.
    """

    response_headers: dict[str, str] = {}

    def __init__(self, app, host: str = "127.0.0.1"):
        self.app, self.names = app, {"localhost", "127.0.0.1", "[::1]"}
        self.everywhere = host in ("", "0.0.0.0", "::")  # noqa: S104
        if self.everywhere:
            host = socket.gethostname()
        self.names.add(f"[{host}]" if ":" in host else host.lower())

    def accepts(self, name: str) -> bool:
        """Whether a name from a Host header is one of this machine."""
        if self.everywhere:
            with contextlib.suppress(ValueError):
                return bool(ipaddress.ip_address(name.strip("[]")))
        return name in self.names

    def refusal(self, scope, headers) -> tuple[int, str] | None:
        """Status and message for a request that is not answered."""
        host = headers.get("host", "").lower()
        name = host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
        if not self.accepts(name):
            return 421, ("This server answers at this machine's own addresses only; --host adds "
                         "another name.")
        return None

    def limit_body(self, scope, receive):
        """`receive`, with a limit on the size of the body."""
        return receive

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = {key.decode("latin-1").lower(): value.decode("latin-1")
                   for key, value in scope["headers"]}
        if refused := self.refusal(scope, headers):
            return await _refuse(receive, send, *refused)

        async def send_with_headers(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *(
                    (key.encode(), value.encode()) for key, value in self.response_headers.items())]
            await send(message)

        await self.app(scope, self.limit_body(scope, receive), send_with_headers)


class Guard(HostGuard):
    """The guard of the studio: it also refuses requests of other sites' pages, and bodies that are
    too long or not JSON.
    """

    response_headers = {"content-security-policy": POLICY, "referrer-policy": "no-referrer",
                        "x-content-type-options": "nosniff",
                        "cross-origin-resource-policy": "same-origin"}

    def refusal(self, scope, headers):
        if refused := super().refusal(scope, headers):
            return refused
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        # Any site may link to the page itself.
        if (origin and origin.partition("://")[2] != headers.get("host")
                or site not in ("none", "same-origin") and scope["path"] != "/"):
            return 403, "Another site's page may not use the studio."
        if scope["method"] == "POST" and scope["path"] != UPLOADS:
            if headers.get("content-type", "").partition(";")[0] != "application/json":
                return 400, "This takes JSON."
            size = headers.get("content-length", "")
            if size.isdigit() and int(size) > limits.REQUEST_BYTES:
                return 400, "The request is too long."
        return None

    def limit_body(self, scope, receive):
        if scope["path"] == UPLOADS:
            return receive
        size = 0

        async def receive_limited():
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            # The size of a chunked body is unknown before it has arrived.
            return message if size <= limits.REQUEST_BYTES else {"type": "http.disconnect"}

        return receive_limited


async def _refuse(receive, send, status: int, message: str):
    # If a connection is closed while a request arrives, the client never sees the response.
    left = limits.REFUSED_BYTES
    while left > 0 and (part := await receive())["type"] == "http.request":
        left -= len(part.get("body", b""))
        if not part.get("more_body"):
            break
    await send({"type": "http.response.start", "status": status,
                "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": message.encode()})
