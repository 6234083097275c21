"""Augmentations for restoration: CutBlur and its mixture with six others, as transforms of a batch of pairs.

Yoo, Ahn, Sohn: Rethinking Data Augmentation for Image Super-resolution, CVPR 2020; the efficiency thesis, section 2.5 and
table 4.1. They need nothing of this package's trainer:

>>> x, y = torch.rand(4, 3, 48, 48), torch.rand(4, 3, 48, 48)
>>> x, y = CutBlur(p=1.0, alpha=0.7)(x, y, np.random.default_rng(0))

An input smaller than its target (super-resolution) stays small for every operation but CutBlur, which pastes target pixels
into the input: it wants the input enlarged first, `enlarge="nearest"`, and a network that takes it so (`networks/cutblur.py`).
A cut through a small input lies on its pixels, so that it falls on the same place of the target.

One draw of chance serves the whole batch, as in the published code; colours of Blend, flips and dropped pixels are drawn for
each picture.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator
from torch import Tensor

from restora.degradation import resize
from restora.errors import RecipeError, UsageError

Enlarge = Literal["none", "nearest", "bicubic"]
Box = tuple[int, int, int, int]  # top, left, height, width

_BOX_DEVIATION = 0.01  # standard deviation of a box's side, as a share of the picture's


@dataclass(frozen=True)
class Augmented:
    """An augmented batch; unpacks into input and target.

    `mask` is None, or `B x 1 x H x W` at the target's size: 0 where a pixel must not count in the loss. `operation` is the
    kind of what was applied, empty where the coin fell against it.
    """

    input: Tensor
    target: Tensor
    mask: Tensor | None = None
    operation: str = ""

    def __iter__(self) -> Iterator[Tensor]:
        yield self.input
        yield self.target


class Augmentation(BaseModel, abc.ABC):
    """Base of all. Calling one takes `input` (`B x C x h x w`), `target` (`B x C x s*h x s*w`, s whole) in [0, 1] and a numpy
    generator, and returns an `Augmented`; what was passed in is not changed. The same generator state gives the same result.

    `p` is the probability that it is applied. `enlarge` brings a smaller input to the target's size beforehand, always.

    Raises:
        UsageError: shapes that do not belong together.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: ClassVar[str] = ""

    p: float = Field(1.0, ge=0, le=1, description="probability of being applied to a batch")
    enlarge: Enlarge = Field(
        "none", description="how an input smaller than the target is brought to its size beforehand"
    )

    def __call__(self, input: Tensor, target: Tensor, rng: np.random.Generator) -> Augmented:
        scale = _scale(input, target)
        if scale > 1 and self.enlarge != "none":
            input = enlarged(input, scale, self.enlarge)
        if rng.random() >= self.p:
            return Augmented(input, target)
        return self._apply(input, target, rng)

    @abc.abstractmethod
    def _apply(self, input: Tensor, target: Tensor, rng: np.random.Generator) -> Augmented:
        """The operation itself, its coin having fallen for it."""

    @property
    def masks(self) -> bool:
        """Whether it may ask for pixels to be left out of the loss."""
        return False

    @property
    def mixes(self) -> tuple[str, ...]:
        """The kinds of its operations after which a picture no longer has the noise level, kernel or quality of its own: they
        mix pictures, or pictures with a colour."""
        return ()

    def _done(self, input: Tensor, target: Tensor, mask: Tensor | None = None) -> Augmented:
        return Augmented(input, target, mask, self.kind)


class Geometric(Augmentation):
    """Left-right and up-down flips and transposition, each with probability 0.5 for each picture: the eight symmetries of the
    square. Patches that are not square are not transposed."""

    kind: ClassVar[str] = "geometric"

    def _apply(self, input: Tensor, target: Tensor, rng: np.random.Generator) -> Augmented:
        square = input.shape[-1] == input.shape[-2]
        draws = rng.random((len(input), 3)) < 0.5
        both = [
            torch.stack(
                [_turned(x, bool(lr), bool(ud), bool(t) and square) for x, (lr, ud, t) in zip(z, draws, strict=True)]
            )
            for z in (input, target)
        ]
        return self._done(*both)


class Cutout(Augmentation):
    """Drops single pixels of the input, all channels of them, and leaves them out of the loss (`Augmented.mask`). The usual
    box of a quarter of the picture costs a network 0.1 dB; a thousandth of the pixels does no harm."""

    kind: ClassVar[str] = "cutout"
    alpha: float = Field(0.001, ge=0, le=1, description="probability that a pixel is dropped")

    @property
    def masks(self) -> bool:
        return True

    def _apply(self, input: Tensor, target: Tensor, rng: np.random.Generator) -> Augmented:
        shape = (len(input), 1, *input.shape[-2:])
        kept = torch.from_numpy(rng.random(shape) >= self.alpha).to(input)
        return self._done(input * kept, target, enlarged(kept, _scale(input, target), "nearest"))


class CutMix(Augmentation):
    """A box of another picture of the batch, pasted at the same place into input and target."""

    kind: ClassVar[str] = "cutmix"
    alpha: float = Field(0.7, ge=0, le=1, description="mean of the box's side as a share of the picture's")

    @property
    def mixes(self) -> tuple[str, ...]:
        return (self.kind,)

    def _apply(self, input: Tensor, target: Tensor, rng: np.random.Generator) -> Augmented:
        other, box = _partner(input, rng), _box(input, self.alpha, rng)
        scale = _scale(input, target)
        return self._done(_pasted(input, input[other], box), _pasted(target, target[other], _times(box, scale)))


class Mixup(Augmentation):
    """`lambda * I_i + (1 - lambda) * I_j` of input and target, lambda ~ Beta(alpha, alpha)."""

    kind: ClassVar[str] = "mixup"
    alpha: float = Field(1.2, gt=0, description="both parameters of the Beta distribution")

    @property
    def mixes(self) -> tuple[str, ...]:
        return (self.kind,)

    def _apply(self, input: Tensor, target: Tensor, rng: np.random.Generator) -> Augmented:
        other, weight = _partner(input, rng), float(rng.beta(self.alpha, self.alpha))
        return self._done(*(torch.lerp(z[other], z, weight) for z in (input, target)))


class CutMixup(Augmentation):
    """CutMix with a mixed-up picture: the mixture stands inside the box or outside of it, by a fair coin."""

    kind: ClassVar[str] = "cutmixup"
    alpha: float = Field(0.7, ge=0, le=1, description="mean of the box's side as a share of the picture's")
    mixup_alpha: float = Field(1.2, gt=0, description="both parameters of the mixture's Beta distribution")

    @property
    def mixes(self) -> tuple[str, ...]:
        return (self.kind,)

    def _apply(self, input: Tensor, target: Tensor, rng: np.random.Generator) -> Augmented:
        other, box = _partner(input, rng), _box(input, self.alpha, rng)
        weight, inside = float(rng.beta(self.mixup_alpha, self.mixup_alpha)), rng.random() < 0.5
        results = []
        for z, place in ((input, box), (target, _times(box, _scale(input, target)))):
            mixed = torch.lerp(z[other], z, weight)
            results.append(_pasted(z, mixed, place) if inside else _pasted(mixed, z, place))
        return self._done(*results)


class RgbPermutation(Augmentation):
    """The colour channels of input and target in another order (which may be the one they had)."""

    kind: ClassVar[str] = "rgb_permutation"

    def _apply(self, input: Tensor, target: Tensor, rng: np.random.Generator) -> Augmented:
        order = torch.from_numpy(rng.permutation(input.shape[1])).to(input.device)
        return self._done(input[:, order], target[:, order])


class Blend(Augmentation):
    """`v * I + (1 - v) * c` of input and target with a random colour c ~ U(0, 1) for each picture, v ~ U(alpha, 1)."""

    kind: ClassVar[str] = "blend"
    alpha: float = Field(0.6, ge=0, le=1, description="least weight of the picture")
    per_channel: bool = Field(
        False, description="a weight for each channel, as the text says; the published code has one"
    )

    @property
    def mixes(self) -> tuple[str, ...]:
        return (self.kind,)

    def _apply(self, input: Tensor, target: Tensor, rng: np.random.Generator) -> Augmented:
        channels = input.shape[1]
        share = rng.uniform(self.alpha, 1, (1, channels if self.per_channel else 1, 1, 1))
        colour = rng.random((len(input), channels, 1, 1))
        weight, added = (torch.from_numpy(a).to(input) for a in (share, (1 - share) * colour))
        return self._done(weight * input + added, weight * target + added)


class CutBlur(Augmentation):
    """A box of the sharp picture pasted into the degraded one, or the reverse, by a fair coin; the target stays what it was
    (equation 4.1). The network learns where, and how much, it has to restore.

    Raises:
        UsageError: the input is smaller than the target and `enlarge` is ``none``.
    """

    kind: ClassVar[str] = "cutblur"
    alpha: float = Field(0.7, ge=0, le=1, description="mean of the box's side as a share of the picture's")
    align: int = Field(1, ge=1, description="the box begins and ends on multiples of this many pixels")

    def _apply(self, input: Tensor, target: Tensor, rng: np.random.Generator) -> Augmented:
        if input.shape != target.shape:
            raise UsageError(
                "CutBlur pastes target pixels into the input, so both must have one size: set enlarge='nearest' and train a "
                "network that takes the enlarged input, such as cutblur_carn_x2."
            )
        box = _box(input, self.alpha, rng, self.align)
        sharp_inside = rng.random() < 0.5
        mixed = _pasted(input, target, box) if sharp_inside else _pasted(target, input, box)
        return self._done(mixed, target)


# What the thesis uses where: probability that a batch is augmented, and the ratios if they are not equal.
_REAL_SR = {"cutblur": 0.4, **dict.fromkeys(("cutout", "cutmix", "mixup", "cutmixup", "rgb_permutation", "blend"), 0.1)}
_PRESETS: dict[str, tuple[float, dict[str, float] | None]] = {
    "sr": (1.0, None),
    "small-sr": (0.2, None),
    "real-sr": (1.0, _REAL_SR),
    "restoration": (0.6, None),
}
_MIXED: tuple[type[Augmentation], ...] = (Cutout, CutMix, Mixup, CutMixup, RgbPermutation, Blend, CutBlur)


class MoA(Augmentation):
    """The mixture of augmentations: with probability `p` exactly one of the operations, drawn by `ratios`.

    `preset` gives `p` and `ratios` where they are not given: ``sr`` (p = 1), ``small-sr`` for SRCNN and CARN (p = 0.2),
    ``real-sr`` (p = 1, CutBlur 40 % and the six others 10 % each), ``restoration`` for tasks without enlargement (p = 0.6).
    `operations` maps kinds to their options; those left out of a given `ratios` are never drawn.
    """

    kind: ClassVar[str] = "moa"
    preset: Literal["sr", "small-sr", "real-sr", "restoration"] = "sr"
    p: float | None = Field(None, ge=0, le=1, description="probability; the preset's when not given")  # type: ignore[assignment]
    ratios: dict[str, float] | None = Field(None, description="kind -> relative frequency; the preset's when not given")
    operations: dict[str, dict[str, Any]] = Field(
        {}, description="kind -> options of the operation, where they are not its defaults"
    )
    _drawn: tuple[Augmentation, ...] = PrivateAttr(())
    _frequencies: np.ndarray = PrivateAttr(default_factory=lambda: np.empty(0))

    @model_validator(mode="after")
    def _prepare(self) -> MoA:
        kinds = {k.kind: k for k in _MIXED}
        p, usual = _PRESETS[self.preset]
        ratios = self.ratios if self.ratios is not None else usual or dict.fromkeys(kinds, 1.0)
        if unknown := sorted({*ratios, *self.operations} - set(kinds)):
            raise ValueError(f"there is no operation '{unknown[0]}'; the mixture has {', '.join(kinds)}")
        if any(r < 0 for r in ratios.values()) or not sum(ratios.values()) > 0:
            raise ValueError("ratios are not negative, and one of them is above 0")
        if any("enlarge" in options for options in self.operations.values()):
            raise ValueError("enlarge belongs to the mixture, not to one of its operations")
        object.__setattr__(self, "p", p if self.p is None else self.p)
        self._drawn = tuple(kinds[kind](**self.operations.get(kind, {})) for kind in ratios)
        weights = np.array(list(ratios.values()), dtype=np.float64)
        self._frequencies = weights / weights.sum()
        return self

    @property
    def masks(self) -> bool:
        return any(step.masks for step in self._drawn)

    @property
    def mixes(self) -> tuple[str, ...]:
        drawn = (step for step, often in zip(self._drawn, self._frequencies, strict=True) if often)
        return tuple(kind for step in drawn for kind in step.mixes)

    def _apply(self, input: Tensor, target: Tensor, rng: np.random.Generator) -> Augmented:
        chosen = self._drawn[int(rng.choice(len(self._drawn), p=self._frequencies))]
        return chosen(input, target, rng)


class Chain:
    """Augmentations one after the other, each with its own coin.

    Raises:
        UsageError: one that is not the last asks for a mask, which a later one would move.
    """

    def __init__(self, steps: Sequence[Augmentation]) -> None:
        self.steps = tuple(steps)
        if any(step.masks for step in self.steps[:-1]):
            raise UsageError("An augmentation that drops pixels (cutout, moa) comes last in a chain.")

    @property
    def mixes(self) -> tuple[str, ...]:
        return tuple(kind for step in self.steps for kind in step.mixes)

    def __call__(self, input: Tensor, target: Tensor, rng: np.random.Generator) -> Augmented:
        result = Augmented(input, target)
        for step in self.steps:
            done = step(result.input, result.target, rng)
            kinds = [kind for kind in (result.operation, done.operation) if kind]
            result = replace(done, operation="+".join(kinds))
        return result


_ALL: tuple[type[Augmentation], ...] = (Geometric, *_MIXED, MoA)
AUGMENTATIONS: dict[str, type[Augmentation]] = {kind.kind: kind for kind in _ALL}


def build_augmentation(options: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Augmentation | Chain:
    """The augmentation that a recipe names: ``{"kind": "moa", "preset": "real-sr"}``, or a list of such for a chain.

    Raises:
        RecipeError: no such kind, an unknown option or an impossible value.
    """
    if not isinstance(options, Mapping):
        try:
            return Chain([_built(step) for step in options])
        except UsageError as error:
            raise RecipeError(str(error)) from error
    return _built(options)


def _built(options: Mapping[str, Any]) -> Augmentation:
    values = dict(options)
    name = values.pop("kind", None)
    if name not in AUGMENTATIONS:
        raise RecipeError(f"There is no augmentation '{name}'; the kinds are {', '.join(AUGMENTATIONS)}.")
    try:
        return AUGMENTATIONS[name](**values)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or name}: {e['msg']}" for e in error.errors()[:4])
        raise RecipeError(f"The augmentation '{name}' is invalid: {problems}.") from error


def enlarged(x: Tensor, scale: int, how: Literal["nearest", "bicubic"]) -> Tensor:
    """`B x C x h x w` at the size `s*h x s*w`."""
    if scale == 1:
        return x
    if how == "bicubic":
        return resize(x, scale)
    return x.repeat_interleave(scale, -1).repeat_interleave(scale, -2)


def _scale(input: Tensor, target: Tensor) -> int:
    """Whole scale between input and target."""
    if input.ndim != 4 or target.ndim != 4 or input.shape[:2] != target.shape[:2]:
        raise UsageError(
            f"Input and target are B x C x H x W alike, not {tuple(input.shape)} and {tuple(target.shape)}."
        )
    height, width = input.shape[-2:]
    scale = target.shape[-2] // max(height, 1)
    if scale < 1 or target.shape[-2:] != (height * scale, width * scale):
        raise UsageError(
            f"The target's size {tuple(target.shape[-2:])} is no whole multiple of the input's {tuple(input.shape[-2:])}."
        )
    return scale


def _partner(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Which picture of the batch each one is mixed with."""
    return torch.from_numpy(rng.permutation(len(x))).to(x.device)


def _box(x: Tensor, alpha: float, rng: np.random.Generator, unit: int = 1) -> Box:
    """A box of the same share of both sides, N(alpha, 0.01), at a uniformly drawn place, on multiples of `unit`."""
    share = min(max(rng.normal(alpha, _BOX_DEVIATION), 0.0), 1.0)
    rows, columns = x.shape[-2] // unit, x.shape[-1] // unit
    height, width = int(rows * share), int(columns * share)
    top, left = int(rng.integers(0, rows - height + 1)), int(rng.integers(0, columns - width + 1))
    return _times((top, left, height, width), unit)


def _times(box: Box, scale: int) -> Box:
    top, left, height, width = (scale * n for n in box)
    return top, left, height, width


def _pasted(ground: Tensor, patch: Tensor, box: Box) -> Tensor:
    """`ground` with the box of `patch`."""
    top, left, height, width = box
    place = (..., slice(top, top + height), slice(left, left + width))
    result = ground.clone()
    result[place] = patch[place]
    return result


def _turned(x: Tensor, left_right: bool, up_down: bool, transposed: bool) -> Tensor:
    axes = [axis for axis, wanted in ((-1, left_right), (-2, up_down)) if wanted]
    x = x.flip(axes) if axes else x
    return x.transpose(-1, -2) if transposed else x
