"""Radio over HTTP: endless streams that any player opens, a page with the stations, and what a
machine asks: `/healthz`, `/metrics`.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import logging
import socket
from collections.abc import Callable, Sequence

from ..errors import UserError
from .stations import FORMATS, Channel, Group, Icy, Station
from .web import listen

PORT = 8200

STALLED = 20.0
"""Seconds after which a listener that reads nothing at all is disconnected."""

LISTENERS = 4000
"""At a time; one more is told that the service is unavailable."""

POLICY = "default-src 'none'; media-src 'self'; style-src 'unsafe-inline'; base-uri 'none'"


class Radio:
    """The stations of all groups; `make` is called with what publishes and what is told of errors,
    and returns the groups.
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
        """What is wrong, a line each."""
        return [f"{group.name}: {group.error}" for group in self.groups if group.error]

    def metrics(self) -> str:
        """Prometheus's text format, 0.0.4."""
        lines = []

        def add(name, kind, what, rows):
            lines.append(f"# HELP vqwave_radio_{name} {what}\n# TYPE vqwave_radio_{name} {kind}")
            for labels, value in rows:
                inside = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
                lines.append(f"vqwave_radio_{name}{f'{{{inside}}}' if inside else ''} {value}")

        def of_channels(field):
            return [({"station": one.station.name, "format": one.kind}, getattr(one, field))
                    for one in self.channels]

        def of_groups(field):
            return [({"weights": one.name, "first": one.stations[0].name}, getattr(one, field))
                    for one in self.groups]

        add("listeners", "gauge", "Who listens now.", of_channels("listeners"))
        add("joined_total", "counter", "Listeners so far.", of_channels("joined"))
        add("sent_bytes_total", "counter", "Bytes sent.", of_channels("sent"))
        add("dropped_total", "counter", "Times that a slow listener was dropped to live.",
            of_channels("dropped"))
        add("stalled_total", "counter", "Listeners disconnected because they read nothing.",
            of_channels("stalled"))
        add("refused_total", "counter", "Listeners for whom there was no room.",
            [({}, self.refused)])
        add("underruns_total", "counter", "Times that music was made too late.",
            of_groups("underruns"))
        add("music_seconds_total", "counter", "Seconds of music made, of each station.",
            of_groups("music"))
        add("computing_seconds_total", "counter", "Seconds that making it took.",
            of_groups("computing"))
        return "\n".join(lines) + "\n"

    def page(self) -> str:
        """The stations, for a browser."""
        rows = "".join(
            f"<article><h2>{html.escape(one.name)}</h2><p>{html.escape(one.playing)}</p>"
            f'<audio controls preload="none">'
            + "".join(f'<source src="/{one.name}.{kind}" type="{FORMATS[kind].media_type}">'
                      for kind in one.channels)
            + "</audio><p>" + " ".join(f'<a href="/{one.name}.{kind}">{kind}</a>'
                                       for kind in one.channels)
            + f" · {one.listeners} listening</p></article>"
            for one in self.stations.values())
        return ('<!doctype html><html lang="en"><meta charset="utf-8">'
                '<meta name="viewport" content="width=device-width"><title>VQWave radio</title>'
                "<style>body{font:16px system-ui;max-width:40em;margin:2em auto;padding:0 1em}"
                "audio{width:100%}</style><h1>VQWave radio</h1>" + rows)


def _escape(text) -> str:
    return str(text).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


class _Broadcast:
    """One listener of a channel, as an ASGI response. `titles`: it asked for ICY metadata."""

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


def build(radio: Radio):
    """The ASGI application. Raises `UserError` where FastAPI is not installed."""
    try:
        import uvicorn  # noqa: F401 - what `run` takes
        from fastapi import FastAPI
    except ImportError as e:
        raise UserError(f"radio needs FastAPI and uvicorn ({e}): bash setup.sh, or pip install "
                        f"-e '.[app]'") from e
    from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse

    @contextlib.asynccontextmanager
    async def lifespan(_):
        radio.enter()
        yield

    app = FastAPI(title="VQWave radio", docs_url=None, redoc_url=None, openapi_url=None,
                  lifespan=lifespan)

    async def tune(request):
        name, _, kind = request.path_params["what"].rpartition(".")
        station = radio.stations.get(name)
        if station is None or kind not in station.channels:
            return PlainTextResponse("There is no such station.", status_code=404)
        if radio.listeners >= radio.most:
            radio.refused += 1
            return PlainTextResponse("Everybody listens already.", status_code=503,
                                     headers={"Retry-After": "30"})
        return _Broadcast(radio, station.channels[kind],
                          request.headers.get("icy-metadata") == "1", request.method == "HEAD")

    async def page(_):
        return HTMLResponse(radio.page(), headers={"Content-Security-Policy": POLICY,
                                                   "Cache-Control": "no-cache"})

    async def stations(_):
        return JSONResponse([{"name": one.name, "playing": one.playing,
                              "listeners": one.listeners,
                              "streams": [f"/{one.name}.{kind}" for kind in one.channels]}
                             for one in radio.stations.values()])

    async def health(_):
        wrong = radio.health()
        return PlainTextResponse("\n".join(wrong or ["ok"]) + "\n", 503 if wrong else 200)

    async def metrics(_):
        return PlainTextResponse(radio.metrics(), media_type="text/plain; version=0.0.4")

    for path, answer in (("/", page), ("/stations", stations), ("/healthz", health),
                         ("/metrics", metrics)):
        app.add_route(path, answer, methods=["GET"])
    app.add_route("/{what}", tune, methods=["GET", "HEAD"])
    return app


def run(radio: Radio, host: str = "127.0.0.1", port: int = PORT, say=print):
    """Serve until Ctrl-C or SIGTERM. Port 0 takes a free one. Raises `UserError` where it cannot
    listen there.
    """
    app = build(radio)
    import uvicorn

    _allow_files()
    listening = listen(host, port)
    with contextlib.suppress(AttributeError, OSError):
        # A connection that is closed with much unread would wait for its reader: not for ever.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1000 * STALLED))
    config = uvicorn.Config(app, log_level="warning", access_log=False, backlog=2048,
                            timeout_graceful_shutdown=1)
    # Whoever still listens at the end is cut off: players come back to the next one.
    logging.getLogger("uvicorn.error").addFilter(
        lambda record: "graceful shutdown" not in record.getMessage())
    say(f"{len(radio.stations)} stations at http://{host}:{listening.getsockname()[1]} "
        f"(Ctrl-C ends it)")
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        pass  # how uvicorn says, when it is done, that this was why
    finally:
        listening.close()
        radio.close()


def _allow_files():
    """Each listener is an open file: as many as this user may have."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
