"""A part of a picture, restored while a slider moves: the newest wish of each client counts, older ones are dropped."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from restora.errors import Cancelled, PictureTooLarge, RestoraError
from restora.studio import views
from restora.studio.catalogue import Catalogue
from restora.studio.settings import Limits
from restora.studio.store import Store

# Pixels around the crop that are restored with it, so that its border is as in the whole picture; fewer where the network sees
# less far, and then some for the resampling behind it
_MARGIN, _RESAMPLING = 32, 4
_CLIENTS = 1000
_WAIT = 0.02


class Busy(RestoraError):
    """Too much is being asked at once."""


class Previewer:
    """Makes previews, one at a time: two would only slow each other down."""

    def __init__(self, store: Store, catalogue: Catalogue, limits: Limits) -> None:
        self.store, self.catalogue, self.limits = store, catalogue, limits
        self._newest: OrderedDict[str, threading.Event] = OrderedDict()
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._waiting = 0

    def make(self, client: str, request: Any) -> tuple[bytes, float, list[str]]:
        """PNG of the restored crop, seconds, notes; the fields of `schemas.PreviewRequest` in.

        Raises:
            Cancelled: the client asked for another one meanwhile. Busy: too many wait. UsageError: controls, crop.
        """
        dropped = self._newer(client)
        try:
            if not self._my_turn(dropped):
                raise Cancelled("A newer preview took the place of this one.")
            try:
                return self._restored(request, dropped)
            finally:
                self._turn.release()
        except Cancelled as error:
            raise Cancelled("A newer preview took the place of this one.") from error
        finally:
            with self._lock:
                if self._newest.get(client) is dropped:
                    del self._newest[client]

    def _newer(self, client: str) -> threading.Event:
        """The sign by which this request will hear that it is out of date; the client's former one hears it now."""
        dropped = threading.Event()
        with self._lock:
            former = self._newest.pop(client, None)
            if former is not None:
                former.set()
            elif self._waiting >= self.limits.waiting_previews:
                raise Busy("Too many previews are being made; wait a moment.")
            self._newest[client] = dropped
            while len(self._newest) > _CLIENTS:
                self._newest.popitem(last=False)
        return dropped

    def _my_turn(self, dropped: threading.Event) -> bool:
        with self._lock:
            if self._waiting >= 2 * self.limits.waiting_previews:
                raise Busy("Too many previews are being made; wait a moment.")
            self._waiting += 1
        try:
            while not dropped.is_set():
                if self._turn.acquire(timeout=_WAIT):
                    return True
            return False
        finally:
            with self._lock:
                self._waiting -= 1

    def _restored(self, request: Any, dropped: threading.Event) -> tuple[bytes, float, list[str]]:
        from restora.studio.steering import cut, resolve

        picture = self.store.picture(request.file)
        crop = request.crop
        region = views.Region.of(picture.width, picture.height, crop.x, crop.y, crop.w, crop.h, self.limits.view_side)
        if region.w * region.h > self.limits.preview_pixels:
            raise PictureTooLarge(
                f"A preview shows at most {self.limits.preview_pixels} pixels of the picture; {region.w}x{region.h} were asked. "
                "Zoom in, or make a job of the whole picture."
            )
        model = self.catalogue.model(request.model)
        values = resolve(model, request.controls, self.store, preview=True)
        restorer = self.catalogue.load(request.model)
        notes: list[str] = []
        if values.get("sigma") == "auto":  # of the whole picture, as the job will have it
            values["sigma"], said = _noise(picture)
            notes += said
        margin = _margin(restorer, restorer.check_controls(values))
        left, top = max(0, region.x - margin), max(0, region.y - margin)
        right, bottom = (
            min(picture.width, region.x + region.w + margin),
            min(picture.height, region.y + region.h + margin),
        )
        values = _local_maps(values, (picture.height, picture.width), (top, bottom, left, right))
        part = cut(picture, left, top, right - left, bottom - top)
        checked = restorer.check_controls(values)
        height, width = restorer.output_size(bottom - top, right - left, checked)
        if height * width > 16 * self.limits.preview_pixels:
            raise PictureTooLarge("The preview would be too large at this scale: zoom in.")
        started = time.monotonic()
        result = restorer(part, cancelled=dropped.is_set, **values)
        self.catalogue.ran(request.model, time.monotonic() - started, part.width * part.height)
        self.catalogue.needs(request.model, restorer, values)
        restored = result.picture
        scale = restored.width / part.width
        pixels = restored.pixels
        if request.blend < 1 or request.mask is not None:
            pixels = self._mixed(part.pixels, pixels, scale, request, picture, (top, bottom, left, right))
        box = [
            round(n * scale)
            for n in (region.y - top, region.y - top + region.h, region.x - left, region.x - left + region.w)
        ]
        inside = np.ascontiguousarray(pixels[box[0] : box[1], box[2] : box[3]])
        alpha = (
            None if restored.alpha is None else np.ascontiguousarray(restored.alpha[box[0] : box[1], box[2] : box[3]])
        )
        whole = views.Region(0, 0, inside.shape[1], inside.shape[0], 1 << 20)
        png, _ = views.encoded(views.shown(inside, alpha, restored, whole))
        notes += [n for n in result.report.notes if n not in picture.notes]
        return png, time.monotonic() - started, [self.store.scrub(n) for n in notes]

    def _mixed(
        self,
        before: np.ndarray,
        after: np.ndarray,
        scale: float,
        request: Any,
        picture: Any,
        box: tuple[int, int, int, int],
    ) -> np.ndarray:
        from restora.studio.steering import Steering, mix

        mask = None
        if request.mask is not None:
            mask = _part_of(self.store.mask(request.mask), (picture.height, picture.width), box)
        return mix(before, after, scale, Steering(request.blend, mask))


def _margin(restorer: Any, checked: Any) -> int:
    from restora.restorers import Upscaler

    if isinstance(restorer, Upscaler) and len(passes := restorer.plan(checked).passes) == 1:
        return min(_MARGIN, int(restorer.operator(passes[0]).tiling.radius) + _RESAMPLING)
    return _MARGIN


def _part_of(plane: np.ndarray, size: tuple[int, int], box: tuple[int, int, int, int]) -> np.ndarray:
    """The part of a map that lies over a part of the picture, at the picture's resolution."""
    import cv2

    top, bottom, left, right = box
    if plane.shape[:2] != size:
        down, across = plane.shape[0] / size[0], plane.shape[1] / size[1]
        # the few pixels that the part needs, then to its size: a map may be far smaller than the picture
        shift = np.array([[across, 0, (left + 0.5) * across - 0.5], [0, down, (top + 0.5) * down - 0.5]])
        return cv2.warpAffine(
            plane,
            shift,
            (right - left, bottom - top),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
    return np.ascontiguousarray(plane[top:bottom, left:right])


def _local_maps(values: Mapping[str, Any], size: tuple[int, int], box: tuple[int, int, int, int]) -> dict[str, Any]:
    """The controls with every map cut as the picture is."""
    from pathlib import Path

    from restora.io import Picture

    def local(value: Any) -> Any:
        return _part_of(Picture.open(value).pixels[..., 0], size, box) if isinstance(value, Path) else value

    return {name: local(value) for name, value in values.items()}


def _noise(picture: Any) -> tuple[float, list[str]]:
    from restora.degradation.estimate import noise_level
    from restora.degradation.flat_noise import middle

    part = middle(picture.pixels)
    if min(part.shape[:2]) < 8:
        return 0.0, ["The picture is too small to tell its noise; none was assumed."]
    sigma = round(noise_level(part), 2)
    return sigma, [f"Noise level estimated as {sigma:g} of 255."]
