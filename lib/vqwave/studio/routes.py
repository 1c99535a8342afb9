"""The routes of the studio. Needs FastAPI."""

import secrets
from typing import Annotated, Literal

import anyio
from fastapi import APIRouter, BackgroundTasks, Body, Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from ..errors import UserError
from ..io import files
from ..play.edits import Edits
from ..play.render import Finish
from . import limits
from .requests import ChangeRequest, CompareRequest, Count, Recording, TakeRequest, explain
from .studio import Studio
from .web import STATIC

router = APIRouter()


def studio_of(request: Request) -> Studio:
    return request.app.state.studio


CurrentStudio = Annotated[Studio, Depends(studio_of)]


class Messages(StreamingResponse):
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


@router.get("/")
def index():
    return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})


@router.get("/studio/about")
def about(studio: CurrentStudio):
    return studio.about()


@router.post("/studio/settings")
def settings(request: TakeRequest, studio: CurrentStudio):
    settings, recording = studio.settings(request)
    return {"settings": settings, "recording": recording}


@router.post("/studio/takes")
def make_take(settings: TakeRequest, request: Request, studio: CurrentStudio):
    return Messages(request, studio.make_take(settings))


@router.get("/studio/takes")
def list_takes(studio: CurrentStudio, ids: str = ""):
    return studio.records(ids.split(",")[:limits.TAKES_KEPT])


@router.post("/studio/takes/{take}/edit")
def edit(take: str, edits: Annotated[Edits, Body()], request: Request, studio: CurrentStudio,
         until: Annotated[Count | None, Body()] = None):
    return Messages(request, studio.edit(take, edits, until))


@router.post("/studio/takes/{take}/set")
def steer(take: str, change: ChangeRequest, studio: CurrentStudio):
    return studio.takes.get(take).steer(change)


@router.post("/studio/takes/{take}/stop")
def stop(take: str, sample: Annotated[Count, Body(embed=True)], studio: CurrentStudio):
    return studio.stop(take, sample)


@router.get("/studio/takes/{take}/frames")
def replay(take: str, request: Request, studio: CurrentStudio):
    return Messages(request, studio.replay(take))


@router.get("/studio/takes/{take}.{kind}")
def download(take: str, kind: Literal["wav", "flac", "mid"], studio: CurrentStudio,
             afterwards: BackgroundTasks, loop: bool = False, loud: bool = False,
             fade: Annotated[float, Query(ge=0, le=30)] = 0, heard: Count = 0):
    playing = studio.takes.get(take)
    path = studio.takes.file(take, kind, Finish(fade or None, loop, loud), heard)
    afterwards.add_task(path.unlink, missing_ok=True)
    name = f"{playing.settings.file_stem}-{playing.seconds:.1f}s.{kind}"
    return FileResponse(path, media_type=f"audio/{kind.replace('mid', 'midi')}", filename=name)


@router.post("/studio/recordings")
async def receive(request: Request, studio: CurrentStudio, name: str = "") -> Recording:
    name = files.printable(name)[:200] or "recording"
    path, size = studio.folder / f"upload-{secrets.token_hex(8)}", 0
    async with request.app.state.uploads:
        try:
            with open(path, "wb") as file:
                async for part in request.stream():
                    size += len(part)
                    if size > limits.UPLOAD_BYTES:
                        raise UserError(f"{name}: larger than {limits.UPLOAD_BYTES >> 20} MB; cut "
                                        f"it, or convert it to mp3 or flac.")
                    file.write(part)
            return await anyio.to_thread.run_sync(studio.recordings.receive, path, name)
        finally:
            path.unlink(missing_ok=True)


@router.get("/studio/recordings/{recording}.wav")
def excerpt(recording: str, studio: CurrentStudio,
            start: Annotated[float, Query(ge=0, le=limits.LONGEST_RECORDING)] = 0,
            seconds: Annotated[float, Query(gt=0, le=limits.LONGEST_EXCERPT)]
            = limits.LONGEST_EXCERPT):
    return Response(studio.recordings.excerpt(recording, start, seconds), media_type="audio/wav")


@router.post("/studio/clips/{clip}")
def take_clip(clip: str, studio: CurrentStudio) -> Recording:
    return studio.recordings.clip(clip)


@router.post("/studio/comparisons")
def compare(settings: CompareRequest, request: Request, studio: CurrentStudio):
    return Messages(request, studio.compare(settings))


def application(studio: Studio) -> FastAPI:
    """The page and its routes. Every error that a user can cause is one line with status 400."""
    app = FastAPI(title="VQWave studio", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.studio = studio
    # Each stream occupies a thread, and other requests need threads too.
    app.state.threads = anyio.CapacityLimiter(2 * studio.takes.streams + 4)
    app.state.uploads = anyio.Semaphore(limits.UPLOADS_AT_ONCE)
    app.include_router(router)
    app.mount("/studio/static", StaticFiles(directory=STATIC), name="static")

    def refuse(error_class, message, status=lambda error: 400):
        app.add_exception_handler(
            error_class, lambda _, error: PlainTextResponse(message(error), status(error)))

    refuse(UserError, lambda error: studio.recordings.rename_files(str(error)))
    refuse(ClientDisconnect, lambda error: "The request was cut off.")
    refuse(RequestValidationError, lambda error: explain(error.errors()[0]))
    refuse(HTTPException, lambda error: error.detail, lambda error: error.status_code)
    return app
