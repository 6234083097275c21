"""Pictures of any size go through the engine, whatever the network's size rule: a pixel, a strip, odd sides."""

from __future__ import annotations

import importlib
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from restora import networks
from restora.engine import NetworkOperator, Settings, run
from tests.conftest import make_photo

_UNET = {"widths": (4, 4, 8, 8), "blocks": 1}
# a small form of every family that restores pictures
SMALL: dict[str, dict] = {
    "carn_m_x2": {}, "cutblur_carn_x1": {}, "cutblur_carn_x2": {}, "dasr_x2": {}, "deblurgan_oneconv": {},
    "deblurganv2_mobilenet": {}, "deeprft_small": {"blocks": 1, "width": 4}, "dmphn_pair": {}, "dmphn_1_2_4_8": {},
    "diffir_s2_sr_x4": {"dim": 8, "blocks": (1, 1, 1, 1), "refinement": 1, "residuals": 1},
    "diffir_s2_deblur": {"dim": 8, "blocks": (1, 1, 1, 1), "refinement": 1, "residuals": 1},
    "dncnn_gray_r": {}, "drunet_color": _UNET, "drunet_blind_gray": _UNET, "edsr_baseline_x2": {}, "ffdnet_gray": {},
    "fsrcnn_x3": {}, "hat_s_x2": {"dim": 12, "depths": (1,), "heads": (2,), "compress": 3, "squeeze": 3}, "imdn_x3": {}, "ircnn_gray": {}, "li2023_gan": {},
    "sam_deblur": {"width": 4, "enc_blk_nums": (1, 1), "dec_blk_nums": (1, 1)}, "mimo_unet": {"blocks": 1, "width": 4},
    "mprnet_deblur": {}, "msrresnet_x3": {}, "nafnet_local_gopro_width32": {"width": 4}, "owan": {}, "pcarn_m_x3": {},
    "progressive_carn_x2": {}, "rcan_x3": {"groups": 1, "blocks": 1}, "rdn_jpeg_gray": {}, "restormer_denoise_gray": {"dim": 8},
    "ridnet": {}, "rnan_gray_dn": {}, "rrdbnet_x1": {"blocks": 1}, "rrdbnet_x2": {"blocks": 1}, "srcnn": {},
    "srgan_generator_x2": {}, "srn_edrb1": {}, "srn_port": {}, "srooe": {"channels": 4, "blocks": 1, "growth": 4, "width": 4, "vgg_width": 4},
    "srrunet": _UNET, "srvgg_anime_x2": {}, "swinir_lightweight_x3": {"dim": 12, "depths": (1,), "heads": (2,)},
    "swinir_jpeg_gray": {"dim": 12, "depths": (1,), "heads": (2,)}, "uformer_t": {}, "vitdeblur_corrected": {},
}  # fmt: skip


def small(variant: str) -> torch.nn.Module:
    """The small form, the same every time."""
    torch.manual_seed(0)
    return networks.create(variant, **SMALL[variant])


@pytest.mark.parametrize("variant", SMALL)
def test_any_size_goes_through_the_engine(variant: str) -> None:
    operator = NetworkOperator(small(variant))
    rng = np.random.default_rng(0)
    for height, width in ((1, 1), (5, 23), (37, 11)):
        picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        result, report = run(operator, picture, settings=Settings("cpu", "float32", 0))
        assert result.shape == (height * operator.scale, width * operator.scale, 3) and report.tiles == 1


# networks with a size rule: strided ones and such with windows
_WITH_RULE = (
    "drunet_color",
    "swinir_lightweight_x3",
    "hat_s_x2",
    "diffir_s2_sr_x4",
    "srn_edrb1",
    "srrunet",
    "uformer_t",
)


@pytest.mark.parametrize("variant", [*_WITH_RULE, "nafnet_gopro_width32"])
def test_padding_to_the_size_rule_leaves_no_border(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the right and the bottom, where the engine pads, a picture of odd size comes out nearly as if it went on; at the left
    and the top the network itself ends, which shows. Zeros in place of the mirrored picture would show as much."""
    torch.manual_seed(0)
    small_nafnet = {"width": 4, "enc_blk_nums": (1, 1), "middle_blk_num": 1, "dec_blk_nums": (1, 1)}
    net = networks.create(variant, **SMALL.get(variant, small_nafnet))
    for name, parameter in net.named_parameters():
        if name.endswith((".beta", ".gamma")):  # NAFNet's blocks begin silent
            torch.nn.init.constant_(parameter, 0.3)
    operator = NetworkOperator(net)
    rule, scale = math.lcm(operator.multiple_of, operator.tiling.window), operator.scale
    height, width = 45, 53
    margin = math.ceil(24 / rule) * rule
    photo = make_photo(height, width).astype(np.float32) / 255
    below, right = (-(-(n + 2 * margin) // rule) * rule - n - margin for n in (height, width))
    larger = np.pad(photo, ((margin, below), (margin, right), (0, 0)), mode="reflect")
    whole = Settings("cpu", "float32", 0)
    inside = (slice(margin * scale, (margin + n) * scale) for n in (height, width))
    expected = run(operator, larger, settings=whole)[0][tuple(inside)]

    def errors() -> tuple[float, float]:
        """Root-mean-square distance from the interior of the larger picture: at the top and left, at the bottom and right."""
        off = (run(operator, photo, settings=whole)[0] - expected) ** 2
        strip = 6 * scale
        sides = (off[:strip, :-strip], off[:-strip, :strip]), (off[-strip:, strip:], off[strip:, -strip:])
        return tuple(math.sqrt(np.mean([part.mean() for part in side])) for side in sides)  # type: ignore[return-value]

    natural, padded = errors()
    assert padded < natural / 4

    def with_zeros(x: torch.Tensor, multiple: int, minimum: int) -> torch.Tensor:
        sides = [max(minimum, -(-n // multiple) * multiple) for n in x.shape[-2:]]
        return F.pad(x, (0, sides[1] - x.shape[-1], 0, sides[0] - x.shape[-2]))

    monkeypatch.setattr(importlib.import_module("restora.engine.run"), "_pad", with_zeros)
    assert errors()[1] > 2 * padded
