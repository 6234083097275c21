"""Protocols: the named, versioned ways to measure, and their neighbours, the ways that are often mistaken for them."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from typing import Literal

from restora.errors import UsageError

Channel = Literal["y", "rgb", "grey"]
Luma = Literal["float", "rounded", "full-range"]


@dataclass(frozen=True)
class Protocol:
    """How two images are compared.

    Both are 8-bit images, or are clipped to [0, 1] and brought to 8 bits first. Scores are means of per-image values, never
    pooled. SSIM: 11x11 Gaussian window with sigma 1.5, valid region, C1 = (0.01 * 255)^2, C2 = (0.03 * 255)^2, mean over
    channels.

    Attributes:
        channel: ``y`` is the luminance of BT.601; ``rgb`` all three channels; ``grey`` a single channel. One-channel images
            are taken as they are under every protocol.
        border: pixels cut on each side; ``scale`` means the scale factor.
        luma: ``float`` is Y in studio range (16 to 235), not rounded again; ``rounded`` rounds it to whole numbers, as
            MATLAB's rgb2ycbcr of 8-bit images does; ``full-range`` is the Y of JPEG (0 to 255).
        rounding: how floating-point images come to 8 bits: to the nearest, or truncated, or not at all.
        average: ``image``; ``clip`` averages the frames of each clip first; ``pooled`` averages squared errors.
        grey_files: what a benchmark does with a grey file: ``as-rgb`` reads it as three equal channels.
        measures: what a benchmark prints.
    """

    name: str
    version: int
    channel: Channel
    border: int | Literal["scale"]
    description: str
    luma: Luma = "float"
    rounding: Literal["nearest", "down", "none"] = "nearest"
    average: Literal["image", "clip", "pooled"] = "image"
    grey_files: Literal["as-rgb", "as-is"] = "as-is"
    task: str = ""
    measures: tuple[str, ...] = ("psnr", "ssim")

    @property
    def label(self) -> str:
        """Name and version, as tables carry them: ``sr-y/1``."""
        return f"{self.name}/{self.version}"

    def border_for(self, scale: int | None) -> int:
        """Pixels to cut on each side.

        Raises:
            UsageError: the border depends on the scale, and none was said.
        """
        if self.border != "scale":
            return int(self.border)
        if scale is None:
            raise UsageError(f"The protocol '{self.name}' cuts a border of `scale` pixels: say which scale.")
        return int(scale)


_PROTOCOLS = {
    p.name: p
    for p in (
        Protocol(
            "sr-y",
            1,
            "y",
            "scale",
            "classical super-resolution: Y of BT.601, `scale` pixels cut on each side",
            grey_files="as-rgb",
            task="super-resolution",
        ),
        Protocol(
            "sr-rgb",
            1,
            "rgb",
            "scale",
            "super-resolution on all channels, `scale` pixels cut on each side",
            grey_files="as-rgb",
            task="super-resolution",
        ),
        Protocol("denoise-rgb", 1, "rgb", 0, "denoising of colour pictures: all channels, no border", task="denoise"),
        Protocol("denoise-gray", 1, "grey", 0, "denoising of grey pictures: no border", task="denoise"),
        Protocol("deblur-rgb", 1, "rgb", 0, "deblurring (GoPro, HIDE): all channels, no border", task="deblur"),
        Protocol(
            "jpeg-y",
            1,
            "y",
            0,
            "JPEG artefacts: grey, or Y of BT.601, no border; with PSNR-B",
            task="dejpeg",
            measures=("psnr", "ssim", "psnr_b"),
        ),
        Protocol(
            "video-y",
            1,
            "y",
            0,
            "video (Vid4, UDM10): Y of BT.601, no border, all frames, mean over frames and then over clips",
            average="clip",
            grey_files="as-rgb",
            task="video",
        ),
        Protocol(
            "video-rgb",
            1,
            "rgb",
            0,
            "video (REDS4): all channels, no border, all frames, mean over frames and then over clips",
            average="clip",
            task="video",
        ),
        Protocol("face-rgb", 1, "rgb", 0, "faces: all channels, no border", grey_files="as-rgb", task="face"),
    )
}


def protocols() -> dict[str, Protocol]:
    """The protocols by name."""
    return dict(_PROTOCOLS)


def protocol(name: str | Protocol) -> Protocol:
    """One protocol by name, or by name and version (``sr-y/1``).

    Raises:
        UsageError: no such protocol, or another version of it.
    """
    if isinstance(name, Protocol):
        return name
    plain, _, version = name.partition("/")
    if plain not in _PROTOCOLS:
        near = difflib.get_close_matches(plain, _PROTOCOLS, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise UsageError(f"There is no protocol '{name}'; the protocols are {', '.join(_PROTOCOLS)}{hint or '.'}")
    found = _PROTOCOLS[plain]
    if version and version != str(found.version):
        raise UsageError(f"The protocol '{plain}' is at version {found.version} here, not {version}.")
    return found


def neighbours(rules: Protocol) -> dict[str, Protocol]:
    """Ways of measuring that differ from `rules` in one thing or two, by a phrase that says in which: what a disagreement
    of two tables usually comes from, the likeliest first. The pooled mean is among them; the others are means over images.
    """

    def changed(**what: object) -> Protocol:
        return dataclasses.replace(rules, name=f"{rules.name}*", **what)  # type: ignore[arg-type]

    found: dict[str, Protocol] = {}
    if rules.channel == "y":
        found["Y rounded to whole numbers (MATLAB's rgb2ycbcr of 8-bit images)"] = changed(luma="rounded")
        found["full-range Y (JPEG's, 0 to 255) instead of BT.601's studio range"] = changed(luma="full-range")
        found["RGB instead of Y"] = changed(channel="rgb")
    elif rules.channel == "rgb":
        found["Y of BT.601 instead of RGB"] = changed(channel="y")
        found["full-range Y instead of RGB"] = changed(channel="y", luma="full-range")
    if rules.border == "scale":
        found["no border cut"] = changed(border=0)
    else:
        found["a border of 4 pixels cut"] = changed(border=4)
        found["a border of 8 pixels cut"] = changed(border=8)
    found["the result truncated to 8 bits instead of rounded"] = changed(rounding="down")
    found["the result not rounded to 8 bits"] = changed(rounding="none")
    found["squared errors pooled over all images"] = changed(average="pooled")
    # two changes at once, the usual ones
    if rules.channel == "y":
        found["the result truncated to 8 bits and Y rounded"] = changed(rounding="down", luma="rounded")
        if rules.border == "scale":
            found["no border cut and Y rounded"] = changed(border=0, luma="rounded")
            found["RGB instead of Y and no border cut"] = changed(channel="rgb", border=0)
    elif rules.channel == "rgb":
        found["Y of BT.601, rounded, instead of RGB"] = changed(channel="y", luma="rounded")
        if rules.border == "scale":
            found["Y of BT.601 instead of RGB and no border cut"] = changed(channel="y", border=0)
    return found
