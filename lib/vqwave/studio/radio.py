"""Radio over HTTP: endless streams, a page with the stations, `/healthz`. Needs FastAPI."""

import asyncio
import contextlib
import socket
from collections.abc import Sequence

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles

from . import web
from .guard import HostGuard
from .stations import FORMATS, LISTENERS, PORT, Channel, Station, StationGroup

LISTENER_STALL_SECONDS = 20.0
"""A listener that reads nothing for this long is disconnected."""
SPARE = 256
"""Connections besides the listeners: for the page, and for refused listeners."""
POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"


class Radio:
    """The stations of all groups. most: the most listeners at the same time."""

    def __init__(self, groups: Sequence[StationGroup], most: int = LISTENERS):
        self.groups, self.most = groups, most
        self.stations: dict[str, Station] = {station.number: station for group in groups
                                             for station in group.stations}

    @property
    def listeners(self) -> int:
        return sum(group.listeners for group in self.groups)

    def close(self):
        for group in self.groups:
            group.close()

    def tune_in(self, address: str, request: Request) -> Response:
        """The response to a listener. address: the number of a station and its format, `1.ogg`."""
        number, _, kind = address.rpartition(".")
        station = self.stations.get(number)
        if station is None or kind not in FORMATS:
            return PlainTextResponse("There is no such station.", status_code=404)
        if self.listeners >= self.most:
            return PlainTextResponse("The radio is full.", status_code=503,
                                     headers={"Retry-After": "30"})
        headers = {"content-type": FORMATS[kind].media_type, "cache-control": "no-store",
                   "x-accel-buffering": "no", "access-control-allow-origin": "*",
                   "icy-name": f"VQWave {station.name}"}
        if request.method == "HEAD":
            return Response(headers=headers)
        return Broadcast(station.channels[kind], headers)


class Broadcast(StreamingResponse):
    """The endless response to one listener of a channel."""

    def __init__(self, channel: Channel, headers: dict[str, str]):
        self.channel = channel
        super().__init__(self._parts(), headers=headers)

    async def _parts(self):
        data, number = await self.channel.read(self.channel.begin())
        data = self.channel.encoder.header + data
        while True:
            yield data
            data, number = await self.channel.read(number)

    async def stream_response(self, send):
        async def send_in_time(message):
            async with asyncio.timeout(LISTENER_STALL_SECONDS):
                await send(message)

        with contextlib.suppress(TimeoutError):
            await super().stream_response(send_in_time)

    async def __call__(self, scope, receive, send):
        with self.channel.station.group.listening(self.channel):
            await super().__call__(scope, receive, send)


def build(radio: Radio, host: str = "127.0.0.1"):
    """The ASGI application for a host."""
    app = FastAPI(title="VQWave radio", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/")
    async def page():
        return FileResponse(web.STATIC / "radio.html", headers={
            "Content-Security-Policy": POLICY, "Cache-Control": "no-cache"})

    @app.get("/stations")
    async def stations():
        return [{"number": station.number, "name": station.name, "about": station.about,
                 "listeners": station.listeners,
                 "streams": [f"/{station.number}.{kind}" for kind in FORMATS]}
                for station in radio.stations.values()]

    @app.get("/healthz")
    async def health():
        errors = [f"{group.name}: {group.error}" for group in radio.groups if group.error]
        return PlainTextResponse("\n".join(errors or ["ok"]) + "\n", 503 if errors else 200)

    @app.api_route("/{address}", methods=["GET", "HEAD"])
    async def listen(address: str, request: Request):
        return radio.tune_in(address, request)

    app.mount("/static", StaticFiles(directory=web.STATIC), name="static")
    return HostGuard(app, host)


def configure(radio: Radio, host: str, **options):
    """uvicorn's configuration of a radio."""
    options = {"access_log": False, "backlog": 2048, "timeout_graceful_shutdown": 1} | options
    return web.configure(build(radio, host), radio.most + SPARE, **options)


def run(radio: Radio, host: str = "127.0.0.1", port: int = PORT, say=print):
    """Serve until Ctrl-C or SIGTERM. Port 0 takes a free port. Raises as `web.listen`."""
    _raise_file_limit()
    listening = web.listen(host, port)
    with contextlib.suppress(AttributeError, OSError):
        # Limits how long a closed connection waits for a client that reads nothing.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT,
                             round(1000 * LISTENER_STALL_SECONDS))
    count = len(radio.stations)
    say(f"{count} station{'s' * (count != 1)} at {web.address(host, listening)} (Ctrl-C ends it)")
    web.serve(configure(radio, host), listening, radio.close)


def _raise_file_limit():
    """Allow as many open files as this user may have: each listener needs one."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
