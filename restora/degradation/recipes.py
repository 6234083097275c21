"""Named chains: the degradations that papers train and test with, ready to use and to change.

degradation.recipe("realesrgan-x4").seed(0)(x)
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable
from typing import Any

from torch import Tensor

from restora.degradation.base import Degradation
from restora.degradation.blur import AnisotropicBlur, Blur, GaussianBlur, MotionBlur, SincFilter, TrajectoryBlur
from restora.degradation.compose import Chain, Choose, Shuffled, Sometimes
from restora.degradation.compression import Jpeg
from restora.degradation.distributions import Choice, Integers, Uniform
from restora.degradation.film import Dust, Scratches, Stains
from restora.degradation.noise import CameraNoise, Clip, GaussianNoise, PoissonNoise, Quantise, SpeckleNoise
from restora.degradation.photometric import Fading
from restora.degradation.regions import FlickrDistortion, Shdd
from restora.degradation.resampling import Decimate, Downsample, DownUp, FitScale, Rescale
from restora.errors import UsageError

_FILTERS = Choice(("area", "bilinear", "bicubic"))


def classical(
    kernel: Tensor, scale: int = 1, sigma: Any = 0.0, sampler: str = "decimate", boundary: Any = "circular"
) -> Chain:
    """`y = (x * k) down_s + n`: the model behind every non-blind method (spec deep-restoration-survey, eq. 5.1)."""
    reduce = Decimate(scale) if sampler == "decimate" else Downsample(scale, sampler)
    steps: list[Degradation] = [Blur(kernel, boundary)] + ([reduce] if scale != 1 else [])
    return Chain((*steps, GaussianNoise(sigma)))


def usrnet(scale: int = 4) -> Chain:
    """How USRNet is trained: half motion, half Gaussian kernels, 25 a side, circular; top-left decimation; noise up to 25,
    none in one case of nine (spec deep-restoration-survey, 2.6)."""
    blur = Choose(
        (
            TrajectoryBlur(25, boundary="circular"),
            AnisotropicBlur(Uniform(0.5, 6.0), Uniform(0.5, 6.0), Uniform(0.0, 180.0), 25, boundary="circular"),
        )
    )
    noise = GaussianNoise(Choice((0.0, Uniform(0.0, 25.0)), (1.0, 8.0)))
    return Chain((blur, Decimate(scale), noise) if scale > 1 else (blur, noise))


def dasr(scale: int = 4) -> Chain:
    """Anisotropic Gaussian 21x21 of widths 0.2 to 4, bicubic reduction, noise up to 25, 8 bits: DASR's and CBVR's training
    (spec controllable-restoration, 2.4)."""
    blur = AnisotropicBlur(Uniform(0.2, 4.0), Uniform(0.2, 4.0), Uniform(0.0, 180.0), 21)
    return Chain((blur, Downsample(scale), GaussianNoise(Uniform(0.0, 25.0)), Quantise()))


def film(scale: int = 4) -> Chain:
    """Old film for clips: `dasr` and white scratches that stay for a while (eq. 6.1)."""
    return Chain((*dasr(scale).steps, Scratches(Integers(0, 6))))


def paper(scale: int = 1) -> Chain:
    """An old print: blur, fading, stains, dust, scratches at all angles, noise, a scan's JPEG."""
    steps: list[Degradation] = [
        GaussianBlur(Uniform(0.2, 2.0)),
        Sometimes(0.7, Fading(Uniform(0.1, 0.6))),
        Sometimes(0.4, Stains(Integers(1, 3))),
        GaussianNoise(Uniform(1.0, 20.0), grain=Uniform(0.0, 1.0)),
        Dust(Integers(0, 30), colour=Choice(("white", "black"))),
        Scratches(
            Integers(0, 6),
            angle=Uniform(0.0, 180.0),
            spread=90.0,
            bend=0.05,
            colour=Choice(("white", "coloured")),
            opacity=0.9,
        ),
    ]
    if scale > 1:
        steps.insert(1, Downsample(scale))
    return Chain((*steps, Jpeg(Integers(60, 95))))


def sr_noise(scale: int = 4, sigma: Any = 30.0) -> Chain:
    """Bicubic reduction, then noise (SR+DN of the efficiency thesis; level 30 as in RDN's DN model)."""
    return Chain((Downsample(scale), GaussianNoise(sigma), Quantise()))


def sr_blur(scale: int = 3, sigma: Any = 1.6) -> Chain:
    """A 7x7 Gaussian of 1.6, then bicubic reduction (SR+BLUR; RDN's BD model, x3)."""
    return Chain((GaussianBlur(sigma, 7), Downsample(scale), Quantise()))


def srrunet(scale: int = 1) -> Chain:
    """Down by 1 to 16 bicubically and up to the same size by bicubic or nearest (spec deep-restoration-survey, eq. 5.5)."""
    return Chain((DownUp(Integers(1, 16), "bicubic", Choice(("bicubic", "nearest"))), Clip()))


_SEVERITY = {"mild": (0, 1), "moderate": (1, 2), "severe": (2, 3)}


def mixed(severity: str = "moderate") -> Chain:
    """Gaussian blur, then noise, then JPEG, each level even within its third (spec efficient-restoration, 2.5).

    The groups' limits are not published; the three thirds of RL-Restore's ranges are taken: blur sigma 0 to 5, noise 0 to 50,
    JPEG quality 100 to 10. The thesis trains on ``moderate`` and tests on all.
    """
    if severity not in _SEVERITY:
        raise UsageError(f"A mixed distortion is mild, moderate or severe, not '{severity}'.")
    low, high = (n / 3 for n in _SEVERITY[severity])
    return Chain(
        (
            GaussianBlur(Uniform(5 * low, 5 * high)),
            GaussianNoise(Uniform(50 * low, 50 * high)),
            Jpeg(Integers(round(100 - 90 * high), round(100 - 90 * low))),
        )
    )


def _wild_blur(low: float, high: float, sinc: float) -> Degradation:
    """Real-ESRGAN's kernels: sides 7 to 21; ringing with a probability, else a Gaussian, generalised or flat-topped, of equal
    or different widths."""
    size, width, turn = Integers(7, 21, 2), Uniform(low, high), Uniform(0.0, 180.0)
    round_ones = [
        GaussianBlur(width, size),
        AnisotropicBlur(width, width, turn, size),
        AnisotropicBlur(width, width, turn, size, Uniform(0.5, 4.0)),
        AnisotropicBlur(width, width, turn, size, Uniform(1.0, 2.0), "plateau"),
    ]
    smooth = Choose(tuple(round_ones), (0.45, 0.25, 0.15, 0.15))
    return Choose((SincFilter(Uniform(math.pi / 3, math.pi), size), smooth), (sinc, 1 - sinc))


def _wild_noise(sigma: float, strength: float) -> Degradation:
    """Gaussian or photon noise, four times in ten the same in all channels; then 8 bits, as every file has."""
    colour = Choice(("independent", "grey"), (0.6, 0.4))
    grey = Choice((False, True), (0.6, 0.4))
    return Choose((GaussianNoise(Uniform(1.0, sigma), colour), PoissonNoise(255.0, Uniform(0.05, strength), grey)))


def _wild_size(low: float, high: float, up: float, down: float, of: Any = "here", base: float = 1.0) -> Degradation:
    """Larger, smaller or equal, by any of the image libraries' filters."""
    factor = Choice((Uniform(base, base * high), Uniform(base * low, base), base), (up, down, 1 - up - down))
    return Rescale(factor, _FILTERS, of)


def second_order(scale: int = 4) -> Chain:
    """Real-ESRGAN's model: blur, resampling, noise and JPEG, twice, with ringing, ending at 1/scale of the size (Wang et al.
    2021, section 3; ranges of its released training options)."""
    first = [
        _wild_blur(0.2, 3.0, 0.1),
        _wild_size(0.15, 1.5, 0.2, 0.7),
        _wild_noise(30.0, 3.0),
        Clip(),
        Jpeg(Integers(30, 95)),
    ]
    second = [
        Sometimes(0.8, _wild_blur(0.2, 1.5, 0.1)),
        _wild_size(0.3, 1.2, 0.3, 0.4, "input", 1 / scale),
        _wild_noise(25.0, 2.5),
        Clip(),
    ]
    ring = Sometimes(0.8, SincFilter(Uniform(math.pi / 3, math.pi), Integers(7, 21, 2)))
    fit, jpeg = FitScale(scale, _FILTERS), Jpeg(Integers(30, 95))
    end = Choose((Chain((fit, ring, jpeg)), Chain((jpeg, fit, ring))))
    return Chain((*first, *second, end, Quantise()))


def bsrgan(scale: int = 4) -> Chain:
    """BSRGAN-like: two blurs, a reduction in two steps, Gaussian, JPEG and camera noise, in an order drawn for every picture;
    JPEG at the end (Zhang et al. 2021). Its camera pipeline is `CameraNoise` here."""
    blur = Choose(
        (
            GaussianBlur(Uniform(0.1, 2.8), Integers(7, 21, 2)),
            AnisotropicBlur(Uniform(0.5, 6.0), Uniform(0.5, 6.0), Uniform(0.0, 180.0), Integers(7, 21, 2)),
        )
    )
    noise = GaussianNoise(Uniform(1.0, 25.0), Choice(("independent", "grey", "correlated"), (0.4, 0.4, 0.2)))
    camera = CameraNoise(Uniform(0.0, 0.01), Uniform(0.0, 0.01), Choice((False, True)))
    reduce = Choose((Rescale(Uniform(1 / scale, 1.0), _FILTERS), Rescale(1 / math.sqrt(scale), _FILTERS)))
    steps = (
        blur,
        Sometimes(0.8, blur),
        reduce,
        noise,
        Sometimes(0.75, Jpeg(Integers(30, 95))),
        Sometimes(0.25, camera),
    )
    return Chain((Shuffled(steps), FitScale(scale, _FILTERS), Clip(), Jpeg(Integers(30, 95))))


def real_noise(scale: int = 1) -> Chain:
    """Camera noise of all strengths, colour mosaic included, then 8 bits."""
    return Chain((CameraNoise(Uniform(0.0, 0.02), Uniform(0.0, 0.03), Choice((True, False))), Quantise()))


def motion(scale: int = 1) -> Chain:
    """Camera shake and straight motion for blind deblurring, with a little noise."""
    blur = Choose(
        (TrajectoryBlur(Integers(15, 41, 2)), MotionBlur(Uniform(3.0, 25.0), Uniform(0.0, 180.0))), (0.8, 0.2)
    )
    return Chain((blur, GaussianNoise(Uniform(0.0, 4.0)), Quantise()))


def speckle(scale: int = 1) -> Chain:
    """Multiplicative noise, as of radar and ultrasound."""
    return Chain((SpeckleNoise(Uniform(5.0, 50.0)), Quantise()))


def bicubic(scale: int = 4) -> Chain:
    """MATLAB's bicubic reduction and 8 bits: the classical super-resolution task."""
    return Chain((Downsample(scale), Quantise()))


_NAMED: dict[str, Callable[[], Degradation]] = {
    "mixed-mild": lambda: mixed("mild"),
    "mixed-moderate": lambda: mixed("moderate"),
    "mixed-severe": lambda: mixed("severe"),
    "shdd-easy": lambda: Chain((Shdd("easy"), Quantise())),
    "shdd-moderate": lambda: Chain((Shdd("moderate"), Quantise())),
    "shdd-difficult": lambda: Chain((Shdd("difficult"), Quantise())),
    "flickr-basic": lambda: Chain((FlickrDistortion("basic"), Quantise())),
    "flickr-difficult": lambda: Chain((FlickrDistortion("difficult"), Quantise())),
    "srrunet": srrunet,
    "paper": paper,
    "motion": motion,
    "real-noise": real_noise,
    "speckle": speckle,
}
_SCALED: dict[str, Callable[[int], Degradation]] = {
    "bicubic": bicubic,
    "usrnet": usrnet,
    "dasr": dasr,
    "film": film,
    "paper": paper,
    "sr-noise": sr_noise,
    "sr-blur": sr_blur,
    "bsrgan": bsrgan,
    "realesrgan": second_order,
}


def recipes() -> list[str]:
    """All names that `recipe` knows; `NAME-xS` takes any whole scale."""
    return sorted([*_NAMED, *(f"{name}-x4" for name in _SCALED), "noise-25", "jpeg-40"])


def recipe(name: str) -> Degradation:
    """A named chain: one of `recipes()`, with any scale behind ``-x``, any level behind ``noise-`` and ``jpeg-``.

    Raises:
        UsageError: there is none of that name.
    """
    if name in _NAMED:
        return _NAMED[name]()
    if (scaled := re.fullmatch(r"(.+)-x(\d+)", name)) and scaled[1] in _SCALED:
        return _SCALED[scaled[1]](int(scaled[2]))
    if level := re.fullmatch(r"noise-(\d+(?:\.\d+)?)", name):
        return Chain((GaussianNoise(float(level[1])), Quantise()))
    if level := re.fullmatch(r"jpeg-(\d+)", name):
        return Jpeg(int(level[1]))
    near = difflib.get_close_matches(name, recipes(), 3)
    hint = f" Did you mean {' or '.join(near)}?" if near else f" There are {', '.join(recipes())}."
    raise UsageError(f"There is no recipe '{name}'.{hint}")
