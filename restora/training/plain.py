"""What a validation stands beside, on tensors: the degraded input and the task's plain method."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from restora.degradation import resize
from restora.evaluation.baselines import baselines
from restora.training.batch import Batch


def enlarged(pair: Batch) -> Tensor:
    """The degraded input at the target's size, bicubic where they differ."""
    return resize(pair.input, pair.scale) if pair.scale > 1 else pair.input


def baseline(pair: Batch, task: str) -> tuple[Tensor, str]:
    """The result of the task's plain method on a pair with one picture, at the target's size, and the method's name."""
    label, method = next((label, method) for kind, label, method in baselines(task) if kind == "baseline")
    # only the method of super-resolution enlarges by itself
    given, scale = (pair.input, pair.scale) if task == "super-resolution" else (enlarged(pair), 1)
    result = method(given[0].clamp(0, 1).permute(1, 2, 0).numpy(), scale)
    return torch.from_numpy(np.ascontiguousarray(result, dtype=np.float32)).permute(2, 0, 1)[None], label
