"""The studio over HTTP: routes for a page's player, and the page itself mounted beside them.

Everything is served from here: the page works without a network, and a browser is told to load
    nothing from elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import json
import os
import socket
from pathlib import Path

from ..errors import UserError
from .takes import UPLOADS_BYTES, Studio

STATIC = Path(__file__).parent / "static"
PORT = 7860
CONNECTIONS = 256
"""Served at one time; one more is told that the service is unavailable."""
# Gradio's page holds inline scripts and makes functions of text; nothing comes from outside, and
# nothing goes there.
POLICY = ("default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; base-uri 'self'; "
          "form-action 'self'; frame-ancestors 'self'")


def run(studio: Studio, host: str = "127.0.0.1", port: int = PORT, say=print):
    """Serve a studio until Ctrl-C. Port 0 takes a free one. Errors: `UserError` where it cannot
    listen there.
    """
    import uvicorn

    class _Server(uvicorn.Server):
        """Ends what is being made before connections are closed: whoever listens gets an end."""

        async def shutdown(self, sockets=None):
            await asyncio.to_thread(studio.close)
            await super().shutdown(sockets)

    listening = listen(host, port)
    app = build(studio, host)
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1, limit_concurrency=CONNECTIONS)
    shown = "127.0.0.1" if host in ("0.0.0.0", "") else "[::1]" if host == "::" else host  # noqa: S104
    say(f"The studio is at http://{shown}:{listening.getsockname()[1]} (Ctrl-C ends it)")
    try:
        _Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        # How uvicorn says, when it is done, that this was why.
        pass
    finally:
        listening.close()
        studio.close()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Errors: `UserError` for a port that is taken or an address that is not
    this machine's.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM,
                                                      flags=socket.AI_PASSIVE)[0]
        listening = socket.create_server(address[:2], family=family, backlog=128)
    except (OSError, UnicodeError) as e:
        if isinstance(e, OSError) and e.errno == errno.EADDRINUSE:
            raise UserError(f"port {port} is taken, perhaps by another studio; --port 0 takes a free one") from e
        why = getattr(e, "strerror", None) or str(e)
        raise UserError(f"cannot listen on {host}:{port}: {why}") from e
    # What is sent and not yet read is what the server is ahead of a player that has enough:
    # seconds, not minutes.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
    return listening


def build(studio: Studio, host: str = "127.0.0.1"):
    """The whole ASGI application, for the `host` it listens on. Errors: `UserError` where Gradio is
    not installed.
    """
    # Before Gradio is imported: it reads these then.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["GRADIO_TEMP_DIR"] = str(studio.folder / "uploads")
    try:
        import gradio
    except ImportError as e:
        raise UserError(f"the studio needs Gradio ({e}): bash setup.sh, or pip install -e '.[app]'") from e
    from . import page
    from .takes import UPLOAD_BYTES

    app = routes(studio)
    blocks, looks = page.build(studio)
    app = gradio.mount_gradio_app(app, blocks, path="/", max_file_size=UPLOAD_BYTES, allowed_paths=[],
                                  show_error=True, footer_links=[], ssr_mode=False,
                                  favicon_path=str(STATIC / "icon.svg"), **looks)
    app.add_middleware(_Guard, host=host, uploads=studio.folder / "uploads")
    return app


def routes(studio: Studio):
    """What the player of the page asks for, under /studio."""
    import anyio
    from fastapi import FastAPI
    from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
    from fastapi.staticfiles import StaticFiles

    app = FastAPI(title="VQWave studio", docs_url=None, redoc_url=None, openapi_url=None)
    # Pulling a block keeps a thread for as long as it takes; others must still be served.
    threads = anyio.CapacityLimiter(2 * studio.streams + 4)

    async def run_in_thread(call, *arguments):
        return await anyio.to_thread.run_sync(call, *arguments, limiter=threads)

    class Frames(StreamingResponse):
        """Frames as they are made. Whoever leaves ends the making: the iterator is closed, whatever
        happens.
        """

        def __init__(self, frames):
            self.frames = frames
            super().__init__(self.body_parts(), media_type="application/octet-stream",
                             headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})

        async def body_parts(self):
            while (data := await run_in_thread(next, self.frames, None)) is not None:
                yield data

        async def __call__(self, scope, receive, send):
            try:
                await super().__call__(scope, receive, send)
            finally:
                with anyio.CancelScope(shield=True):
                    await run_in_thread(self.frames.close)

    async def read_json(request) -> dict:
        if request.headers.get("content-type", "").split(";")[0] != "application/json":
            raise UserError("This takes JSON.")
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > 1 << 16:
                raise UserError("That is too much.")
        try:
            found = json.loads(body)
        except ValueError as e:
            raise UserError("That is not JSON.") from e
        if not isinstance(found, dict):
            raise UserError("That is not an object.")
        return found

    async def perform(request):
        return Frames(studio.perform(await read_json(request)))

    async def stop(request):
        heard = (await read_json(request)).get("heard")
        if not isinstance(heard, int) or heard < 0:
            raise UserError("heard counts samples.")
        return JSONResponse(await run_in_thread(studio.stop, request.path_params["take"], heard))

    async def list_takes(request):
        asked = request.query_params.get("ids", "").split(",")[:200]
        return JSONResponse(studio.records(asked))

    async def download(request):
        take, kind = studio.take(request.path_params["take"]), request.path_params["kind"]
        path = await run_in_thread(studio.file, take.id, kind)
        return FileResponse(path, media_type=f"audio/{kind}", filename=f"{take.file_name}.{kind}")

    async def compare(request):
        return Frames(studio.compare(await read_json(request)))

    async def sound(request):
        name = request.path_params["name"]
        return FileResponse(studio.sound_path(request.path_params["comparison"], name), media_type="audio/wav",
                            filename=f"{name}.wav")

    async def colours(_):
        return JSONResponse(await run_in_thread(palettes))

    async def explain(_, error):
        return PlainTextResponse(str(error), status_code=400)

    app.add_exception_handler(UserError, explain)
    for method, path, answer in (
        ("POST", "/studio/takes", perform), ("GET", "/studio/takes", list_takes),
        ("POST", "/studio/takes/{take}/stop", stop), ("GET", "/studio/takes/{take}.{kind}", download),
        ("POST", "/studio/comparisons", compare), ("GET", "/studio/comparisons/{comparison}/{name}.wav", sound),
        ("GET", "/studio/palettes", colours),
    ):
        app.add_route(path, answer, methods=[method])
    app.mount("/studio/static", StaticFiles(directory=STATIC), name="static")
    return app


def palettes() -> dict[str, list[list[int]]]:
    """The colours of pictures, 256 times [red, green, blue]: they grow lighter evenly, so they read
    without colour.
    """
    import matplotlib
    import numpy as np

    steps = np.arange(256)
    return {name: matplotlib.colormaps[name](steps, bytes=True)[:, :3].tolist() for name in ("viridis", "magma")}


def hosts_of(host: str) -> set[str]:
    """The names under which a studio that listens on `host` is asked for; "*": every address of
    this machine too.
    """
    names = {"localhost", "127.0.0.1", "[::1]"}
    if host in ("", "0.0.0.0", "::"):  # noqa: S104
        return names | {"*", socket.gethostname().lower()}
    return names | {f"[{host}]" if ":" in host else host.lower()}


def _host_name(header: str) -> str:
    """The name in a Host header, without the port."""
    name = header.lower()
    end = name.find("]") + 1 if name.startswith("[") else name.find(":")
    return name[:end] if end > 0 else name


REFUSED_BYTES = 1 << 20
"""So much of a request that is refused is read before it is answered."""


class _Guard:
    """Answers under this machine's own names alone, refuses what other sites' pages send, bounds
    what is uploaded.

    A site whose name is made to point here would otherwise count as the page's own. Addresses
    cannot be made to, so where every network is listened on, they are all answered. Browsers are
    told to load nothing from elsewhere.
    """

    def __init__(self, app, host: str = "127.0.0.1", uploads: Path | None = None):
        self.app, self.hosts, self.uploads = app, hosts_of(host), uploads

    def knows(self, name: str) -> bool:
        if name in self.hosts:
            return True
        if "*" in self.hosts:
            with contextlib.suppress(ValueError):
                return bool(ipaddress.ip_address(name.strip("[]")))
        return False

    def refusal(self, scope, headers) -> tuple[int, str] | None:
        """Status and words where a request is not to be answered."""
        host = headers.get("host", "")
        if not self.knows(_host_name(host)):
            return 421, "The studio answers at this machine's own addresses alone; --host adds the name it is given."
        origin = headers.get("origin")
        if origin and origin.split("://")[-1] != host:
            return 403, "Another site's page may not use the studio."
        if self.uploads and scope["type"] == "http" and scope["method"] == "POST" and scope["path"].endswith("/upload"):
            kept = sum(p.stat().st_size for p in self.uploads.rglob("*") if p.is_file()) if self.uploads.is_dir() else 0
            if kept > UPLOADS_BYTES:
                return 507, "The studio's room for recordings is full: try again in an hour."
        return None

    async def __call__(self, scope, receive, send):
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        if refused := self.refusal(scope, headers):
            if scope["type"] == "websocket":
                return await send({"type": "websocket.close", "code": 1008})
            status, words = refused
            # What is closed with its request half read is reset, and the words are lost.
            left = REFUSED_BYTES
            while left > 0 and (message := await receive())["type"] == "http.request":
                left -= len(message.get("body", b""))
                if not message.get("more_body"):
                    break
            await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
            return await send({"type": "http.response.body", "body": words.encode()})

        async def send_with_policy(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"content-security-policy", POLICY.encode()),
                                      (b"referrer-policy", b"no-referrer"), (b"x-content-type-options", b"nosniff")]
            await send(message)

        await self.app(scope, receive, send_with_policy)
