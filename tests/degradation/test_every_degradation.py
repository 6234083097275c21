"""What holds for every degradation: shape, range, finiteness, determinism, its dict, its manifest, clips."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from restora import degradation as d
from restora.degradation.spec import Spec
from restora.errors import UsageError
from tests.degradation.examples import ELSEWHERE, LINEAR, RANDOM

ALL = {name: (linear, False) for name, linear in LINEAR.items()} | RANDOM
FEW = settings(max_examples=5, deadline=None)


def picture(batch: int, channels: int, height: int = 20, width: int = 24, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(seed))


def test_the_examples_leave_none_out() -> None:
    kinds = {k for k, c in Spec._kinds.items() if issubclass(c, d.Degradation) and c.__module__.startswith("restora.")}
    shown = {type(part).__name__ for degradation, _ in ALL.values() for part in degradation.parts()}
    assert kinds - shown - ELSEWHERE - {"Degradation", "Linear", "Convolution"} == set()


@pytest.mark.parametrize("name", ALL)
@FEW
@given(seed=st.integers(0, 2**31), channels=st.sampled_from([1, 3]))
def test_shape_range_determinism_and_replay(name: str, seed: int, channels: int) -> None:
    degradation, kept = ALL[name]
    x = picture(2, channels, seed=seed % 1000)
    before = x.clone()
    y, manifest = degradation.seed(seed).degrade(x)
    assert torch.equal(x, before), "the input was changed"
    assert y.shape[:2] == x.shape[:2] and y.dtype == x.dtype
    assert bool(torch.isfinite(y).all())
    if kept:
        assert float(y.min()) >= -1e-5 and float(y.max()) <= 1 + 1e-5
    assert torch.equal(degradation.seed(seed)(x), y), "the same seed gave another result"
    assert torch.equal(degradation.seed(seed)(x[:1]), y[:1]), "a picture's result depends on its neighbours"
    assert torch.equal(d.replay(json.loads(json.dumps(manifest)), x), y), "the manifest gave another result"
    assert d.from_dict(json.loads(json.dumps(degradation.to_dict()))) == degradation
    assert all(d.from_dict(image).fixed for image in manifest["images"])


@pytest.mark.parametrize("name", ALL)
def test_clips_and_small_sizes(name: str) -> None:
    degradation, _ = ALL[name]
    clip = picture(4, 3).view(2, 2, 3, 20, 24)
    y, manifest = degradation.degrade(clip, 1)
    assert y.shape[:3] == clip.shape[:3]
    assert torch.equal(d.replay(manifest, clip), y)


SIZES = [n for n in ALL if n not in ("level-map", "region", "blur-valid")]


@pytest.mark.parametrize("name", SIZES)
@settings(max_examples=3, deadline=None)
@given(height=st.integers(7, 33), width=st.integers(7, 33))
def test_any_size(name: str, height: int, width: int) -> None:
    y = ALL[name][0](picture(1, 3, height, width), 0)
    assert bool(torch.isfinite(y).all()) and min(y.shape) > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no graphics card")
@pytest.mark.parametrize("name", ALL)
def test_on_a_graphics_card(name: str) -> None:
    x = picture(2, 3)
    here, there = ALL[name][0](x, 5), ALL[name][0](x.cuda(), 5)
    assert there.is_cuda and there.shape == here.shape
    # coders and rounding may fall on the other side of a step; sizes by area differ between libraries
    assert float((there.cpu() - here).abs().mean()) < 0.02


def test_a_class_of_ones_own() -> None:
    """The example of the documentation: one class, and everything else follows."""

    class Vignette(d.Degradation):
        strength: float | d.Distribution

        def run(self, x: torch.Tensor) -> torch.Tensor:
            h, w = x.shape[-2:]
            r = torch.linspace(-1, 1, h)[:, None] ** 2 + torch.linspace(-1, 1, w) ** 2
            return x * (1 - self.strength * r / 2)  # type: ignore[operator]

    try:
        chain = Vignette(d.Uniform(0.2, 0.8)) >> d.GaussianNoise(5)
        x = picture(3, 3)
        y, manifest = chain.degrade(x, 1)
        assert torch.equal(d.replay(json.loads(json.dumps(manifest)), x), y)
        assert len({image["steps"][0]["strength"] for image in manifest["images"]}) == 3
        assert d.from_dict(chain.to_dict()) == chain
    finally:
        del Spec._kinds["Vignette"]


def test_several_threads_give_the_same_bytes() -> None:
    chain = d.recipe("realesrgan-x4")
    x = picture(6, 3, 48, 48)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = chain.seed(3)(x)
        torch.set_num_threads(3)
        assert torch.equal(chain.seed(3)(x), one)
    finally:
        torch.set_num_threads(before)


def test_generators_and_seeds() -> None:
    x = picture(2, 3)
    noise = d.GaussianNoise(10)
    g = torch.Generator().manual_seed(5)
    first, second = noise(x, g), noise(x, g)
    assert not torch.equal(first, second), "a generator goes on"
    assert torch.equal(noise(x, torch.Generator().manual_seed(5)), first)
    assert torch.equal(noise.seed(5)(x), first)
    assert not torch.equal(first[0] - x[0], first[1] - x[1]), "pictures of a batch share their noise"
    with pytest.raises(UsageError, match="seed"):
        noise(x)


def test_composition_is_flat_and_reads_like_a_sentence() -> None:
    chain = d.Blur(d.kernels.gaussian(1)) >> d.Downsample(4, "bicubic") >> d.GaussianNoise(10)
    assert len(chain.steps) == 3
    assert chain.seed(0)(picture(1, 3)).shape == (1, 3, 5, 6)
    assert repr(chain) == "Chain(steps=(Blur(kernel=<7x7>), Downsample(scale=4), GaussianNoise(sigma=10)))"
    assert d.from_dict([s.to_dict() for s in chain.steps]) == chain


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"kind": "GaussianBlurr", "sigma": 1}, "Did you mean GaussianBlur"),
        ({"kind": "GaussianBlur", "sigmma": 1}, "no field 'sigmma'"),
        ({"kind": "GaussianBlur"}, "does not fit"),
        ({"kind": "GaussianBlur", "sigma": -1}, "at least 0"),
        ({"kind": "Jpeg", "quality": {"kind": "Uniform", "low": 0, "high": 50}}, "between 1 and 100"),
        ("nonsense", "mapping"),
        ({"kind": "Blur", "kernel": {"kind": "tensor", "shape": [3], "float32": "AA=="}}, "damaged"),
    ],
)
def test_wrong_descriptions_are_refused(data: object, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        d.from_dict(data)


@pytest.mark.parametrize(
    "x",
    [
        torch.zeros(3, 8, 8),
        torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
        torch.zeros(0, 3, 8, 8),
        torch.zeros(1, 3, 0, 8),
    ],
)
def test_wrong_tensors_are_refused(x: torch.Tensor) -> None:
    with pytest.raises(UsageError):
        d.GaussianBlur(1.0)(x)


def test_ragged_batches_say_so() -> None:
    with pytest.raises(UsageError, match="different sizes"):
        d.Rescale(d.Uniform(0.3, 1.4))(picture(4, 3), 0)


def test_gradients_pass_or_are_refused() -> None:
    x = picture(1, 3).requires_grad_()
    d.SoftJpeg(50)(x).sum().backward()
    assert x.grad is not None and bool(torch.isfinite(x.grad).all()) and float(x.grad.abs().max()) > 0
    with pytest.raises(UsageError, match="No gradient"):
        d.Jpeg(50)(x)


def test_precision_is_kept() -> None:
    for dtype in (torch.float64, torch.bfloat16):
        assert d.recipe("dasr-x4")(picture(1, 3).to(dtype), 0).dtype == dtype


@pytest.mark.parametrize(
    "draw",
    [d.Uniform(1, 2), d.LogUniform(1, 2), d.Integers(1, 2), d.Normal(1.5, 9, 1, 2), d.Choice((1, d.Uniform(1, 2)))],
)
def test_distributions_keep_their_bounds(draw: d.Distribution) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    values = [draw.draw(rng) for _ in range(300)]
    assert draw.bounds() == (1, 2)
    assert min(values) >= 1 and max(values) <= 2 and len(set(values)) > 1
    assert d.from_dict(draw.to_dict()) == draw


def test_impossible_distributions_are_refused() -> None:
    for make in (
        lambda: d.Uniform(2, 1),
        lambda: d.LogUniform(0, 1),
        lambda: d.Choice(()),
        lambda: d.Normal(5, 1, 0, 1),
    ):
        with pytest.raises(UsageError):
            make()
