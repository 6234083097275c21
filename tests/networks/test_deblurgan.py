"""DeblurGAN and DeblurGAN-v2: statistics of the picture, layouts, critics."""

from __future__ import annotations

import pytest
import torch

from restora import networks
from restora.errors import UsageError


def test_restore_normalises_each_picture_by_itself_and_leaves_the_net_alone() -> None:
    torch.manual_seed(0)
    net = networks.create("deblurgan", blocks=1)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    x = torch.rand(2, 3, 16, 24)
    with torch.no_grad():
        y = net.restore(x)
        torch.testing.assert_close(y[1:], net.restore(x[1:]))
        assert (y - (net(2 * x - 1) + 1) / 2).abs().max() > 1e-3  # the running statistics are another function
        assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
        torch.testing.assert_close((net.train()(2 * x - 1) + 1) / 2, y)  # the published test code's mode
    assert y.min() >= 0 and y.max() <= 1


def test_a_layout_without_dropout_layers_is_loaded() -> None:
    net = networks.create("deblurgan", blocks=2)
    names = {".conv_block.6.": ".conv_block.5.", ".conv_block.7.": ".conv_block.6."}
    state = {}
    for key, value in net.state_dict().items():
        for ours, theirs in names.items():
            if ours in key:
                key = key.replace(ours, theirs)
                break
        if not key.endswith("num_batches_tracked"):  # as PyTorch 0.4 wrote it
            state[key] = value
    assert networks.identify(state).config == {"blocks": 2, "convolutions": 2}
    networks.load_state(networks.create("deblurgan", blocks=2), state)


def test_the_activation_of_the_one_convolution_form() -> None:
    torch.manual_seed(0)
    auto = networks.create("deblurgan_oneconv", blocks=2)
    x = torch.rand(1, 3, 16, 16)
    for activation, same_in_eval in (("always", True), ("never", False)):
        net = networks.create("deblurgan_oneconv", blocks=2, activation=activation)
        networks.load_state(net, auto.state_dict())
        with torch.no_grad():
            assert torch.equal(net(x), auto(x)) == same_in_eval
            assert torch.equal(net.restore(x), auto.restore(x)) == (not same_in_eval)
    with pytest.raises(UsageError, match="one or two"):
        networks.create("deblurgan", convolutions=3)


def test_dropout_is_off_unless_asked_for() -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 3, 16, 16)
    net = networks.create("deblurgan", blocks=1).train()
    assert torch.equal(net(x), net(x))
    net = networks.create("deblurgan", blocks=1, dropout=0.5).train()
    assert not torch.equal(net(x), net(x))
    net(x).square().mean().backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize(
    ("variant", "count"),
    [
        ("deblurgan_critic", 2_764_737),
        ("deblurganv2_critic_full", 11_154_369),
        ("deblurganv2_discriminator", 13_919_106),
    ],
)
def test_critics(variant: str, count: int) -> None:
    torch.manual_seed(0)
    net = networks.create(variant)
    assert sum(p.numel() for p in net.parameters()) == count
    assert networks.identify(net.state_dict()).candidates == (variant,)
    maps = net(torch.rand(1, 3, 64, 64))
    shapes = [tuple(m.shape) for m in (maps if isinstance(maps, list) else [maps])]
    assert shapes == {"deblurgan_critic": [(1, 1, 11, 11)], "deblurganv2_critic_full": [(1, 1, 5, 5)]}.get(
        variant, [(1, 1, 11, 11), (1, 1, 5, 5)]
    )


def test_v2_restores_by_the_pictures_own_statistics() -> None:
    torch.manual_seed(0)
    net = networks.create("deblurganv2_mobilenet")
    x = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        y = net.restore(x)
        torch.testing.assert_close(y[1:], net.restore(x[1:]), atol=1e-4, rtol=0)
        torch.testing.assert_close((net.train()(2 * x[:1] - 1) + 1) / 2, y[:1], atol=1e-4, rtol=0)
    net(x).square().mean().backward()
    # the last stages of the backbone are in the published state but are never run
    idle = {k.split(".")[2] for k, p in net.named_parameters() if p.grad is None}
    assert idle == {"16", "17", "18"}


def test_the_large_backbone_has_the_published_size() -> None:
    with torch.device("meta"):
        net = networks.create("deblurganv2_inception")
        y = net(torch.empty(1, 3, 128, 160))
    assert sum(p.numel() for p in net.parameters()) == 60_929_291
    assert y.shape == (1, 3, 128, 160)
    assert networks.identify(net.state_dict()).candidates == ("deblurganv2_inception",)
    assert "fpn.enc0.conv.weight" in networks.shared_keys(net)  # the backbone is in the state twice
