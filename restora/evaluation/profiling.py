"""What a network costs: parameters, multiplications, activations by a dry run without data; memory and time by a real one."""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from restora.errors import EngineError, UsageError
from restora.evaluation.known_counts import differences
from restora.evaluation.memory import PeakMemory
from restora.networks.spec import NetworkSpec

_COUNTED = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Linear,
)


@dataclass
class Cost:
    """One scale of a network at one output size.

    `mult_adds`: the papers' convention: learned weights of convolutions and linear layers times the positions they are
    applied at (a transposed convolution: input positions), without biases, activations and attention products, at exactly
    the output size, fractions of a low-resolution pixel included. `all_products`: the multiplications of all convolutions
    and matrix products as they are run, attention and frozen layers included (a layer may be run in another form than it
    is written in). `activations`: values in the outputs of those layers. `memory`: bytes above the program's own.
    `seconds`: median.
    """

    scale: int
    output: tuple[int, int]
    input: tuple[int, int]
    mult_adds: float
    all_products: float
    activations: float
    memory_estimate: float
    memory: int | None = None
    seconds: float | None = None
    runs: int = 0


@dataclass
class Profile:
    """A network's counts. `parameters`: learned ones, shared ones once; `weights`: without biases and one-dimensional
    tensors (norms, activation slopes). `frozen`: tensors that are not learned (mean shifts). `check`: "agrees with ..." or
    what differs from the counts in the specifications, "" where they give none."""

    name: str
    variant: str
    parameters: int
    weights: int
    frozen: int
    bytes: int
    costs: list[Cost] = field(default_factory=list)
    agrees: bool | None = None
    check: str = ""


def profile(
    model: str | nn.Module,
    size: tuple[int, int] = (1280, 720),
    scale: int | None = None,
    *,
    run: bool = True,
    repeats: int = 3,
    device: str = "cpu",
    variant: str = "",
) -> Profile:
    """Counts and, unless `run` is False, measures a network at an output size.

    Args:
        model: a network with its `spec`, the name of a variant or of a model, or a checkpoint file.
        size: width and height of the output, in pixels. scale: only this one; all of the network's by default.
        repeats: timed runs after one that warms up; their median counts.

    Raises:
        UsageError, WeightsError: no such model, or a network that is not run on pictures.
    """
    if isinstance(model, str):
        net, name, variant = find_network(model, scale)
    else:
        net, name = model, variant or type(model).__name__
    spec: NetworkSpec = net.spec  # type: ignore[assignment]
    if spec.task in ("discriminator", "part"):
        what = "a discriminator" if spec.task == "discriminator" else "a part of a larger system"
        raise UsageError(f"'{name}' is {what}: it is not run on pictures alone.")
    if min(size) < 1 or repeats < 1:
        raise UsageError("A size and the number of repeats must be positive.")
    if scale is not None and scale not in spec.scales:
        raise UsageError(f"'{name}' enlarges by {', '.join(map(str, spec.scales))}; {scale} was asked.")
    learned = [p for p in net.parameters() if p.requires_grad]
    result = Profile(
        name,
        variant,
        sum(p.numel() for p in learned),
        sum(p.numel() for p in learned if p.ndim > 1),
        sum(p.numel() for p in net.parameters() if not p.requires_grad),
        sum(t.numel() * t.element_size() for t in {id(t): t for t in [*net.parameters(), *net.buffers()]}.values()),
    )
    for s in spec.scales if scale is None else (scale,):
        cost = count(net, s, size)
        if run:
            _measure(net, cost, repeats, device)
        result.costs.append(cost)
    at_720p = {
        c.scale: c.mult_adds if size == (1280, 720) else count(net, c.scale, (1280, 720)).mult_adds
        for c in result.costs
    }
    found = differences(variant, result.parameters, result.weights, at_720p)
    if found is not None:
        result.agrees = not found
        result.check = (
            f"differs from the specification: {'; '.join(found)}" if found else "agrees with the specification"
        )
    return result


def find_network(model: str, scale: int | None) -> tuple[nn.Module, str, str]:
    """(network, name, variant) of a checkpoint file, a model of the zoo, or a variant with random weights."""
    from restora import networks, zoo
    from restora.errors import UnknownModel

    if zoo.looks_like_path(model):
        net, variant = zoo.identify_file(model, scale)
        return net, model.replace("\\", "/").rpartition("/")[2], variant
    if model in networks.variants():
        return networks.create(model), model, model
    try:
        card = zoo.find(model)
    except UnknownModel as error:
        raise UnknownModel(
            f"{error} So do the network variants, such as {', '.join(networks.variants()[:3])}."
        ) from error
    return zoo.load_network(card), card.name, card.variant


def parse_size(text: str) -> tuple[int, int]:
    """``1280x720`` as width and height.

    Raises:
        UsageError: another form.
    """
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(p.isdecimal() and int(p) > 0 for p in parts):
        raise UsageError(f"A size has the form 1280x720, not '{text}'.")
    return int(parts[0]), int(parts[1])


def count(net: nn.Module, scale: int, size: tuple[int, int] = (1280, 720)) -> Cost:
    """The costs of one scale, by a dry run on tensors without data.

    The dry run has whole low-resolution pixels (and the multiples that the network asks for); its counts are then scaled to
    the area of `size`, so that x3 at 1280x720 counts 426.67x240 pixels, as the papers do.
    """
    from torch.utils.flop_counter import FlopCounterMode

    from restora.engine import NetworkOperator

    spec: NetworkSpec = net.spec  # type: ignore[assignment]
    width, height = size
    step = spec.multiple_of
    low = [max(spec.minimum, math.ceil(math.ceil(n / scale) / step) * step) for n in (height, width)]
    factor = scale if spec.grid == "output" else 1
    share = (height / scale) * (width / scale) / (low[0] * low[1])
    shadow = copy.deepcopy(net).to("meta").eval()
    tally = {"products": 0.0, "values": 0.0, "largest": 0.0}

    def look(module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        tensors = [t for t in (*given, output) if isinstance(t, Tensor)]
        tally["largest"] = max(tally["largest"], sum(t.numel() for t in tensors))
        weight = getattr(module, "weight", None)
        if not isinstance(module, _COUNTED) or not isinstance(output, Tensor) or not isinstance(weight, Tensor):
            return
        tally["values"] += output.numel()
        if not weight.requires_grad:
            return
        if isinstance(module, nn.Linear):
            positions = output.numel() // output.shape[-1]
        else:
            grid = (
                given[0] if isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)) else output
            )
            positions = math.prod(grid.shape[2:]) * grid.shape[0]
        tally["products"] += weight.numel() * positions

    for module in shadow.modules():
        module.register_forward_hook(look)
    controls = NetworkOperator(net, scale).controls
    x = torch.empty(1, spec.channels, low[0] * factor, low[1] * factor, device="meta")
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            getattr(shadow, "restore", shadow)(x, **controls)
    except (RuntimeError, NotImplementedError, TypeError) as error:
        raise EngineError(f"This network cannot be counted without data: {str(error).splitlines()[0]}") from error
    return Cost(
        scale,
        (width, height),
        (math.ceil(width / scale), math.ceil(height / scale)),
        tally["products"] * share,
        counter.get_total_flops() / 2 * share,
        tally["values"] * share,
        2.0 * 4 * tally["largest"] * share,
    )


def _measure(net: nn.Module, cost: Cost, repeats: int, device: str) -> None:
    """Peak memory and median time of whole pictures at the input size (rounded up to whole pixels), float32."""
    import numpy as np

    from restora.engine import NetworkOperator, Settings, choose_device, run

    device = str(choose_device(device))
    operator = NetworkOperator(net, cost.scale)
    width, height = cost.input
    picture = np.random.default_rng(0).random((height, width, 3), dtype=np.float32)
    how = Settings(device=device, precision="float32", tile=0)
    run(operator, picture[: min(64, height), : min(64, width)], settings=how)
    times: list[float] = []
    for _ in range(repeats):
        with PeakMemory(device if device.startswith("cuda") else "cpu") as peak:
            started = time.perf_counter()
            run(operator, picture, settings=how)
            times.append(time.perf_counter() - started)
        cost.memory = max(cost.memory or 0, peak.bytes) if peak.bytes is not None else cost.memory
    cost.seconds, cost.runs = statistics.median(times), repeats


def as_table(profiles: Sequence[Profile]) -> str:
    """Profiles as a Markdown table with the convention below it."""
    lines = [
        "| network | parameters | weights only | output | Mult-Adds | all products | activations | peak MB | seconds | check |",
        "|---|---:|---:|---|---:|---:|---:|---:|---:|---|",
    ]
    for p in profiles:
        for c in p.costs:
            memory = f"{c.memory / 1e6:.0f}" if c.memory is not None else f"about {c.memory_estimate / 1e6:.0f}"
            seconds = f"{c.seconds:.3g}" if c.seconds is not None else ""
            lines.append(
                f"| {p.name} x{c.scale} | {p.parameters:,} | {p.weights:,} | {c.output[0]}x{c.output[1]} | "
                f"{_giga(c.mult_adds)} | {_giga(c.all_products)} | {c.activations / 1e6:.1f} M | {memory} | {seconds} | "
                f"{p.check} |"
            )
    lines += [
        "",
        "Mult-Adds: learned weights of convolutions and linear layers times the positions they are applied at, at the output "
        "size; no biases, no attention products. All products: every convolution and matrix product as it is run.",
    ]
    return "\n".join(lines)


def _giga(value: float) -> str:
    return f"{value / 1e9:.1f} G" if value >= 1e9 else f"{value / 1e6:.1f} M"
