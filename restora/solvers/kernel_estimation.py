"""The blur kernel of a photograph, from the photograph alone.

Coarse to fine, a sharp picture and a kernel are found in turn. The sharp picture has few gradients (Xu, Zheng, Jia, CVPR 2013;
Pan, Hu, Su, Yang, CVPR 2014) or, besides, a dark channel that is mostly zero (Pan, Sun, Pfister, Yang, CVPR 2016); the kernel is
the non-negative solution of a quadratic problem in the gradient domain. What is our own: only observed pixels count, those beyond
the border and the clipped ones being unknowns in both steps (`Forward.complete`); all gradients of the sharp picture are used,
not a selection; the quadratic problem is posed on the kernel's own support through the auto- and cross-correlation of the
gradients, so that its iterations cost next to nothing; and two runs with different settings witness for each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from restora.degradation.resize import resize
from restora.errors import UsageError
from restora.solvers.base import Monitor, Step
from restora.solvers.forward import Forward

Prior = Literal["gradient", "dark-channel"]
Box = tuple[int, int, int, int]  # left, top, width, height

SIZE = 31  # the side that is tried first; a kernel that fills it is looked for in a larger one
_LARGER = 1.5
_LARGEST = 101
_SIDE = 384  # of the crop on which a large picture's kernel is found
_SMALLEST_PICTURE = 32
_RATIO = math.sqrt(0.5)  # between levels of the pyramid
_HARDEST = 1e5  # last coupling to the sparse gradients
_DARK_LAST, _PATCH = 8.0, 35  # the same for the dark channel, and the side of its patches at full size
_FAINT = 0.02  # of the largest value: what is smaller is noise
_ISLAND = 0.05  # of the weight: smaller connected parts are noise
_CLIPPED = 250 / 255


@dataclass(frozen=True)
class _Run:
    """Settings of one run: least side of a kernel, weight of its squared norm, rounds a level, and the weights of the number of
    gradients in the first and in the last round of each level."""

    smallest: int
    smoothness: float
    rounds: int
    first: float
    last: float


# the first gives the kernel, the second is its witness
_RUNS = (_Run(5, 8.0, 12, 3e-3, 1e-4), _Run(3, 8.0, 8, 4e-3, 3e-4))


@dataclass(frozen=True)
class EstimationStep(Step):
    """`Step` with the present kernel, `n x n`, at the resolution of the level in hand."""

    kernel: Tensor


@dataclass(frozen=True, eq=False)
class KernelEstimate:
    """What `estimate` finds.

    Attributes:
        kernel: `kh x kw`, odd, centred, non-negative, of sum 1, without empty margins.
        confidence: 0 to 1, an estimate of the probability that a deconvolution with it loses less than 3 dB (error ratio below 2)
            against the true kernel; see `confidence_of`.
        agreement: the similarity of the two runs' kernels, 0 to 1, from which the confidence comes.
        latent: the sharp picture that goes with the kernel, `1 x 1 x h x w`, grey; a cartoon, not a restoration.
        crop: left, top, width, height of the part of the picture that was looked at.
        notes: sentences for the user.
    """

    kernel: Tensor
    confidence: float
    agreement: float
    latent: Tensor
    crop: Box
    notes: tuple[str, ...] = ()


def estimate(
    picture: Tensor,
    size: int | None = None,
    *,
    prior: Prior = "gradient",
    crop: Box | None = None,
    monitor: Monitor | None = None,
) -> KernelEstimate:
    """The kernel that blurred a picture, if it is the same everywhere. Nothing is drawn at random.

    Args:
        picture: `1 x C x H x W`, `C x H x W` or `H x W` in [0, 1]; colour is turned grey.
        size: odd side of the square in which the kernel is looked for; by default 31, and more when the kernel fills that.
        prior: ``dark-channel`` takes five times as long and suits scenes with deep shadows.
        crop: left, top, width, height of the part to look at; by default one with edges in all directions, at most 384 pixels a
            side.
        monitor: see `solvers.Monitor`; it receives an `EstimationStep`. True ends the estimation with what there is.

    Raises:
        UsageError: the picture is too small or empty of edges, or the size or the crop does not fit.
    """
    if prior not in get_args(Prior):
        raise UsageError(f"The prior of a kernel estimation is {' or '.join(get_args(Prior))}, not '{prior}'.")
    grey, clipped = _grey(picture)
    if size is not None and (size < 3 or size % 2 == 0):
        raise UsageError(f"The side of a kernel to look for is odd and at least 3, not {size}.")
    side = size or SIZE
    box = _checked_crop(crop, grey) if crop else _textured(grey, clipped, max(_SIDE, 6 * side))
    left, top, width, height = box
    part, known = (t[..., top : top + height, left : left + width] for t in (grey, ~clipped))
    if min(width, height) < max(_SMALLEST_PICTURE, 2 * side if size else 0):
        raise UsageError(
            f"A part of {width}x{height} pixels is too small to find a kernel of {side}x{side}; it takes "
            f"{max(_SMALLEST_PICTURE, 2 * side)} pixels a side at least."
        )
    if float(part.std()) < 2 / 255:
        raise UsageError("The picture has no edges from which a blur could be told; choose another part by crop.")
    if size is None:  # a picture holds so much information only
        side = min(side, (min(width, height) // 4) | 1)
    notes = []
    if float(known.float().mean()) < 0.7:
        known = torch.ones_like(known)
        notes.append("A large part of the picture is clipped white; the kernel may suffer from it.")
    while True:
        kernels, latent = _runs(part, known, side, prior, monitor)
        larger = 2 * round(side * _LARGER / 2) + 1
        if size is not None or not _fills(kernels[0]) or larger > min(_LARGEST, min(width, height) // 3):
            break
        side = larger
    agreement = similarity(kernels[0], kernels[-1]) if len(kernels) == len(_RUNS) else 0.0
    kernel = _trimmed(kernels[0])
    confidence = confidence_of(agreement)
    if len(kernels) < len(_RUNS):
        notes.append("The estimation was stopped before its end; nothing is known of its quality.")
    if _fills(kernels[0]):
        notes.append(f"The kernel fills the {side}x{side} pixels in which it was looked for; try a larger size.")
    if float(kernel.max()) > 0.7:
        notes.append("The picture seems to be hardly blurred.")
    if confidence < 0.5:
        notes.append(
            "The estimate is uncertain; another crop or size may do better, and the robust data term is safer."
        )
    return KernelEstimate(kernel, confidence, agreement, latent, box, tuple(notes))


_EVEN, _STEEPNESS = 0.63, 12.0


def confidence_of(agreement: float) -> float:
    """The confidence that goes with the agreement of two runs: the logistic curve that fits 60 photographs under synthetic camera
    shake (`benchmarks/kernel_estimation.py --calibrate`). Below an agreement of 0.7 a third of those were good, above it 94 %. It
    knows nothing of a blur that differs across the picture, and of Levin's set, where nearly all runs agree, 84 % are good.
    """
    return 1 / (1 + math.exp(-(agreement - _EVEN) * _STEEPNESS))


def similarity(a: Tensor, b: Tensor) -> float:
    """The largest normalised correlation of two kernels over all shifts by whole pixels, 1 for equal ones."""
    x, y = a.double(), b.double()
    size = [n + m - 1 for n, m in zip(x.shape, y.shape, strict=True)]
    spectrum = torch.fft.rfft2(x, s=size) * torch.fft.rfft2(y.flip(0, 1), s=size)
    return float(torch.fft.irfft2(spectrum, s=size).max() / (x.norm() * y.norm()))


# the picture


def _grey(picture: Tensor) -> tuple[Tensor, Tensor]:
    """`1 x 1 x H x W` and where it is clipped."""
    x = picture.detach().cpu().float()
    while x.ndim < 4:
        x = x[None]
    if x.ndim != 4 or len(x) != 1 or x.shape[1] not in (1, 3):
        raise UsageError(
            f"A kernel is estimated from one grey or RGB picture, not from a tensor of shape {tuple(picture.shape)}."
        )
    if min(x.shape[-2:]) < _SMALLEST_PICTURE or not bool(torch.isfinite(x).all()):
        raise UsageError(
            f"A kernel is estimated from finite pixels, at least {_SMALLEST_PICTURE} a side, not {x.shape[-1]}x{x.shape[-2]}."
        )
    clipped = x.amax(1, keepdim=True) >= _CLIPPED
    if x.shape[1] == 3:
        red, green, blue = x.split(1, 1)
        x = green + 0.299 * (red - green) + 0.114 * (blue - green)  # exact where the channels are equal
    return x, clipped


def _checked_crop(crop: Box, grey: Tensor) -> Box:
    left, top, width, height = crop
    if min(left, top) < 0 or min(width, height) < 1 or left + width > grey.shape[-1] or top + height > grey.shape[-2]:
        raise UsageError(
            f"The crop {left},{top},{width},{height} does not lie within the picture of {grey.shape[-1]}x{grey.shape[-2]} pixels."
        )
    return crop


def _textured(grey: Tensor, clipped: Tensor, side: int) -> Box:
    """The square of at most `side` pixels with the most edges in its poorest direction: the smaller eigenvalue of the structure
    tensor, in which a clipped pixel counts nothing."""
    image = grey[0, 0].numpy()
    height, width = image.shape
    w, h = min(side, width), min(side, height)
    if (w, h) == (width, height):
        return 0, 0, width, height
    smooth = cv2.GaussianBlur(image, (0, 0), 1.5)
    gx, gy = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    # a few glaring edges must not outweigh many usable ones
    weight = (1 - clipped[0, 0].float().numpy()) / np.maximum(np.hypot(gx, gy), 0.02)
    xx, yy, xy = (_window_sums(weight * p, w, h) for p in (gx * gx, gy * gy, gx * gy))
    least = (xx + yy) / 2 - np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    top, left = np.unravel_index(int(least.argmax()), least.shape)
    return int(left), int(top), w, h


def _window_sums(a: np.ndarray, w: int, h: int) -> np.ndarray:
    total = cv2.integral(a.astype(np.float64))
    return total[h:, w:] - total[:-h, w:] - total[h:, :-w] + total[:-h, :-w]


# the iterations


class _Stopped(Exception):
    """The monitor asked to stop."""


class _Telling:
    """Counts the rounds for the monitor."""

    def __init__(self, monitor: Monitor | None, total: int) -> None:
        self.monitor, self.done, self.total = monitor, 0, total

    def __call__(self, image: Callable[[], Tensor], kernel: Tensor) -> None:
        self.done += 1
        if self.monitor is not None and self.monitor(EstimationStep(self.done, self.total, math.nan, image, kernel)):
            raise _Stopped


def _runs(part: Tensor, known: Tensor, side: int, prior: Prior, monitor: Monitor | None) -> tuple[list[Tensor], Tensor]:
    """The kernels of the runs, and the sharp picture of the first; fewer when the monitor stops it."""
    levels = [_sides(side, run.smallest) for run in _RUNS]
    tell = _Telling(monitor, sum(len(n) * run.rounds for n, run in zip(levels, _RUNS, strict=True)))
    found: list[Tensor] = []
    latent = part
    for run, sides in zip(_RUNS, levels, strict=True):
        kernel: Tensor | None = None
        try:
            for kernel, x in _run(part, known, sides, run, prior, tell):  # noqa: B007  (the last one counts)
                if not found:
                    latent = x
        except _Stopped:
            if not found:
                found.append(_identity(side) if kernel is None else _enlarged(kernel, side, side / kernel.shape[0]))
                latent = resize(latent, size=(part.shape[-2], part.shape[-1]))
            break
        assert kernel is not None
        found.append(kernel)
    return found, latent


def _sides(side: int, smallest: int) -> list[int]:
    """Sides of the kernel from the coarsest level to the finest."""
    levels = max(0, math.floor(math.log(smallest / side) / math.log(_RATIO) + 1e-9))
    return [max(smallest, math.ceil(side * _RATIO**level) | 1) for level in range(levels, 0, -1)] + [side]


def _run(
    part: Tensor, known: Tensor, sides: list[int], run: _Run, prior: Prior, tell: _Telling
) -> Iterator[tuple[Tensor, Tensor]]:
    """Kernel and sharp picture after each level."""
    kernel = _identity(sides[0])
    for level, side in zip(range(len(sides) - 1, -1, -1), sides, strict=True):
        if side != kernel.shape[0]:
            kernel = _centred(_enlarged(kernel, side, 1 / _RATIO))
        factor = _RATIO**level
        size = tuple(max(8, math.ceil(n * factor)) for n in part.shape[-2:])
        observed = resize(part, size=(size[0], size[1])) if level else part
        mask = resize(known.float(), size=(size[0], size[1])) > 0.999 if level else known
        model = Forward(kernel, (size[0], size[1]))
        seen = model.extend(observed)
        inside = F.pad(mask, _margins(model))
        differences = _differences(seen)
        both = torch.cat([inside & inside.roll(-1, -1), inside & inside.roll(-1, -2)], 1)
        completed = seen
        for n in range(run.rounds):
            sparsity = run.first * (run.last / run.first) ** (n / (run.rounds - 1))
            x = _sharp(model, completed, sparsity, prior, factor)
            completed = torch.where(inside, seen, model.blur(x))
            kernel = _kernel_step(model, _differences(x), differences, both, kernel, run.smoothness)
            kernel = _centred(_pruned(kernel))
            model = Forward(kernel, (size[0], size[1]))
            tell(lambda: model.crop(x), kernel)  # noqa: B023  (called at once or never)
        yield kernel, model.crop(x)


def _margins(model: Forward) -> tuple[int, int, int, int]:
    (top, left), (h, w), (height, width) = model.before, model.size, model.grid
    return left, width - w - left, top, height - h - top


def _differences(x: Tensor) -> Tensor:
    """Forward differences on the torus along x and y: `1 x 1 x H x W` -> `1 x 2 x H x W`."""
    return torch.cat([x.roll(-1, -1) - x, x.roll(-1, -2) - x], 1)


def _transposed_differences(g: Tensor) -> Tensor:
    x, y = g[:, :1], g[:, 1:]
    return x.roll(1, -1) - x + y.roll(1, -2) - y


def _sharp(model: Forward, observed: Tensor, sparsity: float, prior: Prior, factor: float) -> Tensor:
    """The picture x that minimises `|y - k * x|^2 + sparsity #{D x != 0}`, and for the dark channel `+ sparsity #{dark(x) != 0}`,
    by half-quadratic splitting with growing couplings (Pan et al. 2016, eqs. 9 to 16)."""
    back = model.otf.conj() * model.spectrum(observed)
    x = observed
    if prior == "gradient":
        return _sparse_gradients(model, back, model.power, x, sparsity, 2.0)
    patch = max(3, round(_PATCH * factor) | 1)
    coupling = 2 * sparsity
    while coupling < _DARK_LAST:
        free = _without_dark(x, patch, sparsity / coupling)
        right = back + coupling * model.spectrum(free)
        x = _sparse_gradients(model, right, model.power + coupling, x, sparsity, 4.0)
        coupling *= 2
    return x


def _sparse_gradients(model: Forward, back: Tensor, power: Tensor, x: Tensor, sparsity: float, growth: float) -> Tensor:
    coupling = 2 * sparsity
    while coupling < _HARDEST:
        g = _differences(x)
        g = g * (g.square().sum(1, keepdim=True) >= sparsity / coupling)
        x = model.picture(
            (back + coupling * model.spectrum(_transposed_differences(g))) / (power + coupling * model.roughness)
        )
        coupling *= growth
    return x


def _without_dark(x: Tensor, patch: int, threshold: float) -> Tensor:
    """Where the darkest pixel of a patch is below the threshold (squared) it becomes 0. A pixel is the darkest of some patch
    exactly when the morphological opening leaves it as it is."""
    window = np.ones((patch, patch), np.uint8)
    opened = torch.from_numpy(
        cv2.morphologyEx(x[0, 0].numpy(), cv2.MORPH_OPEN, window, borderType=cv2.BORDER_REPLICATE)
    )
    return x.masked_fill((opened >= x) & (x.square() < threshold), 0.0)


# the kernel


def _identity(side: int) -> Tensor:
    """Two equal pixels side by side: an exact impulse would be a fixed point of the iteration."""
    k = torch.zeros(side, side)
    k[side // 2, side // 2 : side // 2 + 2] = 0.5
    return k


def _kernel_step(
    model: Forward, sharp: Tensor, observed: Tensor, both: Tensor, kernel: Tensor, smoothness: float
) -> Tensor:
    """The k >= 0 that minimises `|D y - k * D x|^2 + smoothness |k|^2`; differences beside unknown pixels are the model's own."""
    spectrum = model.spectrum(sharp)
    target = model.spectrum(torch.where(both, observed, model.picture(model.otf * spectrum)))
    n, half = kernel.shape[0], kernel.shape[0] // 2
    auto = model.picture(spectrum.abs().square().sum(1))[0]
    cross = model.picture((spectrum.conj() * target).sum(1))[0]
    auto = auto.roll((n - 1, n - 1), (0, 1))[: 2 * n - 1, : 2 * n - 1]
    cross = cross.roll((half, half), (0, 1))[:n, :n]
    k = _nonnegative(auto.double(), cross.double(), smoothness, kernel.double())
    return (k / k.sum()).float() if float(k.sum()) > 0 else kernel


def _nonnegative(auto: Tensor, cross: Tensor, ridge: float, k: Tensor, rounds: int = 6, steps: int = 30) -> Tensor:
    """The k >= 0 that minimises `k'(A + ridge) k / 2 - cross'k`, A being the convolution with `auto` (`(2n - 1) x (2n - 1)`), by
    conjugate gradients on the pixels that are free, which are chosen anew when some became negative."""
    n = len(k)
    side = cv2.getOptimalDFTSize(3 * n - 2)
    size = (side, side)
    transfer = torch.fft.rfft2(auto, s=size)

    def normal(v: Tensor) -> Tensor:
        return (
            torch.fft.irfft2(transfer * torch.fft.rfft2(v, s=size), s=size)[n - 1 : 2 * n - 1, n - 1 : 2 * n - 1]
            + ridge * v
        )

    free = torch.ones_like(k, dtype=torch.bool)
    for _ in range(rounds):
        residual = (cross - normal(k)) * free
        direction, square = residual, float(residual.square().sum())
        first = square
        for _ in range(steps):
            if square <= 1e-12 * first or square == 0:
                break
            image = normal(direction) * free
            length = square / float((direction * image).sum())
            k = k + length * direction
            residual = residual - length * image
            before, square = square, float(residual.square().sum())
            direction = residual + (square / before) * direction
        negative = bool((k < 0).any())
        k = k.clamp(min=0)
        if not negative:
            break
        free = (k > 0) | (normal(k) < cross)
    return k


def _pruned(k: Tensor) -> Tensor:
    """Without what is faint, and without small islands."""
    k = torch.where(k < _FAINT * k.max(), torch.zeros_like(k), k)
    k = k / k.sum()
    count, labels = cv2.connectedComponents((k.numpy() > 0).astype(np.uint8), connectivity=8)
    names = torch.from_numpy(labels).long()
    weights = torch.zeros(count).scatter_add_(0, names.flatten(), k.flatten())
    large = weights >= min(_ISLAND, float(weights[1:].max()))
    large[0] = False
    k = k * large[names]
    return k / k.sum()


def _centred(k: Tensor) -> Tensor:
    """The centroid moved to the centre by whole pixels; what leaves the square is lost."""
    side = len(k)
    places = torch.arange(side, dtype=k.dtype)
    down, right = (side // 2 - round(float((k.sum(axis) * places).sum() / k.sum())) for axis in (1, 0))
    moved = F.pad(k, (right, -right, down, -down))
    return moved / moved.sum()


def _enlarged(k: Tensor, side: int, factor: float) -> Tensor:
    """For the next finer level: about its centre, by exactly that factor, in a square of another odd side."""
    back = 1 / factor
    shift = len(k) // 2 - back * (side // 2)
    move = np.array([[back, 0, shift], [0, back, shift]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    out = torch.from_numpy(cv2.warpAffine(k.numpy(), move, (side, side), flags=flags))
    return out / out.sum()


def _fills(k: Tensor) -> bool:
    """The weight reaches the outermost rows or columns of the square."""
    edge = max(1, len(k) // 15)
    inner = k[edge:-edge, edge:-edge]
    return float(k.sum() - inner.sum()) > 1e-3


def _trimmed(k: Tensor) -> Tensor:
    """Without empty margins, equally on opposite sides."""
    for axis in (0, 1):
        line = k.sum(1 - axis)
        half = len(line) // 2
        outer = (line[:half] + line[half + 1 :].flip(0)).cumsum(0)
        cut = int((outer <= 0).sum())
        k = k.narrow(axis, cut, len(line) - 2 * cut)
    return k.contiguous()
