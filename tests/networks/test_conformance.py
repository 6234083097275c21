"""Our networks compute what their authors' code computes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from restora import networks

FOLDER = Path(__file__).parents[1] / "conformance"
sys.path.insert(0, str(FOLDER))
from fill import fill_value, make_input  # noqa: E402

RECORDS = {p.stem: json.loads(p.read_text()) for p in sorted(FOLDER.glob("*.json")) if '"state"' in p.read_text()}


def published_state(name: str) -> dict[str, torch.Tensor]:
    """The state dict in the published layout that the reference run held."""
    record = RECORDS[name]
    state = {}
    with np.load(FOLDER / f"{name}.npz") as arrays:
        for key, shape, dtype, kind in record["state"]:
            if f"buffer:{key}" in arrays:
                state[key] = torch.from_numpy(arrays[f"buffer:{key}"])
            elif dtype.startswith("float"):
                gain = record.get("gains", {}).get(key, record.get("gain", 1.0))
                value = fill_value(key, tuple(shape), kind, gain)
                if value is not None:
                    state[key] = torch.from_numpy(value)
            else:
                state[key] = torch.zeros(shape, dtype=getattr(torch, dtype))
    for alias, first in (record.get("aliases") or {}).items():
        state[alias] = state[first]
    return state


@pytest.mark.parametrize("name", RECORDS)
def test_output_equals_the_reference(name: str) -> None:
    record = RECORDS[name]
    net = networks.load_state(networks.create(record["variant"]), published_state(name))
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == record["n_params"]
    inputs = {i["name"]: make_input(tuple(i["shape"]), i["recipe"]) for i in record["inputs"]}
    with torch.no_grad():
        result = eval(record["forward"], {"net": net, "torch": torch, "F": F, **inputs})  # our own file
    (output,) = record["outputs"]
    assert list(result.shape) == output["shape"]
    with np.load(FOLDER / f"{name}.npz") as arrays:
        theirs = arrays[output["stored"]]
    ours = result.numpy()[tuple(slice(*c) for c in output["crop"])] if "crop" in output else result.numpy()
    assert np.abs(ours - theirs).max() <= 1e-4 * max(1.0, np.abs(theirs).max())


@pytest.mark.parametrize("name", RECORDS)
def test_layout_is_identified(name: str) -> None:
    found = networks.identify(published_state(name))
    assert RECORDS[name]["variant"] in found.candidates
    # several candidates only where no tensor depends on what tells them apart
    if found.family in ("carn", "pcarn", "srcnn"):
        assert found.candidates == (RECORDS[name]["variant"],)


def test_equation_form_of_the_cascade_differs_but_has_the_same_layout() -> None:
    torch.manual_seed(0)
    published, equation = networks.create("carn_m_x2"), networks.create("carn_m_x2", form="equation")
    networks.load_state(equation, published.state_dict())
    x = torch.rand(1, 3, 12, 12)
    with torch.no_grad():
        assert (published(x) - equation(x)).abs().max() > 1e-4


def test_multi_scale_discriminator_is_three_patch_discriminators() -> None:
    torch.manual_seed(0)
    three = networks.create("pcarn_discriminator")
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        maps = three(x)
        alone = networks.create("pcarn_discriminator_2")
        networks.load_state(alone, three.discriminators[1].state_dict())
        assert torch.equal(maps[1], alone(x))
    assert [tuple(m.shape) for m in maps] == [(2, 1, 8, 8), (2, 1, 4, 4), (2, 1, 2, 2)]


@pytest.mark.parametrize(
    ("variant", "weights"),
    [("carn", 1_588_608), ("carn_m", 412_032), ("fsrcnn_x4", 12_464), ("srcnn_rgb", 69_152)],
)
def test_weight_counts_of_the_sources(variant: str, weights: int) -> None:
    net = networks.create(variant)
    counted = sum(p.numel() for n, p in net.named_parameters() if p.requires_grad and p.ndim > 1)
    assert counted == weights


@pytest.mark.parametrize(
    ("groups", "recursive", "count"),
    [
        (1, True, 1_161_283),
        (1, False, 1_629_379),
        (2, True, 663_619),
        (8, True, 290_371),
        (64, True, 181_507),
        (64, False, 214_147),
    ],
)
def test_parameter_counts_of_the_group_sweep(groups: int, recursive: bool, count: int) -> None:
    net = networks.create("carn", groups=groups, recursive=recursive)
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == count
    assert networks.identify(net.state_dict()).config["recursive"] == recursive
