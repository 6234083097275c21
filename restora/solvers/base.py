"""What a solver is: a method that works at run time from a known forward model, `y = (x * k) down_s + n`.

Every module of this package that defines `SOLVERS` offers the solvers in it; nothing has to be registered anywhere else.
"""

from __future__ import annotations

import abc
import dataclasses
import difflib
import functools
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from restora.errors import UsageError

Boundary = Literal["photograph", "circular"]

# A picture `B x C x H x W` in [0, 1] and a noise level on the 0-255 scale -> the picture without that noise.
Denoiser = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True)
class Problem:
    """A picture and how it came to be.

    Args:
        observed: `B x C x h x w`, float32, nominally [0, 1].
        kernel: `kh x kw` for all pictures, or `B x kh x kw`; odd, centred, sum 1; convolution, not correlation.
        scale: whole scale factor s: after the blur every s-th pixel was kept, beginning with the first.
        sigma: standard deviation of the noise, 0-255 scale.
        boundary: ``photograph``: nothing is known beyond the border; ``circular``: the picture wraps round, as some
            papers' protocols have it.

    Raises:
        UsageError: shapes or numbers that do not fit.
    """

    observed: Tensor
    kernel: Tensor
    scale: int = 1
    sigma: float = 0.0
    boundary: Boundary = "photograph"

    def __post_init__(self) -> None:
        y, k = self.observed, self.kernel
        if y.ndim != 4 or not y.is_floating_point() or 0 in y.shape:
            raise UsageError(
                f"A picture to solve for is B x C x H x W in floating point, not {y.dtype}, {tuple(y.shape)}."
            )
        if k.ndim not in (2, 3) or (k.ndim == 3 and len(k) not in (1, len(y))):
            raise UsageError(f"A kernel is kh x kw, or one for each of the {len(y)} pictures, not {tuple(k.shape)}.")
        if not (k.shape[-1] % 2 and k.shape[-2] % 2):
            raise UsageError(
                f"A kernel has odd sides, so that it has a centre; this one is {k.shape[-2]}x{k.shape[-1]}."
            )
        if self.scale < 1 or self.sigma < 0:
            raise UsageError(
                f"The scale is at least 1 and sigma at least 0; {self.scale} and {self.sigma:g} were given."
            )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the solution."""
        height, width = self.observed.shape[-2:]
        return height * self.scale, width * self.scale

    @property
    def kernels(self) -> Tensor:
        """The kernel as `B x kh x kw` or `1 x kh x kw`."""
        return self.kernel if self.kernel.ndim == 3 else self.kernel[None]


@dataclass(frozen=True)
class Step:
    """Where an iterative solver is: `done` of at most `total` iterations, the value of its objective (NaN where it has none),
    and `image`, which makes the present estimate (`B x C x sh x sw`) when called."""

    done: int
    total: int
    value: float
    image: Callable[[], Tensor]


# Called after each iteration; True asks the solver to stop there and return what it has. It may raise to cancel.
Monitor = Callable[[Step], bool | None]


class Solver(abc.ABC):
    """Base of all solvers. A subclass is a frozen dataclass whose fields are the method's options, with `solve`.

    `name` is what users say. `any_scale` tells whether it handles `scale` > 1 itself. `needs_sigma` tells that the noise
    level matters. Options that are functions (a denoiser) have no default and are given by whoever has one.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    any_scale: ClassVar[bool] = False
    iterative: ClassVar[bool] = False

    @abc.abstractmethod
    def solve(
        self, problem: Problem, *, generator: torch.Generator | None = None, monitor: Monitor | None = None
    ) -> Tensor:
        """The estimate, `B x C x s*h x s*w`, float32, not clipped.

        Args:
            generator: source of chance for methods that draw (deep image prior). monitor: see `Monitor`.

        Raises:
            UsageError: the method cannot solve this problem (a scale it does not handle).
        """

    def __call__(self, observed: Tensor, kernel: Tensor, scale: int = 1, sigma: float = 0.0, **options: Any) -> Tensor:
        """`solve` for a problem given in parts; `boundary` and the arguments of `solve` by name."""
        boundary = options.pop("boundary", "photograph")
        return self.solve(Problem(observed, kernel, scale, sigma, boundary), **options)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not hasattr(cls, "title") and cls.__doc__:
            cls.title = cls.__doc__.split("\n")[0].rstrip(".")


@functools.cache
def solvers() -> dict[str, type[Solver]]:
    """All solvers by name."""
    package = importlib.import_module(__package__)
    found: dict[str, type[Solver]] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(package.__path__)):
        for kind in getattr(importlib.import_module(f"{__package__}.{module}"), "SOLVERS", ()):
            found[kind.name] = kind
    return found


def names() -> list[str]:
    """Names of all solvers."""
    return sorted(solvers())


def create(name: str, **options: Any) -> Solver:
    """A solver by name, with its options.

    Raises:
        UsageError: no such solver or option; the sentence lists what there is.
    """
    kind = solvers().get(name)
    if kind is None:
        near = difflib.get_close_matches(name, names(), 3) or names()
        raise UsageError(f"There is no solver '{name}'; did you mean {', '.join(near)}?")
    known = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise UsageError(f"{name} has no option '{unknown[0]}'; its options are {', '.join(known) or 'none'}.")
    return kind(**options)
