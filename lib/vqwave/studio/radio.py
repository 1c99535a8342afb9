"""Radio over HTTP: endless streams for any player, a page with the stations, `/healthz` and
`/metrics`.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import logging
import socket
from collections.abc import Callable, Sequence

from . import web
from .guard import HostGuard
from .stations import FORMATS, Channel, Group, Icy, Station
from .web import require_server

PORT = 8200

STALLED = 20.0
"""Seconds after which a listener that reads nothing at all is disconnected."""

LISTENERS = 4000
"""At the same time; the next one receives status 503."""

SPARE = 256
"""Connections beside the listeners: pages, metrics, and listeners that are refused."""

METRICS = (
    ("listeners", "gauge", "channel", "listeners", "Current listeners."),
    ("joined_total", "counter", "channel", "joined", "Listeners so far."),
    ("sent_bytes_total", "counter", "channel", "sent", "Bytes sent."),
    ("dropped_total", "counter", "channel", "dropped",
     "Times that a slow listener was dropped to live."),
    ("stalled_total", "counter", "channel", "stalled",
     "Listeners disconnected because they read nothing."),
    ("refused_total", "counter", "radio", "refused", "Listeners for whom there was no room."),
    ("underruns_total", "counter", "group", "underruns", "Times that music was made too late."),
    ("music_seconds_total", "counter", "group", "music", "Seconds of music made per station."),
    ("computing_seconds_total", "counter", "group", "computing",
     "Seconds that making the music took."),
)
"""Name, kind, source, attribute and description of every metric."""

POLICY = "default-src 'none'; media-src 'self'; style-src 'unsafe-inline'; base-uri 'none'"


class Radio:
    """The stations of all groups.

    make: `make(publish, say)` returns the groups; `publish` sends chunks to a channel from any
    thread, `say` reports an error. most: listeners.
    """

    def __init__(self, make: Callable[[Callable, Callable], Sequence[Group]], say=print,
                 most: int = LISTENERS):
        self.most, self.refused = most, 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self.groups = list(make(self._publish, say))
        self.stations: dict[str, Station] = {station.name: station for group in self.groups
                                             for station in group.stations}

    @property
    def channels(self) -> list[Channel]:
        return [channel for station in self.stations.values()
                for channel in station.channels.values()]

    @property
    def listeners(self) -> int:
        return sum(station.listeners for station in self.stations.values())

    def enter(self):
        """Called in the event loop that serves."""
        self._loop = asyncio.get_running_loop()

    def close(self):
        for group in self.groups:
            group.close()

    def _publish(self, channel: Channel, chunks):
        with contextlib.suppress(RuntimeError):  # the loop ended meanwhile
            self._loop.call_soon_threadsafe(channel.publish, chunks)

    def health(self) -> list[str]:
        """The errors of the groups, a line each."""
        return [f"{group.name}: {group.error}" for group in self.groups if group.error]

    def metrics(self) -> str:
        """Prometheus's text format, 0.0.4."""
        channels = [({"station": channel.station.name, "format": channel.kind}, channel)
                    for channel in self.channels]
        groups = [({"weights": group.name, "first": group.stations[0].name}, group)
                  for group in self.groups]
        sources: dict[str, list] = {"channel": channels, "group": groups, "radio": [({}, self)]}
        lines = []
        for name, kind, source, field, about in METRICS:
            lines.append(f"# HELP vqwave_radio_{name} {about}\n# TYPE vqwave_radio_{name} {kind}")
            for labels, value in sources[source]:
                text = ",".join(f'{key}="{_escape(label)}"' for key, label in labels.items())
                lines.append(f"vqwave_radio_{name}{f'{{{text}}}' if text else ''} "
                             f"{getattr(value, field)}")
        return "\n".join(lines) + "\n"

    def page(self) -> str:
        """The page with the stations."""
        rows = "".join(
            f"<article><h2>{html.escape(station.name)}</h2><p>{html.escape(station.playing)}</p>"
            f'<audio controls preload="none">'
            + "".join(f'<source src="/{station.name}.{kind}" type="{FORMATS[kind].media_type}">'
                      for kind in station.channels)
            + "</audio><p>" + " ".join(f'<a href="/{station.name}.{kind}">{kind}</a>'
                                       for kind in station.channels)
            + f" · {station.listeners} listening</p></article>"
            for station in self.stations.values())
        return ('<!doctype html><html lang="en"><meta charset="utf-8">'
                '<meta name="viewport" content="width=device-width"><title>VQWave radio</title>'
                "<style>body{font:16px system-ui;max-width:40em;margin:2em auto;padding:0 1em}"
                "audio{width:100%}</style><h1>VQWave radio</h1>" + rows)


def _escape(text) -> str:
    return str(text).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


class _Broadcast:
    """A listener of a channel, as an ASGI response. titles: send ICY metadata."""

    def __init__(self, radio: Radio, channel: Channel, titles: bool, only_head: bool):
        self.radio, self.channel, self.only_head = radio, channel, only_head
        self.icy = Icy() if titles and channel.kind == "mp3" else None

    async def __call__(self, scope, receive, send):
        station = self.channel.station
        headers = {"content-type": FORMATS[self.channel.kind].media_type,
                   "cache-control": "no-store", "x-accel-buffering": "no",
                   "access-control-allow-origin": "*", "icy-name": f"VQWave {station.name}",
                   "icy-description": station.title, "icy-br": str(station.group.bitrate // 1000)}
        if self.icy:
            headers["icy-metaint"] = str(self.icy.EVERY)
        await send({"type": "http.response.start", "status": 200, "headers": [
            (key.encode(), value.encode("ascii", "replace")) for key, value in headers.items()]})
        if self.only_head:
            return await send({"type": "http.response.body", "body": b""})
        with station.group.listening(self.channel):
            jobs = [asyncio.ensure_future(self._send(send)), asyncio.ensure_future(_gone(receive))]
            try:
                await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for job in jobs:
                    job.cancel()
                await asyncio.gather(*jobs, return_exceptions=True)

    async def _send(self, send):
        channel, number, begun = self.channel, self.channel.begin(), False
        while True:
            data, number = await channel.read(number)
            if not begun:
                data, begun = channel.header + data, True
            if self.icy:
                data = self.icy(data, channel.station.playing)
            try:
                async with asyncio.timeout(STALLED):
                    await send({"type": "http.response.body", "body": data, "more_body": True})
            except TimeoutError:
                channel.stalled += 1
                return
            channel.sent += len(data)


async def _gone(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


def build(radio: Radio, host: str = "127.0.0.1"):
    """The ASGI application for a host. Raises `UserError` where FastAPI is not installed."""
    require_server("radio")
    from fastapi import FastAPI
    from fastapi.responses import HTMLResponse, PlainTextResponse

    @contextlib.asynccontextmanager
    async def lifespan(_):
        radio.enter()
        yield

    app = FastAPI(title="VQWave radio", docs_url=None, redoc_url=None, openapi_url=None,
                  lifespan=lifespan)

    @app.get("/")
    async def page():
        return HTMLResponse(radio.page(), headers={"Content-Security-Policy": POLICY,
                                                   "Cache-Control": "no-cache"})

    @app.get("/stations")
    async def stations():
        return [{"name": station.name, "playing": station.playing, "listeners": station.listeners,
                 "streams": [f"/{station.name}.{kind}" for kind in station.channels]}
                for station in radio.stations.values()]

    @app.get("/healthz")
    async def health():
        errors = radio.health()
        return PlainTextResponse("\n".join(errors or ["ok"]) + "\n", 503 if errors else 200)

    @app.get("/metrics")
    async def metrics():
        return PlainTextResponse(radio.metrics(), media_type="text/plain; version=0.0.4")

    async def tune(request):
        name, _, kind = request.path_params["stream"].rpartition(".")
        station = radio.stations.get(name)
        if station is None or kind not in station.channels:
            return PlainTextResponse("There is no such station.", status_code=404)
        if radio.listeners >= radio.most:
            radio.refused += 1
            return PlainTextResponse("All places are taken.", status_code=503,
                                     headers={"Retry-After": "30"})
        return _Broadcast(radio, station.channels[kind],
                          request.headers.get("icy-metadata") == "1", request.method == "HEAD")

    app.add_route("/{stream}", tune, methods=["GET", "HEAD"])
    return HostGuard(app, host)


def configure(radio: Radio, host: str, **options):
    """uvicorn's configuration of a radio."""
    return web.configure(build(radio, host), radio.most + SPARE,
                         **{"access_log": False, "backlog": 2048, "timeout_graceful_shutdown": 1}
                         | options)


def run(radio: Radio, host: str = "127.0.0.1", port: int = PORT, say=print):
    """Serve until Ctrl-C or SIGTERM. Port 0 takes a free port. Raises `UserError` where it cannot
    listen there.
    """
    config = configure(radio, host)
    import uvicorn

    _raise_file_limit()
    listening = web.listen(host, port)
    with contextlib.suppress(AttributeError, OSError):
        # Bounds how long a closed connection waits for a reader that has much left to read.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1000 * STALLED))
    # Listeners are cut off at the end; players connect to the next radio by themselves.
    logging.getLogger("uvicorn.error").addFilter(
        lambda record: "graceful shutdown" not in record.getMessage())
    say(f"{len(radio.stations)} stations at http://{host}:{listening.getsockname()[1]} "
        f"(Ctrl-C ends it)")
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        pass  # uvicorn raises it once more at the end
    finally:
        listening.close()
        radio.close()


def _raise_file_limit():
    """Allow as many open files as this user may have: each listener needs one."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
