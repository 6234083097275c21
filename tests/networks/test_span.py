"""SPAN: the folded network is the expanded one, and both are the published one."""

from __future__ import annotations

import importlib.util

import pytest
import torch
import torch.nn.functional as F

from restora import networks
from restora.networks.span import SPAN
from restora.training.start import take_over


@pytest.fixture
def expanded() -> SPAN:
    torch.manual_seed(0)
    return SPAN(scale=2, channels=8, blocks=3, expansion=2).eval()


def test_folding_changes_nothing(expanded: SPAN) -> None:
    x = torch.rand(2, 3, 13, 17)
    with torch.no_grad():
        assert torch.allclose(expanded.fold()(x), expanded(x), atol=1e-5)


def test_training_starts_from_a_larger_scale_reduced() -> None:
    torch.manual_seed(0)
    large, small = (SPAN(scale=s, channels=8, blocks=2).eval() for s in (4, 2))
    assert take_over(small, large.state_dict()) == len(large.state_dict())
    x = torch.rand(1, 3, 9, 11)
    with torch.no_grad():
        assert torch.allclose(small(x), F.avg_pool2d(large(x), 2), atol=1e-4)
    assert take_over(small, networks.create("carn_m_x2", channels=8, blocks=1).state_dict()) == 0
    three = SPAN(scale=3, channels=8, blocks=2)
    assert take_over(three, large.state_dict()) == len(large.state_dict()) - 2  # not a multiple: its end stays fresh


def test_every_factor_is_trained(expanded: SPAN) -> None:
    expanded(torch.rand(1, 3, 8, 8)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in expanded.parameters())


def test_identified_from_both_layouts(expanded: SPAN) -> None:
    for state in (expanded.state_dict(), expanded.fold().state_dict()):
        assert networks.identify(state).config == {"scale": 2, "channels": 8, "blocks": 3, "normalised": True}


def test_a_stale_copy_in_a_checkpoint_is_not_used(expanded: SPAN) -> None:
    stale = {
        key.replace("sk.", "eval_conv."): torch.randn(8, 8, 3, 3) if key.endswith("weight") else torch.randn(8)
        for key in expanded.state_dict()
        if ".sk." in key
    }
    net = SPAN(scale=2, channels=8, blocks=3).eval()
    networks.load_state(net, {**stale, **expanded.state_dict()})
    x = torch.rand(1, 3, 9, 9)
    with torch.no_grad():
        assert torch.allclose(net(x), expanded(x), atol=1e-5)


def test_parameters() -> None:
    counts = {v: sum(p.numel() for p in networks.create(v).parameters()) for v in ("span_x2", "span_x4")}
    assert counts == {"span_x2": 410_700, "span_x4": 426_288}


@pytest.mark.skipif(importlib.util.find_spec("spandrel") is None, reason="pip install 'restora[spandrel]'")
@pytest.mark.parametrize("normalised", [True, False])
def test_the_same_picture_as_an_independent_implementation(normalised: bool) -> None:
    from restora.zoo.spandrel_bridge import load_with_spandrel

    torch.manual_seed(1)
    ours = SPAN(scale=4, channels=16, expansion=2, normalised=normalised).eval()
    state = {k: v.clone() for k, v in ours.state_dict().items()}
    for key in [k for k in state if k.endswith(".sk.weight")]:
        width, depth = state[key].shape[:2]
        stem = key.removesuffix(".sk.weight")
        state |= {
            f"{stem}.eval_conv.weight": torch.zeros(width, depth, 3, 3),
            f"{stem}.eval_conv.bias": torch.zeros(width),
        }
    x = torch.rand(1, 3, 24, 20)
    with torch.no_grad():
        theirs = load_with_spandrel(state)(x)
        assert (ours(x) - theirs).abs().max() <= 1e-4 * max(1.0, float(theirs.abs().max()))
