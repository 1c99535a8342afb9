"""The routes of the studio. Needs FastAPI."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated, Literal

import anyio
import matplotlib
import numpy as np
from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from ..errors import UserError
from ..io import files
from ..play.render import Finish
from . import limits
from .library import Studio
from .models import Change, CompareRequest, Count, Position, Recording, TakeRequest, explain
from .recordings import too_large

STATIC = Path(__file__).parent / "static"


def studio_of(request: Request) -> Studio:
    return request.app.state.studio


App = Annotated[Studio, Depends(studio_of)]
Seconds = Annotated[float, Query(ge=0, le=limits.LONGEST_RECORDING)]


class Frames(StreamingResponse):
    """Messages from an iterator that runs in threads; closed when the browser leaves."""

    def __init__(self, request: Request, messages):
        self.messages, self.threads = messages, request.app.state.threads
        super().__init__(self._parts(), media_type="application/octet-stream",
                         headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})

    async def _run(self, call, *arguments):
        return await anyio.to_thread.run_sync(call, *arguments, limiter=self.threads)

    async def _parts(self):
        while (data := await self._run(next, self.messages, None)) is not None:
            yield data

    async def __call__(self, scope, receive, send):
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await self._run(self.messages.close)


page = APIRouter()


@page.get("/")
def index():
    return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})


@page.get("/studio/about")
def about(studio: App):
    return studio.about()


@page.post("/studio/settings")
def settings(request: TakeRequest, studio: App):
    return studio.form(request)


@page.get("/studio/palettes")
def palettes() -> dict[str, list[list[int]]]:
    """Colour maps of even lightness: 256 times [red, green, blue]."""
    steps = np.arange(256)
    return {name: matplotlib.colormaps[name](steps, bytes=True)[:, :3].tolist()
            for name in ("viridis", "magma")}


takes = APIRouter(prefix="/studio/takes")


@takes.post("")
def perform(settings: TakeRequest, request: Request, studio: App):
    return Frames(request, studio.perform(settings))


@takes.get("")
def list_takes(studio: App, ids: str = ""):
    return studio.records(ids.split(",")[:limits.TAKES_KEPT])


@takes.post("/{take}/set")
def steer(take: str, change: Change, studio: App):
    playing = studio.takes.get(take)
    if change.until is not None:
        playing.allow(change.until)
    return playing.steer(change)


@takes.post("/{take}/stop")
def stop(take: str, heard: Position, studio: App):
    return studio.stop(take, heard.sample)


@takes.post("/{take}/passage")
def passage(take: str, end: Position, studio: App) -> Recording:
    return studio.passage(take, end.sample)


@takes.get("/{take}/frames")
def replay(take: str, request: Request, studio: App):
    return Frames(request, studio.replay(take))


@takes.get("/{take}.{kind}")
def download(take: str, kind: Literal["wav", "flac"], studio: App, loop: bool = False,
             loud: bool = False, fade: Annotated[float, Query(ge=0, le=30)] = 0,
             heard: Count = 0):
    path = studio.takes.file(take, kind, Finish(fade or None, loop, loud), heard)
    playing = studio.takes.get(take)
    name = f"{playing.settings.file_stem}-{playing.seconds:.1f}s.{kind}"
    return FileResponse(path, media_type=f"audio/{kind}", filename=name)


recordings = APIRouter(prefix="/studio")


@recordings.post("/recordings")
async def receive(request: Request, studio: App, name: str = "") -> Recording:
    name = files.printable(name)[:200] or "recording"
    path, size = studio.folder / f"upload-{secrets.token_hex(8)}", 0
    async with request.app.state.uploads:
        try:
            with open(path, "wb") as file:
                async for part in request.stream():
                    size += len(part)
                    if size > limits.UPLOAD_BYTES:
                        raise too_large(name)
                    file.write(part)
            return await anyio.to_thread.run_sync(studio.recordings.receive, path, name)
        finally:
            path.unlink(missing_ok=True)


@recordings.get("/recordings/{recording}.wav")
def excerpt(recording: str, studio: App, start: Seconds = 0,
            seconds: Annotated[float, Query(gt=0, le=limits.LONGEST_EXCERPT)]
            = limits.LONGEST_EXCERPT):
    return Response(studio.recordings.excerpt(recording, start, seconds), media_type="audio/wav")


@recordings.post("/clips/{clip}")
def take_clip(clip: str, studio: App) -> Recording:
    return studio.recordings.clip(clip)


comparisons = APIRouter(prefix="/studio/comparisons")


@comparisons.post("")
def compare(settings: CompareRequest, request: Request, studio: App):
    return Frames(request, studio.compare(settings))


@comparisons.get("/{comparison}/{name}.wav")
def sound(comparison: str, name: str, studio: App):
    return FileResponse(studio.comparisons.path(comparison, name), media_type="audio/wav",
                        filename=f"{name}.wav")


def application(studio: Studio) -> FastAPI:
    """The page and its routes. Every error that a user can cause is one line with status 400."""
    app = FastAPI(title="VQWave studio", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.studio = studio
    # A stream keeps its thread busy; other requests still need threads.
    app.state.threads = anyio.CapacityLimiter(2 * studio.takes.streams + 4)
    app.state.uploads = anyio.Semaphore(limits.UPLOADS_AT_ONCE)
    for router in (page, takes, recordings, comparisons):
        app.include_router(router)
    app.mount("/studio/static", StaticFiles(directory=STATIC), name="static")

    def refuse(message, status: int = 400):
        return PlainTextResponse(str(message), status_code=status)

    app.add_exception_handler(UserError, lambda _, error: refuse(error))
    app.add_exception_handler(ClientDisconnect, lambda _, error: refuse("The request is too long."))
    app.add_exception_handler(RequestValidationError,
                              lambda _, error: refuse(explain(error.errors()[0])))
    app.add_exception_handler(HTTPException,
                              lambda _, error: refuse(error.detail, error.status_code))
    return app
