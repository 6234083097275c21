"""Networks in the form that is cheapest to run: what only training needs is folded into the convolutions."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def for_inference(net: nn.Module) -> nn.Module:
    """The network in eval mode, with fewer steps to the same result (to rounding, 1e-5 of the range).

    Factors of a convolution become one kernel, by the network's own `fold` (DO-Conv of DeepRFT, the expanded convolutions of
    SPAN); a batch normalisation with running statistics goes into the convolution before it. Normalisations that may take the
    picture's own statistics stay (`picture_norms`). What comes back may be the network that was given, changed.
    """
    net = net.eval()
    fold = getattr(net, "fold", None)
    if fold is not None:
        net = fold()
    for part in net.modules():
        if isinstance(part, nn.Sequential):
            _fold_norms(part)
    return net


def _fold_norms(layers: nn.Sequential) -> None:
    for n in range(len(layers) - 1):
        conv, norm = layers[n], layers[n + 1]
        # no subclasses: they may compute something else
        if type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d and norm.track_running_stats:
            layers[n], layers[n + 1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
