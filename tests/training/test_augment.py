"""Augmentations: geometry by hand, frequencies over many draws, what stays untouched."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from restora.errors import RecipeError, UsageError
from restora.training.augment import (
    AUGMENTATIONS,
    Blend,
    CutBlur,
    CutMix,
    CutMixup,
    Cutout,
    Geometric,
    Mixup,
    MoA,
    RgbPermutation,
    build_augmentation,
)

SEVEN = ["cutout", "cutmix", "mixup", "cutmixup", "rgb_permutation", "blend", "cutblur"]


def pair(scale: int = 1, side: int = 40, batch: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Picture n of the input is n + 1, of the target -(n + 1), so that every pixel tells where it came from."""
    levels = torch.arange(1.0, batch + 1).view(-1, 1, 1, 1)
    return levels.expand(-1, 3, side, side).clone(), -levels.expand(-1, 3, side * scale, side * scale).clone()


def box_of(changed: torch.Tensor) -> tuple[int, int, int, int]:
    """Top, left, height, width of the pixels that are set; checks that they fill their box."""
    rows, columns = torch.where(changed.any(1))[0], torch.where(changed.any(0))[0]
    top, left = int(rows.min()), int(columns.min())
    height, width = int(rows.max()) - top + 1, int(columns.max()) - left + 1
    assert changed[top : top + height, left : left + width].all() and changed.sum() == height * width
    return top, left, height, width


class Scripted:
    """A generator whose answers are written down."""

    def __init__(
        self, randoms: list[float], normal: float = 0.7, integers: tuple[int, ...] = (), beta: float = 0.25
    ) -> None:
        self.randoms, self.normal_, self.integers_, self.beta_ = iter(randoms), normal, iter(integers), beta
        self.asked: list[tuple] = []

    def random(self) -> float:
        return next(self.randoms)

    def normal(self, mean: float, deviation: float) -> float:
        self.asked.append(("normal", mean, deviation))
        return self.normal_

    def integers(self, low: int, high: int) -> int:
        self.asked.append(("integers", low, high))
        return next(self.integers_)

    def permutation(self, n: int) -> np.ndarray:
        return np.roll(np.arange(n), 1)

    def beta(self, a: float, b: float) -> float:
        self.asked.append(("beta", a, b))
        return self.beta_


def test_cutblur_by_hand() -> None:
    """A 10 x 20 picture and a ratio of 0.75: a box of 7 x 15, whose corner is one of 4 x 6 places."""
    low, high = torch.zeros(2, 3, 10, 20), torch.ones(2, 3, 10, 20)
    for coin, inside in ((0.4, 1.0), (0.6, 0.0)):
        rng = Scripted([0.0, coin], normal=0.75, integers=(3, 5))
        x, y = CutBlur(alpha=0.7)(low, high, rng)
        expected = torch.full((10, 20), 1 - inside)
        expected[3:10, 5:20] = inside
        assert torch.equal(x, expected.expand(2, 3, -1, -1)) and y is high
        assert rng.asked == [("normal", 0.7, 0.01), ("integers", 0, 4), ("integers", 0, 6)]
    assert low.sum() == 0 and high.min() == 1


def test_cutblur_over_many_draws() -> None:
    """Sides N(0.7, 0.01), both directions equally often, corners uniform over all places."""
    rng, sides, tops, sharp = np.random.default_rng(5), [], [], 0
    low, high = torch.zeros(1, 1, 200, 200), torch.ones(1, 1, 200, 200)
    for _ in range(2000):
        x, _ = CutBlur()(low, high, rng)
        inside = float(x[0, 0, 100, 100])  # the middle lies in every box of this size
        top, _, height, width = box_of(x[0, 0] == inside)
        assert height == width
        sides.append(height / 200)
        tops.append(top / (200 - height))
        sharp += inside == 1
    # the side is rounded down to a pixel: 0.0025 less on average
    assert abs(np.mean(sides) - 0.6975) < 0.001 and abs(np.std(sides) - 0.01) < 0.001
    assert abs(sharp - 1000) < 4 * np.sqrt(500)
    assert abs(np.mean(tops) - 0.5) < 4 * np.sqrt(1 / 12 / 2000) and abs(np.var(tops) - 1 / 12) < 0.006
    assert min(tops) == 0 and max(tops) == 1


def test_cutblur_wants_one_size_or_enlarges() -> None:
    x, y = pair(2)
    with pytest.raises(UsageError, match="enlarge='nearest'"):
        CutBlur()(x, y, np.random.default_rng(0))
    done = CutBlur(enlarge="nearest", align=2)(x, y, np.random.default_rng(0))
    assert done.input.shape == y.shape and torch.equal(done.target, y)
    assert all(n % 2 == 0 for n in box_of(done.input[1, 0] == done.input[1, 0, 40, 40]))
    skipped = CutBlur(enlarge="nearest", p=0)(x, y, np.random.default_rng(0))
    assert skipped.input.shape == y.shape and skipped.operation == ""
    small = torch.arange(4.0).view(1, 1, 2, 2)
    enlarged = CutBlur(enlarge="nearest", p=0)(small, torch.zeros(1, 1, 4, 4), np.random.default_rng(0)).input
    assert enlarged[0, 0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_cutmix_cuts_the_same_place_of_both(scale: int) -> None:
    x, y = pair(scale)
    rng = Scripted([0.0], normal=0.7, integers=(4, 9))
    a, b = CutMix()(x, y, rng)
    for n in range(4):
        assert box_of(a[n, 0] != n + 1) == (4, 9, 28, 28)
        assert box_of(b[n, 0] != -(n + 1)) == tuple(scale * v for v in (4, 9, 28, 28))
        other = (n - 1) % 4 + 1
        assert a[n, 0, 10, 10] == other and b[n, 0, 10 * scale, 10 * scale] == -other


def test_mixup_is_the_weighted_mean() -> None:
    x, y = pair(2)
    rng = Scripted([0.0], beta=0.25)
    a, b = Mixup()(x, y, rng)
    wanted = 0.25 * torch.tensor([1.0, 2, 3, 4]) + 0.75 * torch.tensor([4.0, 1, 2, 3])
    assert torch.allclose(a[:, 0, 0, 0], wanted) and torch.allclose(b[:, 1, 5, 7], -wanted)
    assert rng.asked == [("beta", 1.2, 1.2)]


def test_cutmixup_has_the_mixture_inside_or_outside() -> None:
    x, y = pair(2)
    mixed = 0.25 * 2 + 0.75 * 1  # picture 1 with its partner 0
    for coin, inside, outside in ((0.4, mixed, 2.0), (0.6, 2.0, mixed)):
        a, b = CutMixup()(x, y, Scripted([0.0, coin], integers=(2, 3)))
        assert a[1, 0, 10, 10] == pytest.approx(inside) and a[1, 0, 0, 0] == pytest.approx(outside)
        assert box_of((a[1, 0] - inside).abs() < 1e-5) == (2, 3, 28, 28)
        assert box_of((b[1, 0] + inside).abs() < 1e-5) == (4, 6, 56, 56)


def test_cutout_drops_a_thousandth_and_says_where() -> None:
    x, y = torch.ones(8, 3, 128, 128), torch.ones(8, 3, 256, 256)
    done = Cutout()(x, y, np.random.default_rng(1))
    gone = done.input == 0
    count = int(gone[:, 0].sum())
    mean = 8 * 128 * 128 * 0.001
    assert abs(count - mean) < 4 * np.sqrt(mean)
    assert torch.equal(gone[:, 0], gone[:, 1]) and torch.equal(gone[:, 0], gone[:, 2])
    assert done.mask is not None and done.mask.shape == (8, 1, 256, 256)
    assert torch.equal(done.mask[:, :, ::2, ::2] == 0, gone[:, :1]) and int((done.mask == 0).sum()) == 4 * count
    assert torch.equal(done.target, y)


def test_blend_by_its_formula() -> None:
    x, y = torch.rand(4, 3, 6, 6), torch.rand(4, 3, 12, 12)
    for per_channel in (False, True):
        rng = np.random.default_rng(3)
        a, b = Blend(per_channel=per_channel)(x, y, rng)
        same = np.random.default_rng(3)
        same.random()
        v = torch.from_numpy(same.uniform(0.6, 1, (1, 3 if per_channel else 1, 1, 1))).float()
        c = torch.from_numpy(same.random((4, 3, 1, 1))).float()
        assert torch.allclose(a, v * x + (1 - v) * c) and torch.allclose(b, v * y + (1 - v) * c)
        assert a.min() >= 0 and a.max() <= 1


def test_channels_are_permuted_alike_and_uniformly() -> None:
    x = torch.tensor([1.0, 2, 3]).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    rng, counts = np.random.default_rng(0), {}
    for _ in range(3000):
        a, b = RgbPermutation()(x, x, rng)
        assert torch.equal(a, b) and torch.equal(a[0], a[1])
        order = tuple(a[0, :, 0, 0].int().tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 6 and sum((n - 500) ** 2 / 500 for n in counts.values()) < 20.5  # chi-square, 5 d.f., 0.999


def test_geometric_reaches_all_eight_symmetries_for_each_picture() -> None:
    x = torch.arange(9.0).view(1, 1, 3, 3).expand(400, 1, 3, 3)
    y = x.repeat_interleave(2, -1).repeat_interleave(2, -2)
    a, b = Geometric()(x, y, np.random.default_rng(2))
    assert torch.equal(b[..., ::2, ::2], a)
    seen, counts = torch.unique(a.reshape(400, 9), dim=0, return_counts=True)
    assert len(seen) == 8 and ((counts - 50) ** 2 / 50).sum() < 24.3  # chi-square, 7 d.f., 0.999
    wide = torch.rand(5, 3, 4, 6)
    assert Geometric()(wide, wide, np.random.default_rng(0)).input.shape == wide.shape


def chi_square(counts: dict[str, int], expected: dict[str, float], draws: int) -> float:
    assert set(counts) == set(expected)
    return sum((counts[k] - draws * e) ** 2 / (draws * e) for k, e in expected.items())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, dict.fromkeys(SEVEN, 1 / 7)),
        ({"preset": "real-sr"}, {**dict.fromkeys(SEVEN, 0.1), "cutblur": 0.4}),
        ({"preset": "restoration"}, {"": 0.4, **dict.fromkeys(SEVEN, 0.6 / 7)}),
        ({"preset": "small-sr"}, {"": 0.8, **dict.fromkeys(SEVEN, 0.2 / 7)}),
        ({"p": 0.5, "ratios": {"blend": 3, "mixup": 1}}, {"": 0.5, "blend": 0.375, "mixup": 0.125}),
    ],
)  # fmt: skip
def test_the_mixture_draws_by_its_ratios(options: dict, expected: dict[str, float]) -> None:
    moa, rng, counts = MoA(**options), np.random.default_rng(11), dict[str, int]()
    x = torch.rand(2, 3, 4, 4)
    for _ in range(10_000):
        name = moa(x, x, rng).operation
        counts[name] = counts.get(name, 0) + 1
    assert chi_square(counts, expected, 10_000) < 26.2  # 0.999 of chi-square with 8 degrees of freedom


def test_the_mixture_hands_options_on() -> None:
    moa = MoA(ratios={"cutout": 1}, operations={"cutout": {"alpha": 0.5}})
    done = moa(torch.ones(4, 3, 50, 50), torch.ones(4, 3, 50, 50), np.random.default_rng(0))
    assert done.mask is not None and abs(float(done.mask.mean()) - 0.5) < 0.03
    x, y = pair(2)
    assert MoA(enlarge="nearest")(x, y, np.random.default_rng(0)).input.shape == y.shape


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_same_seed_same_batch_and_nothing_changes_in_place(kind: str) -> None:
    augment = build_augmentation({"kind": kind})
    x, y = torch.rand(4, 3, 16, 16), torch.rand(4, 3, 16, 16)
    before = x.clone(), y.clone()
    first, second = (augment(x, y, np.random.default_rng(7)) for _ in range(2))
    assert torch.equal(first.input, second.input) and torch.equal(first.target, second.target)
    assert first.operation == second.operation != ""
    assert torch.equal(x, before[0]) and torch.equal(y, before[1])
    assert first.input.dtype == torch.float32 and first.input.shape == x.shape


def test_probability_of_one_operation() -> None:
    x, rng = torch.rand(1, 3, 4, 4), np.random.default_rng(0)
    hits = sum(Mixup(p=0.3)(x, x, rng).operation == "mixup" for _ in range(3000))
    assert abs(hits - 900) < 4 * np.sqrt(3000 * 0.3 * 0.7)


def test_chains_apply_in_turn_and_keep_the_mask() -> None:
    chain = build_augmentation([{"kind": "rgb_permutation"}, {"kind": "cutout", "alpha": 0.5}])
    done = chain(torch.ones(2, 3, 8, 8), torch.ones(2, 3, 8, 8), np.random.default_rng(0))
    assert done.operation == "rgb_permutation+cutout" and done.mask is not None
    with pytest.raises(RecipeError, match="comes last"):
        build_augmentation([{"kind": "moa"}, {"kind": "geometric"}])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"kind": "cutblurr"}, "cutblurr"), ({}, "None"), ({"kind": "cutblur", "beta": 1}, "beta"),
     ({"kind": "blend", "alpha": 2}, "alpha"), ({"kind": "moa", "ratios": {"x": 1}}, "'x'"),
     ({"kind": "moa", "ratios": {"blend": 0}}, "above 0"), ({"kind": "moa", "operations": {"blend": {"beta": 1}}}, "beta"),
     ({"kind": "moa", "operations": {"blend": {"enlarge": "nearest"}}}, "enlarge"), ({"kind": "mixup", "p": 1.5}, "p:")],
)  # fmt: skip
def test_impossible_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build_augmentation(options)


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    x = torch.rand(1, 3, 8, 8)
    for y in (torch.rand(1, 3, 12, 12), torch.rand(1, 3, 16, 24), torch.rand(2, 3, 8, 8), torch.rand(1, 3, 4, 4)):
        with pytest.raises(UsageError):
            Mixup()(x, y, np.random.default_rng(0))
