"""Blur kernels: made from a formula, drawn at random, read from files, checked and repaired.

A kernel is `kh x kw` float32, odd, centred, non-negative, of sum 1, and is meant for convolution (not correlation).
x runs to the right, y downwards; angles are in degrees, from the x axis towards the y axis.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from restora.errors import UsageError

if TYPE_CHECKING:
    from restora.degradation.kernel_files import Provenance

_OVERSAMPLE = 8  # points a pixel's side, for shapes with a sharp edge


def gaussian(sigma: float, size: int | None = None) -> Tensor:
    """An isotropic Gaussian of standard deviation `sigma` pixels; the size is 6 sigma and odd where none is given.

    Values are samples at pixel centres, as in nearly all papers; sigma 0 is the unit impulse.
    """
    return anisotropic(sigma, sigma, 0.0, size)


def anisotropic(
    sigma_x: float, sigma_y: float, angle: float = 0.0, size: int | None = None, shape: float = 1.0
) -> Tensor:
    """A Gaussian with standard deviations along two axes, the first turned by `angle` degrees.

    Args:
        sigma_x, sigma_y: in pixels, at least 0.
        size: odd; 6 times the larger sigma where none is given.
        shape: exponent of the squared distance: 1 is the Gaussian, less has longer tails, more a flatter top
            (the generalised Gaussian of Real-ESRGAN's kernels).
    """
    if min(sigma_x, sigma_y) < 0 or shape <= 0:
        raise UsageError("The widths of a Gaussian kernel are at least 0 and its shape is positive.")
    size = _size(size, 6 * max(sigma_x, sigma_y))
    return _finish(np.exp(-0.5 * _distance(sigma_x, sigma_y, angle, size) ** shape))


def plateau(sigma_x: float, sigma_y: float, angle: float = 0.0, size: int | None = None, shape: float = 1.0) -> Tensor:
    """A kernel with a flat top, `1 / (1 + d^shape)` of the squared distance d; parameters as `anisotropic`."""
    size = _size(size, 6 * max(sigma_x, sigma_y))
    return _finish(1 / (1 + _distance(sigma_x, sigma_y, angle, size) ** shape))


def _distance(sigma_x: float, sigma_y: float, angle: float, size: int) -> np.ndarray:
    """Squared distance from the centre in units of the two widths."""
    x = np.arange(size, dtype=np.float64) - size // 2
    y = x[:, None]
    turn = math.radians(angle)
    across, along = max(sigma_y, 1e-3), max(sigma_x, 1e-3)  # so narrow that only the centre is left
    u = x * math.cos(turn) + y * math.sin(turn)
    v = y * math.cos(turn) - x * math.sin(turn)
    return (u / along) ** 2 + (v / across) ** 2


def disk(radius: float, size: int | None = None) -> Tensor:
    """Defocus: a uniform disc of `radius` pixels, its edge by area."""
    if radius < 0:
        raise UsageError("The radius of a disc is at least 0.")
    size = _size(size, 2 * radius)
    fine = (np.arange(size * _OVERSAMPLE) + 0.5) / _OVERSAMPLE - size / 2
    inside = (fine**2 + fine[:, None] ** 2 <= max(radius, 0.5) ** 2).astype(np.float64)
    return _finish(inside.reshape(size, _OVERSAMPLE, size, _OVERSAMPLE).mean((1, 3)))


def motion(length: float, angle: float = 0.0, size: int | None = None) -> Tensor:
    """Even motion along a straight line of `length` pixels (1 is no motion) at `angle` degrees."""
    if length < 1:
        raise UsageError("The length of a motion blur is at least 1 pixel.")
    size = _size(size, length)
    reach = (length - 1) / 2
    points = np.linspace(-reach, reach, max(2, math.ceil(length) * _OVERSAMPLE))
    turn = cmath.exp(1j * math.radians(angle))
    return _finish(_splat(points * turn, size))


def trajectory(
    size: int = 31, seed: int = 0, shake: float = 0.5, jerks: float = 0.02, exposure: float = 1.0, steps: int = 240
) -> Tensor:
    """The path of a hand-held camera: a point with inertia, pushed at random, pulled back to where it started, and now and
    then jerked into another direction (the model of Boracchi and Foi 2012, which DeblurGAN draws its kernels from).

    Args:
        size: odd side of the kernel; the path is scaled to fit into it.
        seed: decides the path. shake: 0 for nearly straight, 1 for nervous. jerks: probability of a jerk at a step.
        exposure: the part of the path, in (0, 1], during which the shutter is open.

    Returns:
        the time that the path spends at each pixel, its centroid at the centre.
    """
    if not 0 < exposure <= 1 or shake < 0 or not 0 <= jerks <= 1:
        raise UsageError("A trajectory has an exposure in (0, 1], a shake of at least 0 and jerks between 0 and 1.")
    rng = np.random.Generator(np.random.PCG64(seed))
    pushes = (rng.standard_normal(steps) + 1j * rng.standard_normal(steps)).tolist()
    jerked = (rng.random(steps) < jerks).tolist()
    turns = rng.uniform(0, 2 * math.pi, 2 * steps).tolist()
    velocity, place, path = cmath.exp(1j * turns[0]), 0j, []
    pull = 0.4 * shake * float(rng.random()) / steps
    for i in range(steps):
        velocity += 0.5 * shake * pushes[i] / math.sqrt(steps) * 2 - pull * place
        if jerked[i]:  # a jerk turns most of the way round
            velocity += 2 * cmath.exp(1j * (cmath.phase(velocity) + math.pi + (turns[steps + i] / math.pi - 1) * 0.5))
        velocity /= max(abs(velocity), 1e-9)
        place += velocity
        path.append(place)
    z = np.array(path[: max(2, round(exposure * steps))])
    z -= z.mean()
    reach = max(np.abs(z.real).max(), np.abs(z.imag).max())
    room = (_size(size, 0) - 3) / 2  # a pixel of margin for the interpolation
    return _finish(_splat(z * (max(room, 0.0) / reach * float(rng.uniform(0.5, 1.0))), size))


def sinc(cutoff: float, size: int = 21) -> Tensor:
    """The ideal circular low-pass with `cutoff` in radians a pixel (up to pi), cut to `size`. It has negative lobes and so
    rings, as over-sharpened and recompressed pictures do; it is no kernel that `check` would let pass."""
    if not 0 < cutoff <= math.pi:
        raise UsageError("The cutoff of a sinc kernel is between 0 and pi.")
    x = np.arange(_size(size, 0), dtype=np.float64) - size // 2
    r = np.hypot(x, x[:, None])
    with np.errstate(divide="ignore", invalid="ignore"):
        k = cutoff * _bessel_j1(cutoff * r) / (2 * math.pi * r)
    k[size // 2, size // 2] = cutoff**2 / (4 * math.pi)
    return torch.from_numpy((k / k.sum()).astype(np.float32))


def _bessel_j1(x: np.ndarray) -> np.ndarray:
    """The Bessel function J1 by its integral (1/pi) * int_0^pi cos(t - x sin t) dt. The midpoint rule converges faster than
    any power once there is a point for every two radians of the largest x."""
    values, inverse = np.unique(x, return_inverse=True)
    points = int(values.max() / 2) + 32
    t = (np.arange(points) + 0.5) * (math.pi / points)
    return np.cos(t - values[:, None] * np.sin(t)).mean(1)[inverse].reshape(x.shape)


def _splat(path: np.ndarray, size: int) -> np.ndarray:
    """A path of complex pixel coordinates about the centre, each point shared by the four pixels around it."""
    k = np.zeros((size + 2, size + 2))
    x, y = path.real + size // 2 + 1, path.imag + size // 2 + 1
    left, top = np.floor(x).astype(int).clip(0, size), np.floor(y).astype(int).clip(0, size)
    dx, dy = x - left, y - top
    for i, j, weight in ((0, 0, (1 - dx) * (1 - dy)), (0, 1, dx * (1 - dy)), (1, 0, (1 - dx) * dy), (1, 1, dx * dy)):
        np.add.at(k, (top + i, left + j), weight.clip(0, 1))
    return k[1:-1, 1:-1]


def _size(size: int | None, reach: float) -> int:
    if size is None:
        return 2 * math.ceil(reach / 2) + 1
    if size < 1 or size % 2 == 0:
        raise UsageError(f"The side of a kernel is odd, not {size}.")
    return size


def _finish(k: np.ndarray) -> Tensor:
    return torch.from_numpy((k / k.sum()).astype(np.float32))


def problems(kernel: Tensor, centred: bool = True) -> list[str]:
    """What is wrong with a kernel, as sentences; empty when nothing is. `repair` mends all of it.

    Args:
        centred: also ask that the centroid is within a pixel of the centre.
    """
    if kernel.dim() != 2 or 0 in kernel.shape:
        return [f"A kernel has two dimensions, not the shape {tuple(kernel.shape)}."]
    found = []
    if not bool(torch.isfinite(kernel).all()):
        return ["The kernel holds NaN or infinity."]
    if kernel.shape[0] % 2 == 0 or kernel.shape[1] % 2 == 0:
        found.append(f"The sides of a kernel are odd, not {kernel.shape[0]}x{kernel.shape[1]}.")
    total = float(kernel.double().sum())
    if float(kernel.min()) < -1e-6 * max(abs(total), 1e-12):
        found.append("The kernel has negative values.")
    if abs(total - 1) > 1e-3:
        found.append(f"The kernel sums to {total:.4g}, not to 1.")
    if centred and total > 0:
        y, x = _centroid(kernel)
        if max(abs(y - (kernel.shape[0] - 1) / 2), abs(x - (kernel.shape[1] - 1) / 2)) > 1:
            found.append("The kernel's weight is not centred: it would shift the picture.")
    return found


def check(kernel: Tensor, centred: bool = True) -> Tensor:
    """The kernel itself.

    Raises:
        UsageError: it is not odd, centred, non-negative and of sum 1; `kernels.repair` mends that.
    """
    found = problems(kernel, centred)
    if found:
        raise UsageError(" ".join(found) + " degradation.kernels.repair(kernel) mends a kernel.")
    return kernel


def repair(kernel: Tensor) -> Tensor:
    """A kernel that passes `check`: NaN and negative values become 0, the centroid moves to the centre by whole pixels (the
    sides grow to odd numbers where the weight would not fit), the sum becomes 1.

    Raises:
        UsageError: it has not two dimensions, or no positive value.
    """
    if kernel.dim() != 2 or 0 in kernel.shape:
        raise UsageError(f"A kernel has two dimensions, not the shape {tuple(kernel.shape)}.")
    k = torch.nan_to_num(kernel.detach().cpu().double(), 0, 0, 0).clamp(min=0)
    if float(k.sum()) <= 0:
        raise UsageError("The kernel has no positive value and cannot be repaired.")
    rows, columns = k.sum(1).nonzero().flatten(), k.sum(0).nonzero().flatten()
    y, x = (round(c) for c in _centroid(k))
    # the smallest odd sides, not below those given, that hold all weight about the centroid
    half_y = max(kernel.shape[0] // 2, y - int(rows[0]), int(rows[-1]) - y)
    half_x = max(kernel.shape[1] // 2, x - int(columns[0]), int(columns[-1]) - x)
    out = torch.zeros(2 * half_y + 1, 2 * half_x + 1, dtype=torch.float64)
    part = k[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    top, left = int(rows[0]) - y + half_y, int(columns[0]) - x + half_x
    out[top : top + part.shape[0], left : left + part.shape[1]] = part
    return (out / out.sum()).float()


def _centroid(kernel: Tensor) -> tuple[float, float]:
    k = kernel.double().clamp(min=0)
    total = k.sum()
    y = (k.sum(1) * torch.arange(k.shape[0], dtype=torch.float64, device=k.device)).sum() / total
    x = (k.sum(0) * torch.arange(k.shape[1], dtype=torch.float64, device=k.device)).sum() / total
    return float(y), float(x)


def load(path: str | Path, index: int | None = None) -> Tensor:
    """The kernel in a file (.npy, .npz, .txt, .csv, .mat or a picture), of sum 1; see `load_all`.

    Raises:
        UsageError: the file holds several kernels and no `index` says which.
    """
    found = load_all(path)
    if index is None and len(found) > 1:
        raise UsageError(f"'{path}' holds {len(found)} kernels; say which by index=0 to {len(found) - 1}.")
    if not -len(found) <= (index or 0) < len(found):
        raise UsageError(f"'{path}' holds {len(found)} kernels; there is no number {index}.")
    return found[index or 0]


def load_all(path: str | Path) -> list[Tensor]:
    """All kernels in a file, divided by their sums and with a line of zeros where a side was even; nothing is moved, because
    some published kernels are off-centre on purpose (`repair` centres one).

    .npy, .npz and MATLAB files hold one kernel, a stack of them (`K x kh x kw`) or a cell array; text files hold rows of numbers;
    of a picture the brightness counts, where it is not transparent.

    Raises:
        UsageError: the file is missing or holds no kernel. MissingExtra: a MATLAB 7.3 file needs h5py.
    """
    from restora.degradation.kernel_files import read

    found = []
    for k in read(path):
        if not np.isfinite(k).all() or k.sum() <= 0:
            raise UsageError(
                f"'{path}' holds no kernel: its values are not finite, or do not sum to something positive."
            )
        odd = np.pad(k, [(0, 1 - n % 2) for n in k.shape])
        found.append(torch.from_numpy((odd / odd.sum()).astype(np.float32)))
    return found


def save(path: str | Path, kernel: Tensor, provenance: Provenance | None = None) -> None:
    """Writes a kernel as .npy, .npz, .txt or .png (16 bits), by the suffix, with what is known of where it is from.

    Raises:
        UsageError: another suffix. PictureWriteError: it cannot be written.
    """
    from restora.degradation.kernel_files import write

    write(path, kernel.detach().cpu().float().numpy(), provenance)


def provenance(text: str | Path) -> Provenance | None:
    """What a kernel file (`path` or `path:index`) says of where its kernel is from; None for formulas and silent files."""
    from restora.degradation.kernel_files import provenance as read

    place = file_of(str(text))
    return None if place is None else read(place[0])


# name: (function, names of its numbers, how many may be left out)
_FORMULAS: dict[str, tuple[Callable[..., Tensor], tuple[str, ...], int]] = {
    "gaussian": (gaussian, ("sigma", "size"), 1),
    "anisotropic": (anisotropic, ("sigma_x", "sigma_y", "angle", "size"), 2),
    "motion": (motion, ("length", "angle", "size"), 2),
    "disk": (disk, ("radius", "size"), 1),
    "trajectory": (trajectory, ("size", "seed"), 2),
}
_LARGEST = 1025  # a slip of the keys must not ask for gigabytes


def parse(text: str) -> Tensor:
    """A kernel in words: a formula or a file.

    ``gaussian:SIGMA[:SIZE]``, ``anisotropic:SIGMA_X:SIGMA_Y[:ANGLE[:SIZE]]``, ``motion:LENGTH[:ANGLE[:SIZE]]``,
    ``disk:RADIUS[:SIZE]``, ``trajectory[:SIZE[:SEED]]``; or ``PATH[:INDEX]``, where the index (from 0) says which of several
    kernels in a file is meant. A file of the name goes before a formula. What a file holds is divided by its sum and
    otherwise left alone (`load_all`).

    Raises:
        UsageError: it is neither; the sentence says what would be.
    """
    place = file_of(text)
    if place is not None:
        return load(*place)
    name, *values = text.strip().split(":")
    if name.lower() not in _FORMULAS:
        raise UsageError(
            f"'{text}' is neither a kernel file nor a formula such as gaussian:1.6, anisotropic:3:1:30, motion:25:30, disk:4 "
            "or trajectory:31:7."
        )
    function, names, optional = _FORMULAS[name.lower()]
    try:
        numbers = [int(v) if n in ("size", "seed") else float(v) for n, v in zip(names, values, strict=False)]
    except ValueError:
        numbers = []
    if not len(names) - optional <= len(values) <= len(names) or len(numbers) != len(values):
        needed = ":".join(n.upper() for n in names[: len(names) - optional])
        further = "".join(f"[:{n.upper()}]" for n in names[len(names) - optional :])
        raise UsageError(
            f"This kernel is written {name.lower()}{':' if needed else ''}{needed}{further}, not '{text}'."
        )
    arguments = dict(zip(names, numbers, strict=False))
    reach = {"gaussian": 6, "anisotropic": 6, "disk": 2}.get(name.lower(), 1)
    sizes = [v * reach for n, v in arguments.items() if n not in ("size", "seed", "angle")]
    if not all(math.isfinite(v) for v in numbers) or max([*sizes, arguments.get("size", 1)]) > _LARGEST:
        raise UsageError(f"'{text}' would be larger than {_LARGEST} pixels; a kernel's numbers are pixels and degrees.")
    return function(**arguments)


def file_of(text: str) -> tuple[str, int | None] | None:
    """Path and index (None where none is given), if `text` names a file: `path` or `path:index`."""
    head, _, tail = text.rpartition(":")
    if head and tail.lstrip("-").isdigit() and not Path(text).exists() and _like_a_file(head):
        return head, int(tail)
    return (text, None) if _like_a_file(text) else None


def _like_a_file(text: str) -> bool:
    """A path that exists, or whose suffix shows that a file is meant: it deserves the sentence about the missing file."""
    return Path(text).is_file() or (Path(text).suffix.lower() in (".npy", ".npz", ".mat", ".png", ".txt", ".csv"))
