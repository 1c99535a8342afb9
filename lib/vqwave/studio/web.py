"""The studio over HTTP. The page works without a network: everything is served from here."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import threading

from ..errors import UserError
from . import limits, pictures
from .guard import Guard
from .library import Studio

PORT = 7860
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "[::1]"}  # noqa: S104
"""What to open in a browser for addresses that mean all networks."""


def run(studio: Studio, host: str = "127.0.0.1", port: int = PORT, say=print):
    """Serve a studio until Ctrl-C. Port 0 takes a free port. Raises `UserError` where it cannot
    listen there.
    """
    config = configure(build(studio, host))
    import uvicorn

    class Server(uvicorn.Server):
        """Ends the takes before the connections, so that every listener receives an end."""

        async def shutdown(self, sockets=None):
            # uvicorn would report every request that is cut off.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            await asyncio.to_thread(studio.close)
            await super().shutdown(sockets)

    listening = listen(host, port)
    say(f"The studio is at http://{EVERYWHERE.get(host, host)}:{listening.getsockname()[1]} "
        f"(Ctrl-C ends it)")
    # The note finder takes seconds to load.
    threading.Thread(target=pictures.warm_up, daemon=True).start()
    try:
        Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        pass  # uvicorn raises it once more at the end
    finally:
        listening.close()
        studio.close()


def build(studio: Studio, host: str = "127.0.0.1"):
    """The ASGI application for a host. Raises `UserError` where FastAPI is not installed."""
    require_server("the studio")
    from .routes import application

    return Guard(application(studio), host)


def require_server(what: str):
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as e:
        raise UserError(f"{what} needs FastAPI and uvicorn ({e}): bash setup.sh, or pip install "
                        f"-e '.[app]'") from e


def configure(app, most: int = limits.CONNECTIONS, **options):
    """uvicorn's configuration for an application with at most so many connections."""
    import uvicorn

    from .connections import limited_protocol

    options = {"log_level": "warning", "timeout_graceful_shutdown": 3, "ws": "none"} | options
    return uvicorn.Config(app, http=limited_protocol(most),
                          h11_max_incomplete_event_size=limits.REQUEST_BYTES, **options)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `UserError` where the port is taken, or the address is not this
    machine's.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM,
                                                      flags=socket.AI_PASSIVE)[0]
        listening = socket.create_server(address[:2], family=family, backlog=128)
    except (OSError, UnicodeError) as e:
        if isinstance(e, OSError) and e.errno == errno.EADDRINUSE:
            raise UserError(f"port {port} is taken, perhaps by another studio; --port 0 takes a "
                            f"free port") from e
        why = getattr(e, "strerror", None) or str(e)
        raise UserError(f"cannot listen on {host}:{port}: {why}") from e
    # A small buffer keeps the server seconds ahead of a slow player, not minutes.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
    return listening
