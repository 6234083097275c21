"""ViT and ViTDeblur: published sizes, layouts, what either form can learn."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from restora import networks
from restora.errors import UsageError

TINY = {"image": 32, "patch": 16, "width": 32, "depth": 2}


@pytest.mark.parametrize(
    ("variant", "count"),
    [("vit_b_16", 86_567_656), ("vitdeblur_adam", 87_156_316), ("vitdeblur_sgd", 86_250_900)],
)
def test_published_parameter_counts(variant: str, count: int) -> None:
    with torch.device("meta"):
        net = networks.create(variant)
    assert sum(p.numel() for p in net.parameters()) == count
    assert networks.identify(net.state_dict()).candidates == (variant,)


def test_the_transformer_without_a_head() -> None:
    with torch.device("meta"):
        net = networks.create("vit_b_16", classes=None)
        assert net(torch.empty(2, 3, 224, 224)).shape == (2, 768)
    assert sum(p.numel() for p in net.parameters()) == 85_798_656


def test_tokens_of_other_sizes_and_older_names() -> None:
    torch.manual_seed(0)
    net = networks.create("vit_b_16", **TINY, classes=7)
    assert net(torch.rand(2, 3, 32, 32)).shape == (2, 7)
    assert net.tokens(torch.rand(1, 3, 48, 64)).shape == (1, 1 + 3 * 4, 32)
    with pytest.raises(UsageError, match="32 x 32"):
        net(torch.rand(1, 3, 48, 64))
    older = {
        k.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2."): v
        for k, v in net.state_dict().items()
    }
    networks.load_state(networks.create("vit_b_16", **TINY, classes=7), older)


def test_attention_is_that_of_torch() -> None:
    torch.manual_seed(0)
    net = networks.create("vit_b_16", image=32, width=128, depth=1)
    ours = net.encoder.layers.encoder_layer_0.self_attention
    theirs = torch.nn.MultiheadAttention(128, 2, batch_first=True).eval()
    theirs.load_state_dict(ours.state_dict())
    x = torch.rand(2, 9, 128)
    torch.testing.assert_close(ours(x), theirs(x, x, x, need_weights=False)[0], atol=1e-5, rtol=0)


def test_as_written_every_pixel_sees_itself_and_a_smooth_field() -> None:
    torch.manual_seed(0)
    net = networks.create("vitdeblur_sgd", vit=TINY, linear_output=True)
    x = torch.rand(1, 3, 112, 112)
    assert net(torch.rand(2, 3, 448, 448)).shape == (2, 3, 448, 448)
    y = x.clone()
    y[..., 50, 50] = 1 - y[..., 50, 50]
    with torch.no_grad():
        change = (net(x) - net(y)).abs().amax((0, 1))
    assert change[50, 50] > 100 * change[50, 51]
    with torch.no_grad():
        assert networks.create("vitdeblur_sgd", vit=TINY)(x).min() > -0.18


@pytest.mark.slow
def test_the_corrected_form_sharpens_and_the_written_one_does_not() -> None:
    torch.manual_seed(0)
    sharp = F.interpolate((torch.rand(2, 3, 16, 16) > 0.5).float(), scale_factor=4)
    blurred = F.avg_pool2d(F.pad(sharp, (2, 2, 2, 2), mode="reflect"), 5, 1)
    before = (blurred - sharp).square().mean()
    after = {}
    for variant, options in (
        ("vitdeblur_corrected", {"widths": (8, 8, 8, 8), "blocks": 1}),
        ("vitdeblur_adam", {"classes": None, "linear_output": True}),
    ):
        net = networks.create(variant, vit=TINY, **options).train()
        if variant == "vitdeblur_corrected":
            torch.testing.assert_close(net.restore(blurred), blurred)
        optimiser = torch.optim.Adam(net.parameters(), 3e-3)
        for _ in range(60):
            loss = (net.restore(blurred) - sharp).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        assert all(p.grad is not None for p in net.parameters())
        after[variant] = loss.item()
    assert after["vitdeblur_corrected"] < 0.75 * before < after["vitdeblur_adam"]
