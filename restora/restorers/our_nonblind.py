"""The survey thesis' own method for a known blur, scale and noise level: each stage undoes one step of the degradation.

Denoise, enlarge (bicubic), deconvolve by gradient descent (GDDec), smooth the ringing away (recursive filter), sharpen what was
enlarged (SRRUNet). Source: the survey thesis on deep restoration, equations 5.1 to 5.5 (specification section 2.5).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from restora import solvers
from restora.degradation import resize
from restora.engine import FunctionOperator, NetworkOperator, SolverOperator
from restora.errors import UsageError
from restora.restorers.stages import Stage
from restora.solvers import Denoiser
from restora.solvers.denoisers import dct

STAGES = ("denoise", "gddec", "filter", "enhance")
_QUIET = 0.75  # below this sigma rounding to 8 bits is most of the noise, and denoising costs detail
_WINDOW = 64  # how far a denoiser is followed; networks see farther, but little comes from there
_BICUBIC = 4


@dataclass(frozen=True)
class OurNonBlind:
    """The method's options.

    Args:
        stages: which stages run, of ``denoise``, ``gddec``, ``filter`` and ``enhance``, joined by commas. Without ``gddec``
            the picture is only enlarged.
        sigma_s: of the recursive filter, in pixels. sigma_r: the same for values in [0, 1]. passes: its iterations.
        gddec: options of the solver `gddec`, by name.
    """

    name: ClassVar[str] = "our-nonblind"
    title: ClassVar[str] = "Our Non-Blind: denoise, deconvolve by gradient descent, smooth the ringing, sharpen"

    stages: str = ",".join(STAGES)
    sigma_s: float = 60.0
    sigma_r: float = 0.5
    passes: int = 3
    gddec: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = [s for s in self.chosen if s not in STAGES]
        if unknown or not self.chosen:
            raise UsageError(f"The stages of {self.name} are {', '.join(STAGES)}; '{self.stages}' was given.")
        if self.sigma_s <= 0 or self.sigma_r <= 0 or self.passes < 1:
            raise UsageError(
                "sigma_s and sigma_r of the recursive filter are positive, and it makes at least one pass."
            )

    @property
    def chosen(self) -> list[str]:
        """The names of the stages to run."""
        return [s.strip() for s in self.stages.split(",") if s.strip()]

    def plan(
        self,
        kernel: Tensor,
        scale: int = 1,
        sigma: float = 0.0,
        seed: int = 0,
        denoiser: Denoiser | None = None,
        enhancer: nn.Module | None = None,
    ) -> tuple[list[Stage], list[str]]:
        """The stages to run, and sentences about those that are left out.

        Args:
            kernel: `kh x kw`. scale: whole factor. sigma: noise on the 0-255 scale.
            denoiser: a function of a tensor and sigma; thresholded cosine transforms without one.
            enhancer: SRRUNet; without it the last stage is left out.
        """
        stages: list[Stage] = []
        notes: list[str] = []
        chosen = self.chosen
        if "denoise" in chosen:
            if sigma < _QUIET:
                notes.append(f"Noise of sigma {sigma:g} is too little to denoise before; that stage was left out.")
            else:
                if denoiser is None:
                    notes.append(
                        "Denoised by thresholding cosine transforms, because no weights of a denoiser are at hand."
                    )
                function, level = denoiser or dct, sigma
                stages.append(Stage("denoise", FunctionOperator(lambda x: function(x, level), _WINDOW, planes=16), 0.2))
                sigma = 0.0
        if "gddec" in chosen:
            solver = solvers.create("gddec", **self.gddec)
            stages.append(Stage("gddec", SolverOperator(solver, kernel, scale, sigma, seed)))
        elif scale > 1:
            stages.append(Stage("bicubic", FunctionOperator(lambda x: resize(x, scale), _BICUBIC, scale, 6), 0.02))
        if "filter" in chosen:
            stages.append(Stage("filter", self._filter(), 0.05))
        if "enhance" in chosen:
            if enhancer is None:
                notes.append(
                    "Not sharpened by SRRUNet: none was given (--enhancer), and only enlarged pictures get one unasked."
                )
            else:
                stages.append(Stage("enhance", NetworkOperator(enhancer, 1, {"factor": float(scale)}), 0.3))
        if not stages:
            raise UsageError(f"Of the stages '{self.stages}' none is left to run: {' '.join(notes)}")
        return stages, notes

    def _filter(self) -> FunctionOperator:
        from restora.solvers.recursive_filter import recursive_filter

        # its impulse response falls by e in sigma_s / sqrt(2) pixels where the picture is flat
        reach = round(3 * self.sigma_s)
        return FunctionOperator(
            lambda x: recursive_filter(x, self.sigma_s, self.sigma_r, iterations=self.passes), reach, planes=12
        )
