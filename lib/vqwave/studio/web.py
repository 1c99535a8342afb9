"""The server of the studio, the radio and exported sites. The pages work without a network."""

import asyncio
import errno
import logging
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from ..errors import UserError
from . import limits, pictures
from .studio import Studio

PORT = 7860
STATIC = Path(__file__).parent / "static"
"""The pages of the studio and of the radio."""


def run(studio: Studio, host: str = "127.0.0.1", port: int = PORT, say=print):
    """Serve a studio until Ctrl-C. Port 0 takes a free port. Raises as `listen`."""
    config = configure(build(studio, host))
    listening = listen(host, port)
    say(f"The studio is at {address(host, listening)} (Ctrl-C ends it)")
    # In a thread, because the note finder takes seconds to load.
    threading.Thread(target=pictures.warm_up, daemon=True).start()
    serve(config, listening, studio.close)


def address(host: str, listening: socket.socket) -> str:
    """The address of a server for a browser on this machine."""
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"


def build(studio: Studio, host: str = "127.0.0.1"):
    """The ASGI application for a host."""
    from .guard import Guard
    from .routes import application

    return Guard(application(studio), host)


def configure(app, connections: int = limits.CONNECTIONS, **options):
    """uvicorn's configuration for an application with at most `connections` connections."""
    import uvicorn

    from .guard import Connection

    protocol: type[Connection] = type("LimitedConnection", (Connection,), {"most": connections})
    return uvicorn.Config(app, http=protocol, h11_max_incomplete_event_size=limits.REQUEST_BYTES,
                          **{"log_level": "warning", "timeout_graceful_shutdown": 3, "ws": "none"}
                          | options)


def serve(config, listening: socket.socket, close: Callable[[], None] = lambda: None):
    """Serve until Ctrl-C or SIGTERM. Calls `close` before it closes the connections, so that
    streams end properly.
    """
    import uvicorn

    class Server(uvicorn.Server):
        async def shutdown(self, sockets=None):
            # Otherwise uvicorn reports every request that is cut off.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            await asyncio.to_thread(close)
            await super().shutdown(sockets)

    try:
        Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        pass  # uvicorn raises the signal again after the shutdown
    finally:
        listening.close()
        close()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `UserError` if the port or the address cannot be used."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM,
                                                      flags=socket.AI_PASSIVE)[0]
        listening = socket.create_server(address[:2], family=family, backlog=128)
    except (OSError, UnicodeError) as e:
        if getattr(e, "errno", None) == errno.EADDRINUSE:
            raise UserError(f"port {port} is taken, perhaps by another server of VQWave; "
                            f"--port 0 takes a free port") from e
        raise UserError(f"cannot listen on {host}:{port}: "
                        f"{getattr(e, 'strerror', None) or e}") from e
    # With a small buffer the server is seconds ahead of a slow player, not minutes.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
    return listening
