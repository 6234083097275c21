"""The routes: what the page and every other client may ask. Thin; the work is in the modules beside this one."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, File, Header, Query, Request, UploadFile
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from restora import __version__, errors
from restora.io import READABLE, WRITABLE
from restora.studio import schemas, views
from restora.studio.catalogue import Catalogue
from restora.studio.downloads import download, named, zipped
from restora.studio.events import Events
from restora.studio.guard import Guard
from restora.studio.preview import Busy, Previewer
from restora.studio.queue import Job, Queue
from restora.studio.settings import StudioSettings
from restora.studio.store import Cache, NotFound, Store

PAGE = Path(__file__).with_name("page")
_ANSWERS = 64 << 20  # bytes of views that are kept
_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (NotFound, 404),
    (errors.UnknownModel, 404),
    (Busy, 429),
    (errors.Cancelled, 409),
    (errors.PictureTooLarge, 413),
    (errors.NotAPicture, 415),
    (errors.UnsupportedPicture, 415),
    (errors.UsageError, 400),
    (errors.PictureError, 400),
    (errors.RestoraError, 422),  # it can be asked, but not be done with this picture or on this machine
)
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.Problem, "description": text}
    for status, text in (
        (400, "The request makes no sense."),
        (401, "The token is missing."),
        (403, "The request came from another site."),
        (404, "There is no such thing."),
        (409, "Overtaken by a newer request."),
        (413, "Larger than a limit."),
        (415, "No picture that can be read."),
        (422, "It cannot be done; or the request does not fit the schema."),
        (429, "Too many requests."),
    )
}

FileId = Annotated[str, InPath(pattern=r"^[fs]-[0-9a-f]{16}$", description="id of a picture")]
JobId = Annotated[str, InPath(pattern=r"^j-[0-9a-f]{16}$", description="id of a job")]
KernelId = Annotated[str, InPath(pattern=r"^k-[0-9a-f]{16}$", description="id of a kernel")]
Coordinate = Annotated[
    int, Query(ge=0, le=10**6, description="left or upper edge of the region, in the picture's pixels")
]
Extent = Annotated[
    int | None, Query(ge=1, le=10**6, description="width or height of the region; the rest when not given")
]
Side = Annotated[int, Query(ge=1, le=4096, alias="max", description="longest side of what is returned")]
_IMAGE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {}, "image/jpeg": {}}, "description": "8-bit sRGB: PNG, or JPEG where it is reduced"}
}
_BINARY: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {}}, "description": "The file."}
}


def create_app(settings: StudioSettings) -> FastAPI:
    """The studio as an ASGI application. Its queue begins to work when the application starts."""
    store = Store(settings.folder, settings.limits, settings.share_folder)
    catalogue = Catalogue(settings.folder, settings.threads)
    events = Events()
    queue = Queue(store, catalogue, events, settings.limits, settings.workers)
    previewer = Previewer(store, catalogue, settings.limits)
    answers = Cache(_ANSWERS)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        queue.start()
        yield
        events.close()
        queue.stop()

    app = FastAPI(
        title="Restora",
        version=__version__,
        description=_ABOUT,
        lifespan=life,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        responses=_ERRORS,
    )
    app.state.queue, app.state.store, app.state.events, app.state.catalogue = queue, store, events, catalogue
    app.add_middleware(Guard, settings=settings)
    _handle_errors(app, store)

    # the server and its models

    @app.get("/api/about", tags=["studio"])
    def about() -> schemas.About:
        """Version, machine, limits, whether a token is needed."""
        limits = {name: getattr(settings.limits, name) for name in schemas.LimitsShown.model_fields}
        return schemas.About(
            version=__version__,
            cores=_cores(),
            workers=settings.workers,
            memory_bytes=_memory(),
            token_needed=settings.token is not None,
            shared_folder=settings.share_folder is not None,
            limits=schemas.LimitsShown(**limits),
            formats_read=list(READABLE),
            formats_written=list(WRITABLE),
        )

    @app.get("/api/tasks", tags=["studio"])
    def tasks() -> list[schemas.Task]:
        """What can be done."""
        return [schemas.Task(**task) for task in catalogue.tasks()]

    @app.get("/api/models", tags=["studio"])
    def models(task: Annotated[str | None, Query(max_length=40)] = None) -> list[schemas.Model]:
        """The restorers, with their controls."""
        return [schemas.Model(**model) for model in catalogue.models(task)]

    # pictures

    def file_shown(id: str, looked: bool = False) -> schemas.FileShown:
        meta = store.meta(id)
        if looked and "look" not in meta:
            from restora.studio.look import look

            found = answers.get(("look", id), lambda: (look(store.picture(id)), 1000))
            if id.startswith("f-"):
                store.update(id, look=found)
            meta = {**meta, "look": found}
        fields = {k: v for k, v in meta.items() if k in schemas.FileShown.model_fields}
        return schemas.FileShown(id=id, shared=id.startswith("s-"), **fields)

    @app.post("/api/files", tags=["pictures"])
    def upload(files: Annotated[list[UploadFile], File(description="one or more pictures")]) -> list[schemas.FileShown]:
        """Takes pictures. One that cannot be read refuses all of the request."""
        added: list[str] = []
        try:
            for file in files:
                added.append(store.add(file.file, file.filename))
            return [file_shown(id, looked=True) for id in added]
        except BaseException:
            for id in added:
                store.remove(id)
            raise

    @app.get("/api/files", tags=["pictures"])
    def files() -> list[schemas.FileShown]:
        """All pictures: uploaded ones, then those of the shared folder."""
        found = []
        for id in store.ids():
            try:
                found.append(file_shown(id))
            except errors.RestoraError:
                continue  # removed in this moment, or a file of the shared folder that is no picture
        return found

    @app.get("/api/files/{id}", tags=["pictures"])
    def file(id: FileId) -> schemas.FileShown:
        """A picture, with what the look found."""
        return file_shown(id, looked=True)

    @app.get("/api/files/{id}/image", tags=["pictures"], response_class=Response, responses=_IMAGE)
    def file_image(
        id: FileId, x: Coordinate = 0, y: Coordinate = 0, w: Extent = None, h: Extent = None, side: Side = 2048
    ) -> Response:
        """A region of a picture as a browser shows it."""
        return region_of(store.path(id), store.meta(id)["name"], x, y, w, h, side)

    @app.get("/api/files/{id}/original", tags=["pictures"], response_class=FileResponse, responses=_BINARY)
    def original(id: FileId) -> FileResponse:
        """The file as it came."""
        return download(store.path(id), store.meta(id)["name"])

    @app.delete("/api/files/{id}", tags=["pictures"])
    def remove_file(id: FileId) -> schemas.Done:
        """Forgets an uploaded picture; its jobs keep a copy."""
        store.remove(id)
        return schemas.Done()

    def region_of(path: Path, name: str, x: int, y: int, w: int | None, h: int | None, side: int) -> Response:
        stamp = path.stat().st_mtime_ns

        def make() -> tuple[tuple[bytes, str], int]:
            picture = store.open(path, name)
            region = views.Region.of(picture.width, picture.height, x, y, w, h, side)
            pixels, alpha = picture.pixels, picture.alpha
            copy_side = 2048
            times = max(picture.width, picture.height) / copy_side
            if times > 2 and max(region.w, region.h) / times >= side:  # small views of large pictures, from a copy
                pixels, alpha = store.pictures.get(("overview", path, stamp), lambda: _overview(picture))
                factors = pixels.shape[1] / picture.width, pixels.shape[0] / picture.height
                box = [max(0, round(n * f)) for n, f in zip((x, y, region.w, region.h), factors * 2, strict=True)]
                region = views.Region.of(
                    pixels.shape[1],
                    pixels.shape[0],
                    min(box[0], pixels.shape[1] - 1),
                    min(box[1], pixels.shape[0] - 1),
                    max(1, box[2]),
                    max(1, box[3]),
                    side,
                )
            body, kind = views.view(pixels, alpha, picture, region)
            return (body, kind), len(body)

        body, kind = answers.get((path, stamp, x, y, w, h, side), make)
        return Response(body, media_type=kind, headers={"Cache-Control": "private, max-age=3600"})

    # previews

    @app.post(
        "/api/previews",
        tags=["restoring"],
        response_class=Response,
        responses={
            200: {
                "content": {"image/png": {}},
                "description": "The restored crop; X-Seconds and X-Notes (JSON) say how.",
            }
        },
    )
    def preview(
        request: schemas.PreviewRequest,
        http: Request,
        client: Annotated[str | None, Header(alias="X-Client", max_length=100)] = None,
    ) -> Response:
        """Restores a part at once. A newer preview of the same client (X-Client) takes the place of one that is not done."""
        who = f"{http.client.host if http.client else '?'} {client or ''}"
        png, seconds, notes = previewer.make(who, request)
        headers = {"X-Seconds": f"{seconds:.3f}", "X-Notes": json.dumps(notes), "Cache-Control": "no-store"}
        return Response(png, media_type="image/png", headers=headers)

    # jobs

    def job_shown(job: Job) -> schemas.JobShown:
        return schemas.JobShown(**queue.shown(job))

    @app.post("/api/jobs", tags=["restoring"])
    def add_jobs(request: schemas.JobRequest) -> list[schemas.JobShown]:
        """Queues whole pictures: a job for each file and variant."""
        from restora.studio.steering import resolve

        model = catalogue.model(request.model)
        if not model["installed"]:
            raise errors.WeightsError(
                f"The weights of '{model['name']}' are not installed; `restora models get` fetches them."
            )
        restorer = catalogue.load(request.model)

        def check(controls: Any) -> tuple[Any, Any]:
            return restorer, restorer.check_controls(resolve(model, controls, store))

        variants = [{**request.controls, **v.controls} for v in request.variants] or [dict(request.controls)]
        jobs = queue.add(request.files, model, variants, request.mask, request.blend, request.format, check)
        return [job_shown(job) for job in jobs]

    @app.get("/api/jobs", tags=["restoring"])
    def jobs() -> list[schemas.JobShown]:
        """All jobs, oldest first."""
        return [schemas.JobShown(**job) for job in queue.listed()]

    @app.get("/api/jobs/{id}", tags=["restoring"])
    def job(id: JobId) -> schemas.JobShown:
        """A job."""
        return job_shown(queue.get(id))

    @app.post("/api/jobs/{id}/pause", tags=["restoring"])
    def pause(id: JobId) -> schemas.JobShown:
        """A running job stops after its tile and keeps its work; a waiting one is left out."""
        return job_shown(queue.pause(id))

    @app.post("/api/jobs/{id}/resume", tags=["restoring"])
    def resume(id: JobId) -> schemas.JobShown:
        """A paused job goes on."""
        return job_shown(queue.resume(id))

    @app.post("/api/jobs/{id}/cancel", tags=["restoring"])
    def cancel(id: JobId) -> schemas.JobShown:
        """Stops a job after its tile, or takes it out of the queue."""
        return job_shown(queue.cancel(id))

    @app.post("/api/jobs/{id}/retry", tags=["restoring"])
    def retry(id: JobId) -> schemas.JobShown:
        """A failed or cancelled job is queued again."""
        return job_shown(queue.retry(id))

    @app.delete("/api/jobs/{id}", tags=["restoring"])
    def remove_job(id: JobId) -> schemas.Done:
        """Forgets a job and its result."""
        queue.remove(id)
        return schemas.Done()

    @app.get("/api/queue", tags=["restoring"])
    def queue_shown() -> schemas.QueueShown:
        """The queue."""
        return schemas.QueueShown(**queue.summary())

    @app.post("/api/queue/pause", tags=["restoring"])
    def pause_queue() -> schemas.QueueShown:
        """Nothing begins, and what runs waits after its tile."""
        queue.hold(True)
        return schemas.QueueShown(**queue.summary())

    @app.post("/api/queue/resume", tags=["restoring"])
    def resume_queue() -> schemas.QueueShown:
        """The queue goes on."""
        queue.hold(False)
        return schemas.QueueShown(**queue.summary())

    # results

    @app.get("/api/jobs/{id}/image", tags=["results"], response_class=Response, responses=_IMAGE)
    def job_image(
        id: JobId, x: Coordinate = 0, y: Coordinate = 0, w: Extent = None, h: Extent = None, side: Side = 2048
    ) -> Response:
        """A region of the result, in its own pixels."""
        job = queue.get(id)
        return region_of(queue.result_path(job), job.name, x, y, w, h, side)

    @app.get("/api/jobs/{id}/difference", tags=["results"], response_class=Response, responses=_IMAGE)
    def difference(
        id: JobId,
        x: Coordinate = 0,
        y: Coordinate = 0,
        w: Extent = None,
        h: Extent = None,
        side: Side = 1024,
        gain: Annotated[float, Query(ge=0.1, le=100, allow_inf_nan=False)] = 4.0,
    ) -> Response:
        """Result minus input in a region of the result, `gain` times, around grey."""
        import cv2

        job = queue.get(id)
        result, given = queue.picture(job), store.open(queue.input_path(job), job.name)
        region = views.Region.of(result.width, result.height, x, y, w, h, side)
        after = views.shown(result.pixels, None, result, region)
        before = _same_part(given, result, region)
        before = cv2.resize(before, after.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        body, kind = views.encoded(views.difference(before, after, gain), lossless=max(after.shape) <= 512)
        return Response(body, media_type=kind)

    @app.get("/api/jobs/{id}/result", tags=["results"], response_class=FileResponse, responses=_BINARY)
    def result(id: JobId) -> FileResponse:
        """The result as a file; its metadata say what it was restored with."""
        job = queue.get(id)
        path = queue.result_path(job)
        return download(path, job.result["name"] if job.result else path.name)

    @app.post(
        "/api/downloads",
        tags=["results"],
        response_class=StreamingResponse,
        responses={200: {"content": {"application/zip": {}}, "description": "The results in one archive."}},
    )
    def downloads(request: schemas.DownloadRequest) -> StreamingResponse:
        """Several results in one archive, made while it is sent."""
        found = []
        for id in dict.fromkeys(request.jobs):
            job = queue.get(id)
            path = queue.result_path(job)
            found.append((path, job.result["name"] if job.result else path.name))
        return StreamingResponse(zipped(found), media_type="application/zip", headers=named("restored.zip"))

    @app.get("/api/jobs/{id}/trust", tags=["results"])
    def trusted(id: JobId) -> schemas.Trust:
        """How far the result can be trusted."""
        from restora.studio import trust

        return schemas.Trust(**trust.measure(queue, queue.get(id)))

    @app.get("/api/jobs/{id}/trust/map", tags=["results"], response_class=Response, responses=_IMAGE)
    def trust_map(id: JobId, side: Side = 1024) -> Response:
        """Where the result has detail that the input does not confirm, of the region that `trust` names."""
        from restora.studio import trust

        job = queue.get(id)
        key = ("map", queue.result_path(job), queue.result_path(job).stat().st_mtime_ns, side)

        def make() -> tuple[tuple[bytes, str], int]:
            answer = views.encoded(trust.map_of(queue, job, side))
            return answer, len(answer[0])

        body, kind = answers.get(key, make)
        return Response(body, media_type=kind)

    # masks and kernels

    @app.post("/api/masks", tags=["steering"])
    def add_mask(
        file: Annotated[UploadFile, File(description="a grey picture, PNG best; white is where the restoration acts")],
    ) -> schemas.MaskShown:
        """Takes a mask; any size, it is laid over the picture."""
        id, width, height = store.add_mask(file.file)
        return schemas.MaskShown(id=id, width=width, height=height)

    @app.get("/api/masks/{id}/image", tags=["steering"], response_class=FileResponse, responses=_IMAGE)
    def mask_image(id: Annotated[str, InPath(pattern=r"^m-[0-9a-f]{16}$")]) -> FileResponse:
        """A mask as PNG."""
        return FileResponse(store.mask_path(id), media_type="image/png", headers=named(f"mask_{id[2:]}.png"))

    @app.post("/api/kernels", tags=["steering"])
    def add_kernel(request: schemas.KernelRequest) -> schemas.KernelShown:
        """Makes a kernel from a formula, numbers, a drawing, a motion, or by an estimate from a picture (which takes a while)."""
        from restora.studio import kernels

        return schemas.KernelShown(**kernels.make(request, store))

    @app.get("/api/kernels/{id}", tags=["steering"])
    def kernel(id: KernelId) -> schemas.KernelShown:
        """A kernel."""
        from restora.studio import kernels

        return schemas.KernelShown(**kernels.shown(id, store))

    @app.get("/api/kernels/{id}/image", tags=["steering"], response_class=Response, responses=_IMAGE)
    def kernel_image(id: KernelId, side: Side = 256) -> Response:
        """A kernel as a picture, enlarged by whole pixels."""
        from restora.studio import kernels

        body, kind = views.encoded(kernels.picture_of(id, store, side))
        return Response(body, media_type=kind)

    @app.get("/api/kernels/{id}/file", tags=["steering"], response_class=Response, responses=_BINARY)
    def kernel_file(id: KernelId) -> Response:
        """A kernel as .npy, for the command line and Python."""
        from restora.studio import kernels

        return Response(
            kernels.as_file(id, store), media_type="application/octet-stream", headers=named(f"kernel_{id[2:]}.npy")
        )

    # news and descriptions

    @app.get(
        "/api/events",
        tags=["studio"],
        response_class=StreamingResponse,
        responses={
            200: {"content": {"text/event-stream": {}}, "description": "Server-sent events: job, removed, queue."}
        },
    )
    async def news() -> StreamingResponse:
        """What changes, as it changes."""
        return StreamingResponse(events.listen(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    @app.get("/api/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        from restora.studio.reference import page

        return HTMLResponse(page(app.openapi()))

    if PAGE.is_dir():
        app.mount("/", StaticFiles(directory=PAGE, html=True), name="page")
    else:

        @app.get("/", include_in_schema=False)
        def nothing() -> PlainTextResponse:
            return PlainTextResponse(
                "The studio's page is not installed; the REST interface is described at /api/docs."
            )

    return app


_ABOUT = """The engine of Restora over HTTP. Send a picture to `/api/files`, ask for previews of parts at `/api/previews`, queue
whole pictures at `/api/jobs`, listen at `/api/events`, take results from `/api/jobs/{id}/result`. Every error is
`{"error": "one sentence"}`. A studio that others can reach wants its token as `Authorization: Bearer TOKEN`."""


def _handle_errors(app: FastAPI, store: Store) -> None:
    def answer(status: int, sentence: str) -> JSONResponse:
        headers = {"Retry-After": "2"} if status == 429 else None
        return JSONResponse({"error": store.scrub(sentence)}, status, headers)

    @app.exception_handler(errors.RestoraError)
    def of_ours(_: Request, error: Exception) -> JSONResponse:
        return answer(next(status for kind, status in _STATUS if isinstance(error, kind)), str(error))

    @app.exception_handler(RequestValidationError)
    def misfit(_: Request, error: Exception) -> JSONResponse:
        first = error.errors()[0]  # type: ignore[attr-defined]
        place = ".".join(str(part) for part in first["loc"] if part != "body")
        return answer(422, f"{place[:100] or 'The request'}: {first['msg']}.")

    @app.exception_handler(HTTPException)
    def of_the_framework(_: Request, error: Exception) -> JSONResponse:
        status = error.status_code  # type: ignore[attr-defined]
        sentences = {404: "There is nothing at this address.", 405: "This address does not take that method."}
        response = answer(status, sentences.get(status, f"{error.detail}."))  # type: ignore[attr-defined]
        response.headers.update(getattr(error, "headers", None) or {})
        return response

    @app.exception_handler(FileNotFoundError)
    def vanished(_: Request, error: Exception) -> JSONResponse:
        return answer(404, "It was removed in this moment.")

    @app.exception_handler(MemoryError)
    def too_much(_: Request, error: Exception) -> JSONResponse:
        return answer(413, "There is not enough memory for this on the server.")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def _overview(picture: Any) -> tuple[Any, int]:
    pixels = views.overview(picture.pixels)
    alpha = None if picture.alpha is None else views.overview(picture.alpha[..., None])[..., 0]
    return (pixels, alpha), pixels.nbytes + (0 if alpha is None else alpha.nbytes)


def _same_part(given: Any, result: Any, region: views.Region) -> Any:
    """What the input shows where the region of the result lies, at least as large as the region is shown."""
    import cv2
    import numpy as np

    across, down = given.width / result.width, given.height / result.height
    # one pixel more on each side, and a shift by parts of a pixel, so that both lie exactly over each other
    left, top = region.x * across, region.y * down
    x, y = max(0, int(left) - 2), max(0, int(top) - 2)
    w = min(given.width - x, int(np.ceil(left + region.w * across)) + 2 - x)
    h = min(given.height - y, int(np.ceil(top + region.h * down)) + 2 - y)
    part = views.shown(given.pixels, None, given, views.Region(x, y, max(1, w), max(1, h), 1 << 20))
    if (across, down) == (1.0, 1.0):
        inner = part[region.y - y : region.y - y + region.h, region.x - x : region.x - x + region.w]
        return views.reduced_to(inner, region.side)
    size = max(region.w, region.h)
    times = min(1.0, region.side / size)
    width, height = max(1, round(region.w * times)), max(1, round(region.h * times))
    step = np.array([[region.w * across / width, 0, 0], [0, region.h * down / height, 0]])
    step[0, 2] = left - x + 0.5 * step[0, 0] - 0.5
    step[1, 2] = top - y + 0.5 * step[1, 1] - 0.5
    return cv2.warpAffine(
        part, step, (width, height), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
