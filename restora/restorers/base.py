"""The one thing that everybody calls: a restorer takes a picture and gives a restoration."""

from __future__ import annotations

import abc
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from restora import __version__
from restora.engine import Progress, Settings
from restora.errors import RestoraError, UsageError
from restora.io import Picture, atomic_path


class Controls(BaseModel):
    """What a user may set on a restorer: names, types, ranges and meanings in one place. Python arguments, flags and
    forms are made from it."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


@dataclass
class Report:
    """What was done to a picture, and with what. `kept`: nothing was; the result is the input."""

    model: str
    weights_sha256: str = ""
    scale: float = 1.0
    passes: tuple[int, ...] = ()
    input_size: tuple[int, int] = (0, 0)
    output_size: tuple[int, int] = (0, 0)
    device: str = ""
    precision: str = ""
    tile: int = 0
    tiles: int = 0
    seconds: float = 0.0
    controls: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    kept: bool = False
    backend: str = ""


@dataclass
class Restoration:
    """The result. `pictures` has one entry for a file or array, and one for each image of a tensor batch."""

    pictures: list[Picture]
    report: Report

    @property
    def picture(self) -> Picture:
        """The restored picture, with the metadata of the one that came in."""
        if len(self.pictures) != 1:
            raise UsageError(f"A batch of {len(self.pictures)} images was restored: use `pictures` or `tensor`.")
        return self.pictures[0]

    @property
    def array(self) -> np.ndarray:
        """`H x W x C` (with alpha as the last channel where there is one) in the input's type; `N x H x W x C` for a batch."""
        arrays = [p.pixels if p.alpha is None else np.dstack([p.pixels, p.alpha]) for p in self.pictures]
        return arrays[0] if len(arrays) == 1 else np.stack(arrays)

    @property
    def tensor(self) -> Any:
        """`B x C x H x W` float32 in [0, 1]."""
        import torch

        from restora.engine import load

        return torch.cat([load(p.pixels) for p in self.pictures])

    def save(self, path: str | Path, **options: Any) -> Path:
        """Writes the picture; options as `Picture.save` (format, quality, lossless, metadata, hold). Of a picture that was kept
        as it was, the file itself is copied, unless another format or an option asks for another one."""
        same = {k: v for k, v in options.items() if v is not None and k != "hold"} in ({}, {"metadata": True})
        if self.report.kept and same and (origin := self._origin(Path(path))) is not None:
            hold = bool(options.get("hold"))
            with atomic_path(path, hold) as temporary:
                shutil.copyfile(origin, temporary)
            return temporary if hold else Path(path)
        return self.picture.save(path, software=f"Restora {__version__} ({self.report.model})", **options)

    def _origin(self, path: Path) -> Path | None:
        """The file that the picture came from, if it may stand for it at `path`: it still holds the same pixels."""
        origin = self.picture.origin
        if origin is None or origin.suffix.lower() != path.suffix.lower():
            return None
        try:
            stored = Picture.open(origin)
        except RestoraError:
            return None
        return origin if np.array_equal(stored.pixels, self.picture.pixels) else None


class Restorer(abc.ABC):
    """Base of all restorers, learned or classical.

    Calling it takes a path, a PIL image, a numpy array (`H x W`, `H x W x C`), a torch tensor (`C x H x W`, `B x C x H x W`
    in [0, 1]) or a `Picture`, and the controls by name.
    """

    name: str
    task: str
    settings: Settings
    controls: ClassVar[type[Controls]] = Controls

    def __call__(
        self,
        picture: Any,
        *,
        progress: Callable[[Progress], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        settings: Settings | None = None,
        **controls: Any,
    ) -> Restoration:
        """Restores a picture.

        Args:
            progress: called with an `engine.Progress` after each tile. cancelled: asked before each tile.
            settings: how to run (device, precision, tile); the restorer's own when None.
            controls: see the class's `controls`.

        Raises:
            PictureError: the picture cannot be read. UsageError: an unknown control or a value out of range.
            EngineError: it cannot be run on this machine. Cancelled: `cancelled()` said so.
        """
        chosen = self.check_controls(controls)
        results = [self.restore(p, chosen, progress, cancelled, settings) for p in as_pictures(picture)]
        return Restoration([r for r, _ in results], results[0][1])

    def check_controls(self, values: dict[str, Any]) -> Any:
        """The controls with these values, checked.

        Raises:
            UsageError: an unknown name or a value out of range.
        """
        try:
            return self.controls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            if isinstance(own := first.get("ctx", {}).get("error"), RestoraError):
                raise own from None  # a control that checks its own value has the better sentence
            name = first["loc"][0]  # what follows is the part of a union that was tried last
            known = ", ".join(self.controls.model_fields) or "none"
            raise UsageError(f"Control '{name}' of {self.name}: {first['msg']}. Its controls are: {known}.") from error

    @abc.abstractmethod
    def restore(
        self,
        picture: Picture,
        controls: Any,
        progress: Callable[[Progress], None] | None,
        cancelled: Callable[[], bool] | None,
        settings: Settings | None,
    ) -> tuple[Picture, Report]:
        """Restores one picture; the work behind `__call__`."""

    @abc.abstractmethod
    def output_size(self, height: int, width: int, controls: Any) -> tuple[int, int]:
        """Height and width of the result for a picture of that size."""

    def expected_seconds(self, height: int, width: int, controls: Any) -> float | None:
        """How long a picture of that size will take, for restorers whose time does not follow the number of pixels; None:
        whoever asks measures it on a sample."""
        return None

    @property
    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Changes when the same input would give another output: weights and algorithm."""

    def used(self, controls: Any) -> str:
        """The name for a report: of the model, or of those that these controls need."""
        return self.name


def as_pictures(value: Any) -> list[Picture]:
    """Whatever a caller has, as pictures.

    Raises:
        UsageError: a type or shape that is none. PictureError: an unreadable file.
    """
    if isinstance(value, Picture):
        return [value]
    if isinstance(value, (str, Path)):
        return [Picture.open(value)]
    if isinstance(value, np.ndarray):
        return [Picture.from_array(value)]
    if hasattr(value, "detach"):  # a torch tensor, without importing torch for those who have none
        tensor = value.detach().cpu().float()
        if tensor.ndim == 3:
            tensor = tensor[None]
        if tensor.ndim != 4 or tensor.shape[1] not in (1, 3) or 0 in tensor.shape:
            raise UsageError(
                f"A tensor has the shape B x C x H x W or C x H x W with 1 or 3 channels, not {tuple(value.shape)}."
            )
        return [Picture.from_array(np.ascontiguousarray(t.permute(1, 2, 0).numpy())) for t in tensor]
    if hasattr(value, "tobytes") and hasattr(value, "getbands"):
        return [Picture.from_pil(value)]
    raise UsageError(
        f"A picture is a path, PIL image, numpy array, torch tensor or Picture, not {type(value).__name__}."
    )
