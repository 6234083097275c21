"""SAM-Deblur: the means over masks, and the pooling in front of networks."""

from __future__ import annotations

import pytest
import torch

from restora import networks
from restora.errors import UsageError
from restora.networks.mask_pooling import average_in_masks, masks_from_labels


def test_means_over_masks_their_overlaps_and_the_rest() -> None:
    x = torch.tensor([[[[1.0, 3.0, 5.0, 7.0, 11.0]]]])
    masks = torch.tensor([[[[1.0, 1, 0, 0, 0]], [[0, 1, 1, 0, 0]], [[0, 0, 0, 0, 0]]]])
    torch.testing.assert_close(average_in_masks(x, masks), torch.tensor([[[[2.0, 6.0, 4.0, 9.0, 9.0]]]]))
    labels = torch.tensor([[[0, 2, 1]]])
    assert masks_from_labels(labels).tolist() == [[[[0, 0, 1]], [[0, 1, 0]]]]


def test_the_published_network() -> None:
    torch.manual_seed(0)
    with torch.device("meta"):
        full = networks.create("sam_deblur")
    assert sum(p.numel() for p in full.parameters()) == 17_112_867
    assert networks.identify(full.state_dict()).candidates == ("sam_deblur",)
    net = networks.create("sam_deblur", width=4, enc_blk_nums=(1, 1), dec_blk_nums=(1, 1))
    x, masks = torch.rand(2, 3, 13, 18), torch.rand(2, 3, 13, 18).round()
    with torch.no_grad():
        assert net(x, masks).shape == x.shape
        torch.testing.assert_close(net(x), net(x, torch.zeros_like(masks)))
        assert (net(x) - net(x, masks)).abs().max() > 1e-6
    kept = masks.clone()
    net.train()(x, masks).square().mean().backward()
    assert torch.equal(kept, masks)  # dropping masks leaves the caller's alone
    assert net.pre_seg.weight.grad is not None
    with pytest.raises(UsageError, match="B x M x H x W"):
        net(x, masks[..., :5])


def test_in_front_of_any_deblurrer() -> None:
    torch.manual_seed(0)
    net = networks.create("sam_deblur", deblurrer="dmphn_pair")
    x = torch.rand(1, 3, 16, 24)
    with torch.no_grad():
        torch.testing.assert_close(net(x, torch.ones(1, 1, 16, 24)), net.deblurrer.restore(x))
    assert networks.identify(net.state_dict()).config == {"deblurrer": "dmphn_pair"}
    net(x).square().mean().backward()
    assert all(p.grad is not None for p in net.fuse.parameters())
    with pytest.raises(UsageError, match="own size"):
        networks.create("sam_deblur", deblurrer="fsrcnn_x2")
