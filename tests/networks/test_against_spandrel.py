"""An independent oracle: for architectures that spandrel has too, the same state dict gives the same output."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from restora import networks
from restora.zoo.spandrel_bridge import load_with_spandrel

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("spandrel") is None, reason="pip install 'restora[spandrel]' to run these checks"
)
# not here: Uformer and RCAN, of which spandrel takes other layouts than the published ones named in our tests
SHARED = [
    "srvgg_anime_x4", "srvgg_general_x4", "rrdbnet_6b_x4", "rrdbnet_x2", "swinir_lightweight_x2", "swinir_color_dn", "hat_s_x2",
    "nafnet_gopro_width32", "drunet_color", "dncnn_gray_r", "dncnn_color_blind",
]  # fmt: skip


@pytest.mark.parametrize("variant", SHARED)
def test_the_same_weights_give_the_same_picture(variant: str) -> None:
    torch.manual_seed(0)
    net = networks.create(variant)
    for name, value in net.named_parameters():  # gains of a trained network: fresh residual branches may be silent
        if value.requires_grad and value.ndim == 1 and ("beta" in name or "gamma" in name):
            torch.nn.init.uniform_(value, -0.2, 0.2)
    theirs = load_with_spandrel({k: v.clone() for k, v in net.state_dict().items()})
    x = torch.rand(1, net.spec.channels, 32, 32)
    with torch.no_grad():
        if variant.startswith("drunet"):  # spandrel fixes the noise level at 15 of 255
            ours, other = net.restore(x, sigma=15.0), theirs(x)
        else:
            ours, other = getattr(net, "restore", net)(x), theirs(x)
    assert (ours - other).abs().max() <= 1e-4 * max(1.0, float(other.abs().max()))
