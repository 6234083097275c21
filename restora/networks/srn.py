"""SRN: one encoder-decoder with a recurrent state, run over an image pyramid from coarse to fine with shared weights.

Tao, Gao, Shen, Wang, Jia: Scale-Recurrent Network for Deep Image Deblurring, CVPR 2018; the ViTDeblur document,
section 2.5 of its specification, which also lists the six ablations. The authors' code is TensorFlow and left no PyTorch
checkpoint; the key names here are those of an independent PyTorch port, whose differences are the form ``port``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, aligned

Form = Literal["original", "port"]
Structure = Literal["encoder-decoder", "flat"]
State = tuple[Tensor, Tensor]  # hidden state, cell


class _HalvingConv2d(nn.Conv2d):
    """A stride-2 convolution padded as TensorFlow pads even sizes: one pixel less before than after."""

    def forward(self, x: Tensor) -> Tensor:
        total = self.kernel_size[0] - 2  # what a stride of 2 leaves of kernel - 1 on even sizes
        before, after = total // 2, total - total // 2
        return F.conv2d(F.pad(x, (before, after, before, after)), self.weight, self.bias, self.stride)


class _Unit(nn.Module):
    """Convolution, ReLU, convolution, added to its input; without the addition (`residual=False`) two plain convolutions
    with a ReLU each."""

    def __init__(self, channels: int, kernel: int, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.conv1 = nn.Sequential(nn.Conv2d(channels, channels, kernel, padding=kernel // 2))
        self.conv2 = nn.Sequential(nn.Conv2d(channels, channels, kernel, padding=kernel // 2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.conv1(x)))
        return x + y if self.residual else F.relu(y)


class _Encode(nn.Module):
    """A convolution (stride 1 or 2) with ReLU, then the units."""

    def __init__(self, conv: nn.Conv2d, units: list[_Unit]) -> None:
        super().__init__()
        self.conv = nn.Sequential(conv)
        self.resblock_stack = nn.Sequential(*units)

    def forward(self, x: Tensor) -> Tensor:
        return self.resblock_stack(F.relu(self.conv(x)))


class _Decode(nn.Module):
    """The units, then a transposed convolution that doubles the size, with ReLU."""

    def __init__(self, deconv: nn.ConvTranspose2d, units: list[_Unit]) -> None:
        super().__init__()
        self.resblock_stack = nn.Sequential(*units)
        self.deconv = nn.Sequential(deconv)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.deconv(self.resblock_stack(x)))


class _Output(nn.Module):
    def __init__(self, conv: nn.Conv2d, units: list[_Unit]) -> None:
        super().__init__()
        self.resblock_stack = nn.Sequential(*units)
        self.conv = nn.Sequential(conv)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.resblock_stack(x))


class _ConvLSTM(nn.Module):
    """A convolutional LSTM cell. One convolution of (input, hidden state) gives four gates: input, new value, forget,
    output in the original (forget bias 1), input, forget, output, new value in the port (no forget bias)."""

    def __init__(self, channels: int, kernel: int, form: Form) -> None:
        super().__init__()
        self.form = form
        self.conv = nn.Conv2d(2 * channels, 4 * channels, kernel, padding=kernel // 2)

    def forward(self, x: Tensor, state: State) -> State:
        hidden, cell = state
        gates = self.conv(torch.cat([x, hidden], dim=1)).chunk(4, dim=1)
        if self.form == "original":
            enter, value, forget, leave = gates
            forget = forget + 1
        else:
            enter, forget, leave, value = gates
        cell = forget.sigmoid() * cell + enter.sigmoid() * value.tanh()
        return leave.sigmoid() * cell.tanh(), cell


def _double_bilinear(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def _double_anchored(x: Tensor) -> Tensor:
    """Bilinear enlargement by 2 whose pixel 2i is pixel i and whose pixel 2i + 1 is the mean of i and i + 1 (TensorFlow 1)."""
    for dim in (2, 3):
        n = x.shape[dim]
        following = torch.cat([x.narrow(dim, 1, n - 1), x.narrow(dim, n - 1, 1)], dim)
        x = torch.stack([x, (x + following) / 2], dim + 1).flatten(dim, dim + 1)
    return x


class SRN(nn.Module):
    """The scale-recurrent network at three scales (1, 1/2, 1/4 of the picture).

    Shapes: `forward(b1, b2, b3)` takes the blurred picture at full, half and quarter size, each `B x 3 x h x w` RGB in
    [0, 1], and returns the three deblurred ones, finest first. With `b1` alone the smaller ones are made from it: every
    second and fourth pixel in the original (TensorFlow 1 samples at corners, without a filter), means in the port.
    `restore(x)` returns the finest result. Sides must be multiples of 16.

    Args:
        form: ``original`` is the authors' network: stride-2 convolutions padded as TensorFlow pads, transposed convolutions
            4x4, ConvLSTM 3x3 with forget bias 1, bilinear resizing anchored at corners, the blurred picture in place of a
            previous result at the coarsest scale, no gradient through the previous result. ``port`` is the PyTorch port:
            transposed convolutions and ConvLSTM as large as `kernel`, no forget bias, zeros at the coarsest scale.
        structure: ``encoder-decoder`` (SRN), or ``flat``: all at full size, the state in the middle.
        kernel: of the convolutions; the published model 5, its ablations 3. blocks: units in each block (of ``flat``:
            on each side of the state). width: channels at full size (twice and four times that below).
        residual: False turns each residual block into two plain convolutions with the same parameters.

    The ablations (`srn_flat`, `srn_rb`, `srn_ed`, `srn_edrb1` to `3`) are built with 3x3 kernels, at 2.66, 2.66, 3.76, 2.21,
    2.99 and 3.76 million parameters; the depth and width of the two flat ones (64 convolutions of 64 channels) are derived
    from that size, the source states neither.
    """

    def __init__(
        self,
        form: Form = "original",
        structure: Structure = "encoder-decoder",
        kernel: int = 5,
        blocks: int = 3,
        width: int = 32,
        residual: bool = True,
    ) -> None:
        super().__init__()
        self.form, self.structure = form, structure
        flat = structure == "flat"
        lstm_kernel = 3 if form == "original" else kernel
        self.spec = NetworkSpec(
            task="deblur",
            tiling=aligned(4 if flat else 16, _radius(form, flat, kernel, lstm_kernel, blocks)),
            multiple_of=4 if flat else 16,
            minimum=16,
            source="Tao et al., CVPR 2018",
        )

        def units(channels: int) -> list[_Unit]:
            return [_Unit(channels, kernel, residual) for _ in range(blocks)]

        def halve(channels: int) -> nn.Conv2d:
            if form == "original":
                return _HalvingConv2d(channels, 2 * channels, kernel, stride=2)
            return nn.Conv2d(channels, 2 * channels, kernel, stride=2, padding=kernel // 2)

        def double(channels: int) -> nn.ConvTranspose2d:
            if form == "original":
                return nn.ConvTranspose2d(channels, channels // 2, 4, stride=2, padding=1)
            return nn.ConvTranspose2d(channels, channels // 2, kernel, stride=2, padding=kernel // 2, output_padding=1)

        self.inblock = _Encode(nn.Conv2d(6, width, kernel, padding=kernel // 2), units(width))
        self.inner = width if flat else 4 * width
        if not flat:
            self.eblock1 = _Encode(halve(width), units(2 * width))
            self.eblock2 = _Encode(halve(2 * width), units(4 * width))
        self.convlstm = _ConvLSTM(self.inner, lstm_kernel, form)
        if not flat:
            self.dblock1 = _Decode(double(4 * width), units(4 * width))
            self.dblock2 = _Decode(double(2 * width), units(2 * width))
        self.outblock = _Output(nn.Conv2d(width, 3, kernel, padding=kernel // 2), units(width))

    def _level(self, blurred: Tensor, previous: Tensor, state: State | None) -> tuple[Tensor, State]:
        fine = features = self.inblock(torch.cat([blurred, previous], dim=1))
        if self.structure != "flat":
            middle = self.eblock1(fine)
            features = self.eblock2(middle)
        if state is None:
            state = torch.zeros_like(features), torch.zeros_like(features)
        state = self.convlstm(features, state)
        if self.structure == "flat":
            return self.outblock(state[0]), state
        middle = self.dblock1(state[0]) + middle
        return self.outblock(self.dblock2(middle) + fine), state

    def _pyramid(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.form == "original":
            return x, x[..., ::2, ::2], x[..., ::4, ::4]
        return x, F.avg_pool2d(x, 2), F.avg_pool2d(x, 4)

    def forward(self, b1: Tensor, b2: Tensor | None = None, b3: Tensor | None = None) -> list[Tensor]:
        if b2 is None or b3 is None:
            b1, b2, b3 = self._pyramid(b1)
        original = self.form == "original"
        double: Callable[[Tensor], Tensor] = _double_anchored if original else _double_bilinear
        previous, state = b3 if original else torch.zeros_like(b3), None
        results: list[Tensor] = []
        for blurred in (b3, b2, b1):
            if results:
                assert state is not None
                previous = double(results[0].detach() if original else results[0])
                state = double(state[0]), double(state[1])
            result, state = self._level(blurred, previous, state)
            results.insert(0, result)
        return results

    def restore(self, x: Tensor) -> Tensor:
        """The deblurred picture at full size."""
        return self.forward(x)[0]


def _radius(form: Form, flat: bool, kernel: int, lstm_kernel: int, blocks: int) -> int:
    """Reach of the three levels in a row, in pixels of the finest: worst case over the positions on the window grid."""
    reach, units, state = kernel // 2, 2 * blocks * (kernel // 2), lstm_kernel // 2
    if flat:
        level = 2 * (reach + units) + state
    else:
        # both sides of the full, the half and the quarter size; the steps between the sizes
        level = 2 * (reach + units) + 2 * 2 * units + 4 * (2 * units + state) + 3 * reach
        level += 3 if form == "original" else 3 * reach
    # what the phase on the window grid adds at worst, measured
    phase = (3 if flat else 24) if form == "original" else (6 if flat else 3)
    return level * (1 + 2 + 4) + phase


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    first, gates, last = (state.get(f"{key}.weight") for key in ("inblock.conv.0", "convlstm.conv", "outblock.conv.0"))
    if first is None or gates is None or last is None or first.shape[1] != 6 or last.shape[0] != 3:
        return None
    blocks = 0
    while f"inblock.resblock_stack.{blocks}.conv1.0.weight" in state:
        blocks += 1
    found: dict[str, Any] = {"kernel": first.shape[2], "blocks": blocks, "width": first.shape[0]}
    deconv = state.get("dblock1.deconv.0.weight")
    if deconv is None:
        # a flat network: nothing tells the forms apart but the size of the state's kernel
        return {**found, "structure": "flat", **({"form": "port"} if gates.shape[2] != 3 else {})}
    return {**found, "structure": "encoder-decoder", "form": "original" if deconv.shape[2] == 4 else "port"}


_FLAT: dict[str, Any] = {"structure": "flat", "kernel": 3, "blocks": 16, "width": 64}

FAMILY = Family(
    name="srn",
    build=SRN,
    variants={
        "srn": {},
        "srn_port": {"form": "port"},
        "srn_flat": {**_FLAT, "residual": False},
        "srn_rb": _FLAT,
        "srn_ed": {"kernel": 3, "residual": False},
        **{f"srn_edrb{n}": {"kernel": 3, "blocks": n} for n in (1, 2, 3)},
    },
    identify=_identify,
    paper="Scale-Recurrent Network for Deep Image Deblurring (CVPR 2018)",
)
