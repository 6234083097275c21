"""What the REST interface takes and gives. The names are the contract of the page and of every other client."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

FileId = Annotated[str, Field(pattern=r"^[fs]-[0-9a-f]{16}$", examples=["f-0123456789abcdef"])]
JobId = Annotated[str, Field(pattern=r"^j-[0-9a-f]{16}$", examples=["j-0123456789abcdef"])]
MaskId = Annotated[str, Field(pattern=r"^m-[0-9a-f]{16}$", examples=["m-0123456789abcdef"])]
KernelId = Annotated[str, Field(pattern=r"^k-[0-9a-f]{16}$", examples=["k-0123456789abcdef"])]
State = Literal["queued", "running", "paused", "done", "failed", "cancelled"]
# A control's value. Text is a choice, `auto`, a kernel's formula, or the id of a mask or kernel; never a path.
Value = bool | int | FiniteFloat | Annotated[str, Field(max_length=200)] | None
Controls = Annotated[dict[Annotated[str, Field(max_length=60)], Value], Field(max_length=60)]


class _Taken(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """Every error: one sentence that says what is wrong and what to do."""

    error: str


class LimitsShown(BaseModel):
    """What is refused above; bytes, pixels and counts."""

    upload_bytes: int
    picture_pixels: int
    result_pixels: int
    preview_pixels: int
    files_a_job: int
    queued_jobs: int
    job_seconds: int | None
    requests_a_second: float


class About(BaseModel):
    """The server."""

    version: str
    cores: int
    workers: int
    memory_bytes: int
    token_needed: bool
    shared_folder: bool
    limits: LimitsShown
    formats_read: list[str]
    formats_written: list[str]


class Task(BaseModel):
    """Something that can be done; `model` is what is taken when the user chooses none."""

    name: str
    title: str
    advice: str
    model: str | None
    models: int


class ControlShown(BaseModel):
    """A control of a restorer, enough to draw a slider, a switch or a list for it.

    `type`: number, integer, boolean, choice, kernel or regions. `auto`: the word auto may stand for the number. `spatial`: the id
    of a mask may stand for the number, white being `max`. `required`: it has no default.
    """

    name: str
    type: Literal["number", "integer", "boolean", "choice", "kernel", "regions"]
    default: Value = None
    min: float | None = None
    max: float | None = None
    step: float | None = None
    choices: list[str] = []
    description: str = ""
    spatial: bool = False
    auto: bool = False
    required: bool = False
    advanced: bool = False


class Model(BaseModel):
    """A restorer. `seconds_per_megapixel` of input was measured here in earlier runs; `memory` are the bytes of its tiles."""

    name: str
    title: str
    task: str
    advice: str
    limits: str = ""
    licence: str
    scales: list[int]
    parameters: int
    bundled: bool
    installed: bool
    default: bool = False
    needs_kernel: bool = False
    seconds_per_megapixel: float | None = None
    memory: int | None = None
    controls: list[ControlShown]


class Look(BaseModel):
    """What the automatic look found. `noise`: sigma on the 0 to 255 scale. `blur`: 0 sharp to 1 blurred. `jpeg_quality`: of the
    strongest compression found. `size`: small, medium or large. None: it cannot be told of this picture."""

    noise: float | None
    blur: float | None
    jpeg_quality: int | None
    size: str
    advice: str
    task: str | None
    notes: list[str] = []


class FileShown(BaseModel):
    """An uploaded picture, or one of the shared folder. `width` and `height` as a viewer shows it."""

    id: str
    name: str
    format: str
    width: int
    height: int
    bit_depth: int
    channels: int
    alpha: bool
    profile: str
    bytes: int
    shared: bool = False
    notes: list[str] = []
    look: Look | None = None


class Crop(_Taken):
    """A part of the picture in its own pixels."""

    x: int = Field(0, ge=0, le=10**6)
    y: int = Field(0, ge=0, le=10**6)
    w: int = Field(512, ge=1, le=10**6)
    h: int = Field(512, ge=1, le=10**6)


class PreviewRequest(_Taken):
    """A restoration of a part, at once. `mask` restricts it (white: restored, black: the input), `blend` is the share of the
    result in the mix with the input."""

    file: FileId
    model: str = Field(max_length=200)
    controls: Controls = {}
    crop: Crop = Crop()
    mask: MaskId | None = None
    blend: float = Field(1.0, ge=0, le=1)


class Variant(_Taken):
    """Controls of one of several plausible results; the others are those of the request."""

    controls: Controls = {}


class JobRequest(_Taken):
    """Whole pictures to be restored: one job for each file and variant. `format` is ``auto`` (as the input), png, jpeg ..."""

    files: list[FileId] = Field(min_length=1, max_length=1000)
    model: str = Field(max_length=200)
    controls: Controls = {}
    format: str = Field("auto", max_length=10)
    mask: MaskId | None = None
    blend: float = Field(1.0, ge=0, le=1)
    variants: list[Variant] = Field([], max_length=16)


class ResultShown(BaseModel):
    width: int
    height: int
    bytes: int
    name: str
    format: str


class JobShown(BaseModel):
    """A job. `progress` is 0 to 1; `command` and `python` are what does the same elsewhere, with the names of the files as
    uploaded; `command` is empty where the command line has no word for it (masks)."""

    id: str
    file: str
    name: str
    model: str
    task: str
    controls: dict[str, Any]
    mask: str | None
    blend: float
    state: State
    progress: float
    seconds_left: float | None
    position: int | None
    created: float
    error: str
    report: dict[str, Any]
    command: str
    python: str
    result: ResultShown | None


class QueueShown(BaseModel):
    paused: bool
    queued: int
    running: int


class DownloadRequest(_Taken):
    jobs: list[JobId] = Field(min_length=1, max_length=1000)


class MaskShown(BaseModel):
    id: str
    width: int
    height: int


class Motion(_Taken):
    """An even motion: `dx` pixels to the right, `dy` down, as picked on the picture."""

    dx: float = Field(ge=-250, le=250, allow_inf_nan=False)
    dy: float = Field(ge=-250, le=250, allow_inf_nan=False)


class KernelRequest(_Taken):
    """A kernel from exactly one of: `text`, a formula (gaussian:1.6, motion:25:30, disk:4) or rows of numbers; `drawing`, a
    PNG in base64, light on dark; `motion`; `file`, a blurred picture from which it is estimated."""

    text: str | None = Field(None, max_length=200_000)
    drawing: str | None = Field(None, max_length=3_000_000)
    motion: Motion | None = None
    file: FileId | None = None


class KernelShown(BaseModel):
    """A kernel on the server. `text`: where it is from; `size`: rows x columns."""

    id: str
    text: str
    size: str
    estimated: bool
    warnings: list[str]


class Scores(BaseModel):
    niqe: float | None
    sharpness: float | None
    noise: float | None


class Consistency(BaseModel):
    """Is the input still in the result? `psnr` of the result, degraded again by `model`, against the input."""

    model: str
    psnr: float | None
    sentence: str


class Drift(BaseModel):
    red: float
    green: float
    blue: float
    delta_e: float


class Trust(BaseModel):
    """How far a result can be trusted. `invented`: share of the pixels whose detail the input does not confirm; `map` shows
    where. `region`: the part in pixels of the input that was measured."""

    consistency: Consistency
    colour_drift: Drift
    invented: float
    map: str
    sentence: str
    before: Scores
    after: Scores
    region: Crop


class Done(BaseModel):
    done: bool = True
