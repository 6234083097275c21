"""Optimisers with rates by part, and gradients kept within bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from restora.training.recipe import Optimiser


def named(modules: Mapping[str, nn.Module]) -> list[tuple[str, nn.Parameter]]:
    """Parameters as ``module.name``, each once."""
    seen: set[int] = set()
    result = []
    for prefix, module in modules.items():
        for name, parameter in module.named_parameters():
            if id(parameter) not in seen:
                seen.add(id(parameter))
                result.append((f"{prefix}.{name}", parameter))
    return result


def concerns(prefix: str, name: str) -> bool:
    """Whether a recipe's key prefix means a parameter called ``module.name``; the network's may leave out ``net.``."""
    return name.startswith(prefix) or name.startswith(f"net.{prefix}")


def build(keys: Optimiser, parameters: list[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
    """The optimiser of a phase; a group for every factor on the rate, which it keeps as ``factor``."""
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in parameters:
        factor = next((f for prefix, f in keys.lr_factors.items() if concerns(prefix, name)), 1.0)
        groups.setdefault(factor, []).append(parameter)
    arranged = [{"params": members, "factor": factor} for factor, members in groups.items()]
    fused = bool(parameters) and all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for _, p in parameters)
    common: dict[str, Any] = {"lr": keys.lr, "weight_decay": keys.weight_decay}
    if keys.kind in ("adam", "adamw"):
        kind = torch.optim.Adam if keys.kind == "adam" else torch.optim.AdamW
        return kind(arranged, betas=keys.betas, eps=keys.eps, fused=fused, **common)
    if keys.kind == "sgd":
        return torch.optim.SGD(arranged, momentum=keys.momentum, fused=fused, **common)
    if keys.kind == "rmsprop":
        return torch.optim.RMSprop(arranged, momentum=keys.momentum, eps=keys.eps, **common)
    return torch.optim.Adagrad(arranged, eps=keys.eps, **common)


def bound(keys: Optimiser, parameters: list[nn.Parameter]) -> None:
    """Clips the gradient by value, then by norm, where the recipe says so."""
    if keys.clip_value is not None:
        nn.utils.clip_grad_value_(parameters, keys.clip_value)
    if keys.clip is not None:
        nn.utils.clip_grad_norm_(parameters, keys.clip)
