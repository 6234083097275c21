"""ViT: a transformer on flattened patches, the classifier whose features ViTDeblur uses.

Dosovitskiy et al.: An Image is Worth 16x16 Words, ICLR 2021; the ViTDeblur document, section 2.7 of its specification. Keys
are torchvision's, in which the ImageNet weights are published.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.errors import UsageError
from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, global_


class _SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        b, n, width = x.shape
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = qkv.reshape(b, n, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(y.transpose(1, 2).reshape(b, n, width))


class _EncoderLayer(nn.Module):
    """Attention and a perceptron with GELU, each on normalised input and added to it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps=1e-6)
        self.self_attention = _SelfAttention(width, heads)
        self.ln_2 = nn.LayerNorm(width, eps=1e-6)
        # the published perceptron has dropout layers (of probability 0) at 2 and 4, hence its numbers
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attention(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class _Encoder(nn.Module):
    def __init__(self, width: int, depth: int, heads: int, tokens: int) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.empty(1, tokens, width).normal_(std=0.02))
        self.layers = nn.Sequential()
        for n in range(depth):
            self.layers.add_module(f"encoder_layer_{n}", _EncoderLayer(width, heads))
        self.ln = nn.LayerNorm(width, eps=1e-6)


class ViT(nn.Module):
    """ViT-B/16 by default.

    Shapes: `B x 3 x H x W`, RGB normalised by ImageNet's mean and deviation, -> `B x classes` logits, or `B x width`, the
    class token, without a head. H and W are `image`; `tokens` takes other multiples of `patch`.

    Args:
        image: side of the pictures of the training; it sets the table of positions. patch: side of a patch.
        width, depth: of the transformer; a head of the attention has 64 channels, or all when there are fewer.
        classes: None leaves out the head.
    """

    def __init__(
        self, image: int = 224, patch: int = 16, width: int = 768, depth: int = 12, classes: int | None = 1000
    ) -> None:
        super().__init__()
        self.image, self.patch = image, patch
        self.spec = NetworkSpec(
            task="part",
            tiling=global_(0, window=patch),
            multiple_of=patch,
            minimum=image,
            source="Dosovitskiy et al., ICLR 2021",
        )
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.conv_proj = nn.Conv2d(3, width, patch, stride=patch)
        self.encoder = _Encoder(width, depth, max(1, width // 64), (image // patch) ** 2 + 1)
        self.heads = nn.Sequential()
        if classes is not None:
            self.heads.add_module("head", nn.Linear(width, classes))

    @staticmethod
    def convert_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Older files call the perceptron's layers linear_1 and linear_2."""
        numbers = {"1": "0", "2": "3"}
        return {re.sub(r"\.mlp\.linear_([12])\.", lambda m: f".mlp.{numbers[m[1]]}.", k): v for k, v in state.items()}

    def _positions(self, rows: int, columns: int) -> Tensor:
        """The table of positions for another number of patches: interpolated."""
        table, side = self.encoder.pos_embedding, self.image // self.patch
        if (rows, columns) == (side, side):
            return table
        grid = table[:, 1:].transpose(1, 2).unflatten(2, (side, side))
        grid = F.interpolate(grid, size=(rows, columns), mode="bicubic", align_corners=False)
        return torch.cat([table[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)

    def tokens(self, x: Tensor) -> Tensor:
        """`B x 3 x H x W` -> `B x (1 + HW / patch^2) x width`: the class token and those of the patches, row by row."""
        patches = self.conv_proj(x)
        rows, columns = patches.shape[2:]
        y = torch.cat([self.class_token.expand(len(x), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
        return self.encoder.ln(self.encoder.layers(y + self._positions(rows, columns)))

    def forward(self, x: Tensor) -> Tensor:
        if tuple(x.shape[2:]) != (self.image, self.image):
            raise UsageError(
                f"This ViT classifies pictures of {self.image} x {self.image} pixels, not {tuple(x.shape)}."
            )
        return self.heads(self.tokens(x)[:, 0])


def identify_vit(state: Mapping[str, Tensor], prefix: str = "") -> dict[str, Any] | None:
    """The configuration of a ViT whose keys begin with `prefix`."""
    patches, table = state.get(f"{prefix}conv_proj.weight"), state.get(f"{prefix}encoder.pos_embedding")
    if patches is None or table is None or f"{prefix}class_token" not in state:
        return None
    depth = 0
    while f"{prefix}encoder.layers.encoder_layer_{depth}.ln_1.weight" in state:
        depth += 1
    head, patch = state.get(f"{prefix}heads.head.weight"), patches.shape[2]
    return {
        "image": round((table.shape[1] - 1) ** 0.5) * patch,
        "patch": patch,
        "width": patches.shape[0],
        "depth": depth,
        "classes": None if head is None else head.shape[0],
    }


FAMILY = Family(
    name="vit",
    build=ViT,
    variants={"vit_b_16": {}},
    identify=identify_vit,
    paper="An Image is Worth 16x16 Words (ICLR 2021)",
)
