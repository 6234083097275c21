"""Attention in windows: every way of computing it gives the same."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from restora.networks import window_attention
from restora.networks.window_attention import (
    WindowAttention,
    attend,
    by_heads,
    from_windows,
    last_ones,
    relative_position_index,
    shift_masks,
    to_windows,
)


def test_windows_there_and_back() -> None:
    x = torch.arange(2 * 8 * 12 * 3.0).view(2, 8, 12, 3)
    windows = to_windows(x, 4)
    assert windows.shape == (12, 4, 4, 3)
    assert torch.equal(windows[4], x[0, 4:8, 4:8])  # the second row's second
    assert torch.equal(windows[6], x[1, :4, :4])
    assert torch.equal(from_windows(windows, 8, 12), x)
    heads = by_heads(windows, 3)
    assert heads.shape == (12, 3, 16, 1)
    assert torch.equal(heads[4, 2, 5, 0], x[0, 5, 5, 2])


def test_the_masks_of_the_last_row_and_column() -> None:
    assert last_ones(2, 2, 3, torch.device("cpu")).tolist() == [0, 0, 1, 2, 2, 3] * 2
    assert last_ones(1, 1, 1, torch.device("cpu")).tolist() == [3]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("bytes_of_scores", [1, 5000, 1 << 22])
def test_in_parts_as_fused_as_traced(masked: bool, bytes_of_scores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In parts of one window, of some, and in one piece, against torch's own and against a traced program."""
    monkeypatch.setattr(window_attention, "_SCORES", bytes_of_scores)
    torch.manual_seed(0)
    q, k, v = (torch.randn(12, 3, 16, 5) for _ in range(3))
    bias = torch.randn(3, 16, 16)
    masks, which = (shift_masks(4, 2).flatten(0, 1), last_ones(2, 2, 3, q.device)) if masked else (None, None)
    added = bias if masks is None else bias + masks[which][:, None]
    wanted = F.scaled_dot_product_attention(q, k, v, attn_mask=added).transpose(1, 2).flatten(2)
    with torch.no_grad():
        assert torch.allclose(attend(q, k, v, bias, masks, which), wanted, atol=1e-5)
        traced = torch.jit.trace(lambda *t: attend(*t, bias, masks, which), (q, k, v), check_trace=False)
        assert torch.allclose(traced(q, k, v), wanted, atol=1e-5)
    assert torch.allclose(attend(q, k, v, bias, masks, which), wanted, atol=1e-5)  # with gradients


def test_displaced_windows_do_not_look_across_the_picture() -> None:
    torch.manual_seed(0)
    attention = WindowAttention(6, 4, 2).eval()
    index, masks = relative_position_index(4), shift_masks(4, 2)
    x = torch.randn(1, 8, 12, 6)
    changed = x.clone()
    changed[:, -2:] += (
        1  # after a displacement by 2 these rows share windows with those before them, but are no neighbours
    )
    with torch.no_grad():
        before, after = attention(x, index, masks), attention(changed, index, masks)
        assert torch.equal(before[:, :6], after[:, :6])
        assert not torch.allclose(attention(x, index)[:, 4:6], attention(changed, index)[:, 4:6])
