"""`restora models show` for every network that can be built."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from restora import networks
from restora.cli import models
from tests.cli.test_commands import restora
from tests.cli.test_controls import checkpoint

_FIRST = [next(iter(family.variants)) for family in networks.families().values()]


def build(variant: str) -> torch.nn.Module:
    """Without data where the constructor allows it."""
    try:
        with torch.device("meta"):
            return networks.create(variant)
    except (RuntimeError, NotImplementedError):
        return networks.create(variant)


@pytest.mark.filterwarnings("ignore:.*which is a no-op")
@pytest.mark.parametrize(
    "variant", [pytest.param(v, marks=[] if v in _FIRST else pytest.mark.slow) for v in networks.variants()]
)
def test_a_screen_tells_what_a_network_is(variant: str) -> None:
    net = build(variant)
    facts = models._network(net, variant)
    text = yaml.safe_dump(models._one_line_lists(facts), sort_keys=False, allow_unicode=True, width=130)
    assert len(text.splitlines()) < 46  # a screen of 50 lines, with what stands above
    assert facts["parameters"] == sum(p.numel() for p in net.parameters() if p.requires_grad)
    assert facts["blocks"] and facts["source"] and facts["tiling promise"]
    costs = facts["Mult-Adds at 1280x720"]
    if net.spec.task in ("discriminator", "part"):
        assert costs == "not run on pictures alone"
    else:
        assert costs and all(cost.endswith(" G") and float(cost.split()[0]) > 0 for cost in costs.values()), costs


@pytest.mark.parametrize("variant", ["fsrcnn_s_x2", "pcarn_discriminator", "ircnn_gray_bank"])
def test_the_command_prints_it(variant: str) -> None:
    done = restora("models", "show", variant)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) < 48
    for fact in ("blocks:", "widths", "parameters:", "Mult-Adds", "receptive field:", "tiling promise:", "source:"):
        assert fact in done.stdout


def test_controls_of_a_checkpoint_are_listed(tmp_path: Path) -> None:
    model = checkpoint(tmp_path, "srooe_generator", channels=8, blocks=1, growth=8)
    assert "t: 'number 0 to 1 or grey picture, default 1" in restora("models", "show", model).stdout
