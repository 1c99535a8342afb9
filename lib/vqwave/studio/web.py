"""The studio over HTTP: the page's own files, and routes for what it asks for.

Everything is served from here: the page works without a network, and a browser is told to load
    nothing from elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import json
import logging
import secrets
import socket
import threading
from pathlib import Path

from ..errors import UserError
from ..io import files
from ..play.render import Finish
from . import pictures, settings
from .takes import UPLOAD_BYTES, UPLOADS_AT_ONCE, Studio

STATIC = Path(__file__).parent / "static"
PORT = 7860
CONNECTIONS = 256
"""Served at one time; one more is told that the service is unavailable."""
REQUEST_BYTES = 2 * 2**20
"""Of a request that is no recording, and of a link: what a long take's changes need."""
# Nothing comes from outside, and nothing goes there; blobs are recordings and downloads that the
# page makes itself.
POLICY = ("default-src 'self'; img-src 'self' data:; media-src 'self' blob:; object-src 'none'; "
          "base-uri 'none'; form-action 'self'; frame-ancestors 'self'")


def run(studio: Studio, host: str = "127.0.0.1", port: int = PORT, say=print):
    """Serve a studio until Ctrl-C. Port 0 takes a free one. Raises `UserError` where it cannot
    listen there.
    """
    app = build(studio, host)
    import uvicorn

    class _Server(uvicorn.Server):
        """Ends what is being made before connections are closed: whoever listens gets an end."""

        async def shutdown(self, sockets=None):
            # Of what is cut off from here on there is nothing to say.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            await asyncio.to_thread(studio.close)
            await super().shutdown(sockets)

    listening = listen(host, port)
    everywhere = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "[::1]"}  # noqa: S104
    shown = everywhere.get(host, host)
    say(f"The studio is at http://{shown}:{listening.getsockname()[1]} (Ctrl-C ends it)")
    # What looks for notes takes seconds to load: not from the first listener's.
    threading.Thread(target=pictures.warm_up, daemon=True).start()
    try:
        _Server(configure(app)).run(sockets=[listening])
    except KeyboardInterrupt:
        # How uvicorn says, when it is done, that this was why.
        pass
    finally:
        listening.close()
        studio.close()


def configure(app):
    """How uvicorn serves an application."""
    import uvicorn

    return uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3,
                          limit_concurrency=CONNECTIONS,
                          h11_max_incomplete_event_size=REQUEST_BYTES)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `UserError` for a port that is taken or an address that is not
    this machine's.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM,
                                                      flags=socket.AI_PASSIVE)[0]
        listening = socket.create_server(address[:2], family=family, backlog=128)
    except (OSError, UnicodeError) as e:
        if isinstance(e, OSError) and e.errno == errno.EADDRINUSE:
            raise UserError(f"port {port} is taken, perhaps by another studio; --port 0 takes a "
                            f"free one") from e
        why = getattr(e, "strerror", None) or str(e)
        raise UserError(f"cannot listen on {host}:{port}: {why}") from e
    # What is sent and not yet read is what the server is ahead of a player that has enough:
    # seconds, not minutes.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
    return listening


def build(studio: Studio, host: str = "127.0.0.1"):
    """The whole ASGI application, for the `host` it listens on. Raises `UserError` where FastAPI
    is not installed.
    """
    app = routes(studio)
    app.add_middleware(_Guard, host=host)
    return app


def routes(studio: Studio):
    """The page, and what it asks for, under /studio."""
    try:
        import uvicorn  # noqa: F401 - what `run` takes
        from fastapi import FastAPI
    except ImportError as e:
        raise UserError(f"the studio needs FastAPI and uvicorn ({e}): bash setup.sh, or pip "
                        f"install -e '.[app]'") from e
    import anyio
    from fastapi.responses import (
        FileResponse,
        JSONResponse,
        PlainTextResponse,
        Response,
        StreamingResponse,
    )
    from fastapi.staticfiles import StaticFiles

    app = FastAPI(title="VQWave studio", docs_url=None, redoc_url=None, openapi_url=None)
    # Pulling a block keeps a thread for as long as it takes; others must still be served.
    threads = anyio.CapacityLimiter(2 * studio.streams + 4)
    uploads = anyio.Semaphore(UPLOADS_AT_ONCE)

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
            if len(body) > REQUEST_BYTES:
                raise UserError("That is too much.")
        try:
            found = json.loads(body)
        except ValueError as e:
            raise UserError("That is not JSON.") from e
        if not isinstance(found, dict):
            raise UserError("That is not an object.")
        return found

    def read_count(given, key) -> int:
        value = given.get(key)
        if not isinstance(value, int) or value < 0:
            raise UserError(f"{key} counts samples.")
        return value

    async def page(_):
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    async def about(_):
        return JSONResponse(await run_in_thread(studio.about))

    async def check(request):
        return JSONResponse(studio.form(await read_json(request)))

    async def perform(request):
        return Frames(studio.perform(await read_json(request)))

    async def replay(request):
        return Frames(studio.replay(request.path_params["take"]))

    async def steer(request):
        given, take = await read_json(request), studio.take(request.path_params["take"])
        answer = {}
        if "until" in given:
            take.allow(given.pop("until"))
        if given:
            answer = await run_in_thread(take.steer, given)
        return JSONResponse(answer)

    async def passage(request):
        end = read_count(await read_json(request), "end")
        return JSONResponse((await run_in_thread(studio.passage, request.path_params["take"],
                                                 end)).about)

    async def stop(request):
        heard = read_count(await read_json(request), "heard")
        return JSONResponse(await run_in_thread(studio.stop, request.path_params["take"], heard))

    async def list_takes(request):
        asked = request.query_params.get("ids", "").split(",")[:200]
        return JSONResponse(studio.records(asked))

    async def download(request):
        take, kind = studio.take(request.path_params["take"]), request.path_params["kind"]
        asked = request.query_params
        fade = settings.read_number(asked, "fade", 0, 30, 0, "The fade")
        finish = Finish(fade or None, asked.get("loop") == "1", asked.get("loud") == "1")
        heard = int(settings.read_number(asked, "heard", 0, 1 << 53, 0, "heard", whole=True))
        path = await run_in_thread(studio.file, take.id, kind, finish, heard)
        return FileResponse(path, media_type=f"audio/{kind}", filename=f"{take.file_name}.{kind}")

    async def receive(request):
        name = files.printable(request.query_params.get("name", ""))[:200] or "recording"
        path, size = studio.folder / f"upload-{secrets.token_hex(8)}", 0
        async with uploads:
            try:
                with open(path, "wb") as file:
                    async for part in request.stream():
                        size += len(part)
                        if size > UPLOAD_BYTES:
                            raise UserError(f"{name}: larger than {UPLOAD_BYTES >> 20} MB; cut it, "
                                            f"or give it as mp3 or flac.")
                        file.write(part)
                return JSONResponse((await run_in_thread(studio.receive, path, name)).about)
            finally:
                path.unlink(missing_ok=True)

    async def clip(request):
        return JSONResponse((await run_in_thread(studio.clip, request.path_params["clip"])).about)

    async def part(request):
        sound = await run_in_thread(studio.part, request.path_params["recording"],
                                    dict(request.query_params))
        return Response(sound, media_type="audio/wav")

    async def compare(request):
        return Frames(studio.compare(await read_json(request)))

    async def sound(request):
        name = request.path_params["name"]
        return FileResponse(studio.sound_path(request.path_params["comparison"], name),
                            media_type="audio/wav",
                            filename=f"{name}.wav")

    async def colours(_):
        return JSONResponse(await run_in_thread(palettes))

    async def explain(_, error):
        return PlainTextResponse(str(error), status_code=400)

    app.add_exception_handler(UserError, explain)
    for method, path, answer in (
        ("GET", "/", page), ("GET", "/studio/about", about), ("POST", "/studio/settings", check),
        ("POST", "/studio/takes", perform), ("GET", "/studio/takes", list_takes),
        ("POST", "/studio/takes/{take}/set", steer), ("POST", "/studio/takes/{take}/stop", stop),
        ("POST", "/studio/takes/{take}/passage", passage),
        ("GET", "/studio/takes/{take}/frames", replay),
        ("GET", "/studio/takes/{take}.{kind}", download),
        ("POST", "/studio/recordings", receive),
        ("GET", "/studio/recordings/{recording}.wav", part),
        ("POST", "/studio/clips/{clip}", clip),
        ("POST", "/studio/comparisons", compare),
        ("GET", "/studio/comparisons/{comparison}/{name}.wav", sound),
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
    return {name: matplotlib.colormaps[name](steps, bytes=True)[:, :3].tolist()
            for name in ("viridis", "magma")}


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
    """Answers under this machine's own names alone, and refuses what other sites' pages send.

    A site whose name is made to point here would otherwise count as the page's own. Addresses
    cannot be made to, so where every network is listened on, they are all answered. Browsers are
    told to load nothing from elsewhere.
    """

    def __init__(self, app, host: str = "127.0.0.1"):
        self.app, self.hosts = app, hosts_of(host)

    def accept(self, name: str) -> bool:
        if name in self.hosts:
            return True
        if "*" in self.hosts:
            with contextlib.suppress(ValueError):
                return bool(ipaddress.ip_address(name.strip("[]")))
        return False

    def refusal(self, headers) -> tuple[int, str] | None:
        """Status and words where a request is not to be answered."""
        host = headers.get("host", "")
        if not self.accept(_host_name(host)):
            return 421, ("The studio answers at this machine's own addresses alone; --host adds "
                         "the name it is given.")
        origin = headers.get("origin")
        if origin and origin.split("://")[-1] != host:
            return 403, "Another site's page may not use the studio."
        return None

    async def __call__(self, scope, receive, send):
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        headers = {key.decode("latin-1").lower(): value.decode("latin-1")
                   for key, value in scope["headers"]}
        if refused := self.refusal(headers):
            if scope["type"] == "websocket":
                return await send({"type": "websocket.close", "code": 1008})
            status, words = refused
            # What is closed with its request half read is reset, and the words are lost.
            left = REFUSED_BYTES
            while left > 0 and (message := await receive())["type"] == "http.request":
                left -= len(message.get("body", b""))
                if not message.get("more_body"):
                    break
            await send({"type": "http.response.start", "status": status,
                        "headers": [(b"content-type", b"text/plain")]})
            return await send({"type": "http.response.body", "body": words.encode()})

        async def send_with_policy(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()),
                                      (b"content-security-policy", POLICY.encode()),
                                      (b"referrer-policy", b"no-referrer"),
                                      (b"x-content-type-options", b"nosniff")]
            await send(message)

        await self.app(scope, receive, send_with_policy)
