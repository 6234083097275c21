"""Tiled equals whole, whatever the sizes; running out of memory never changes a pixel."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from restora import engine, networks
from restora.engine import tiles
from restora.engine.run import run
from restora.errors import Cancelled, EngineError, NumericalError
from restora.networks.spec import aligned, exact


def lively(variant: str, seed: int = 0) -> torch.nn.Module:
    """A network whose every weight matters: outputs that depend on the far end of the receptive field."""
    torch.manual_seed(seed)
    net = networks.create(variant)
    for parameter in net.parameters():
        if parameter.requires_grad and parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=1.2 * parameter[0].numel() ** -0.5)
    return net


VARIANTS = [("fsrcnn_x2", 2), ("fsrcnn_x3", 3), ("fsrcnn_x4", 4), ("fsrcnn_s_x4", 4), ("srcnn", 2), ("srcnn_rgb", 3), ("carn_m", 2),
            ("carn_m", 3), ("carn_m", 4), ("pcarn_m_x2", 2)]  # fmt: skip


@pytest.mark.parametrize(("variant", "scale"), VARIANTS)
@pytest.mark.parametrize(
    ("height", "width", "tile"), [(61, 47, 16), (1, 50, 13), (43, 1, 7), (53, 59, 32), (5, 3, 64), (40, 40, 39)]
)
def test_tiled_equals_whole(variant: str, scale: int, height: int, width: int, tile: int) -> None:
    picture = np.random.default_rng(0).random((height, width, 3), dtype=np.float32)
    error = engine.verify_tiling(engine.NetworkOperator(lively(variant), scale), picture, tile)
    assert error.largest <= 1e-5
    assert error.tiles > 1 or max(height, width) <= tile


@pytest.mark.parametrize(
    "variant", ["fsrcnn_x2", "fsrcnn_x3", "fsrcnn_x4", "fsrcnn_s_x3", "srcnn", "carn_x2", "carn_m_x3", "pcarn_m_x4"]
)
def test_the_promised_radius_is_the_receptive_field(variant: str) -> None:
    """No smaller radius would do: the gradient of one pixel's outputs reaches exactly that far. Positive weights keep
    every rectifier open."""
    net = networks.create(variant).double()
    for parameter in net.parameters():
        parameter.data.abs_()
    spec, side = net.spec, 51
    factor = 1 if spec.grid == "output" else spec.scales[0]
    x = torch.rand(1, spec.channels, side, side, dtype=torch.float64, requires_grad=True)
    middle = slice(side // 2 * factor, (side // 2 + 1) * factor)
    net(x)[..., middle, middle].sum().backward()
    rows = x.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    assert max(side // 2 - int(rows[0]), int(rows[-1]) - side // 2) == spec.tiling.radius


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 120), st.integers(0, 40), st.sampled_from([1, 4, 8]))
def test_cores_cover_every_pixel_once(height: int, width: int, size: int, radius: int, window: int) -> None:
    promise = exact(radius) if window == 1 else aligned(window, radius)
    covered = np.zeros((height, width), int)
    for t in tiles.plan(height, width, size, window, tiles.halo(promise)):
        assert t.top % window == 0 and t.left % window == 0
        covered[t.top : t.bottom, t.left : t.right] += 1
        assert t.read_top == max(0, t.top - tiles.halo(promise)) and t.read_right == min(
            width, t.right + tiles.halo(promise)
        )
        assert t.read_top % window == 0 and t.read_left % window == 0
        assert max(t.bottom - t.top, t.right - t.left) <= max(size, window) + window
    assert (covered == 1).all()


@given(st.integers(1, 200), st.integers(1, 200), st.sampled_from([1, 8]))
def test_halves_cover_the_tile(height: int, width: int, window: int) -> None:
    whole = tiles.tile_at(0, 0, height, width, height, width, 5)
    parts = tiles.halves(whole, height, width, window, 5)
    assert sum(p.pixels for p in parts) == whole.pixels
    assert len(parts) == 2 or max(height, width) <= window


class Flaky:
    """An operator that runs out of memory on chosen calls, or whenever a tile is too large."""

    def __init__(self, operator: engine.NetworkOperator, fail_on: set[int] = frozenset(), limit: int = 1 << 30) -> None:
        self.operator, self.fail_on, self.limit, self.calls = operator, fail_on, limit, 0
        for name in ("scale", "tiling", "multiple_of", "minimum", "half_safe", "bytes_per_pixel"):
            setattr(self, name, getattr(operator, name))

    def to(self, device: torch.device) -> Flaky:
        return self

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls in self.fail_on or x.shape[-1] * x.shape[-2] > self.limit:
            raise torch.OutOfMemoryError("injected")
        return self.operator(x)


@pytest.mark.parametrize("call", [1, 2, 3, 6])
def test_running_out_of_memory_at_any_tile_changes_nothing(call: int) -> None:
    operator = engine.NetworkOperator(lively("fsrcnn_x2"), 2)
    picture = np.random.default_rng(0).integers(0, 256, (70, 50, 3), dtype=np.uint8)
    plain, _ = run(operator, picture, settings=engine.Settings(device="cpu", tile=32))
    result, report = run(Flaky(operator, {call}), picture, settings=engine.Settings(device="cpu", tile=32))
    assert np.abs(result.astype(int) - plain).max() <= 1  # a tie of rounding may fall the other way
    assert any("smaller tiles" in note for note in report.notes)


def test_a_memory_limit_is_met_by_smaller_tiles() -> None:
    operator = engine.NetworkOperator(lively("fsrcnn_x2"), 2)
    picture = np.random.default_rng(0).random((90, 110, 3), dtype=np.float32)
    whole, _ = run(operator, picture, settings=engine.Settings(device="cpu", tile=0))
    result, _ = run(Flaky(operator, limit=50 * 50), picture, settings=engine.Settings(device="cpu", tile=0))
    assert np.abs(result - whole).max() <= 1e-5 * max(1, np.abs(whole).max())


def test_memory_that_is_never_enough_is_an_error_and_no_picture() -> None:
    operator = engine.NetworkOperator(networks.create("fsrcnn_x2"), 2)
    with pytest.raises(EngineError, match="not enough memory"):
        run(Flaky(operator, limit=1), np.zeros((64, 64, 3), np.uint8), settings=engine.Settings(device="cpu"))


class Fragile(Flaky):
    """Gives NaN outside float32."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        y = self.operator(x)
        return y * float("nan") if torch.is_autocast_enabled("cpu") else y


def test_nan_in_bf16_falls_back_to_float32_with_a_warning() -> None:
    operator = engine.NetworkOperator(lively("fsrcnn_x2"), 2)
    picture = np.random.default_rng(0).random((40, 40, 3), dtype=np.float32)
    plain, _ = run(operator, picture, settings=engine.Settings(device="cpu", tile=20))
    with pytest.warns(RuntimeWarning, match="float32"):
        result, report = run(
            Fragile(operator), picture, settings=engine.Settings(device="cpu", precision="bf16", tile=20)
        )
    assert report.precision == "float32"
    assert np.array_equal(result, plain)


def test_nan_in_float32_is_an_error() -> None:
    net = networks.create("fsrcnn_x2")
    with torch.no_grad():
        net.last_part.bias.fill_(float("nan"))
    with pytest.raises(NumericalError, match="weights are damaged"):
        run(engine.NetworkOperator(net, 2), np.zeros((8, 8, 3), np.uint8), settings=engine.Settings(device="cpu"))


def test_bf16_is_close_to_float32() -> None:
    operator = engine.NetworkOperator(lively("carn_m_x2"), 2)
    picture = np.random.default_rng(0).random((48, 48, 3), dtype=np.float32)
    plain, _ = run(operator, picture, settings=engine.Settings(device="cpu", precision="float32"))
    half, report = run(operator, picture, settings=engine.Settings(device="cpu", precision="bf16"))
    assert report.precision == "bfloat16"
    assert 0 < np.abs(half - plain).max() < 0.1 * np.abs(plain).max()


def test_ensemble_is_the_mean_of_eight_and_symmetric() -> None:
    operator = engine.NetworkOperator(lively("fsrcnn_x2"), 2)
    picture = np.random.default_rng(0).random((24, 31, 3), dtype=np.float32)
    how = engine.Settings(device="cpu", ensemble=True)
    result, _ = run(operator, picture, settings=how)
    turned, _ = run(operator, np.ascontiguousarray(np.rot90(picture)), settings=how)
    assert np.allclose(np.rot90(result), turned, atol=1e-5)
    mirrored, _ = run(operator, np.ascontiguousarray(picture[:, ::-1]), settings=how)
    assert np.allclose(result[:, ::-1], mirrored, atol=1e-5)
    tiled, _ = run(operator, picture, settings=engine.Settings(device="cpu", ensemble=True, tile=10))
    assert np.allclose(result, tiled, atol=1e-5)


def test_progress_reaches_the_end_and_cancel_stops() -> None:
    operator = engine.NetworkOperator(networks.create("fsrcnn_s_x2"), 2)
    picture = np.zeros((64, 64, 3), np.uint8)
    seen: list[engine.Progress] = []
    run(operator, picture, settings=engine.Settings(device="cpu", tile=32), progress=seen.append)
    assert [p.done for p in seen] == [1024, 2048, 3072, 4096] and seen[-1].remaining == 0
    with pytest.raises(Cancelled):
        run(operator, picture, settings=engine.Settings(device="cpu", tile=32), cancelled=lambda: True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_grey_through_every_kind_of_network_is_near_its_colour_twin(dtype: type) -> None:
    grey = (
        np.random.default_rng(0).random((20, 20, 1))
        * (255 if dtype == np.uint8 else 65535 if dtype == np.uint16 else 1)
    ).astype(dtype)
    for variant in ("fsrcnn_x2", "carn_m_x2"):
        operator = engine.NetworkOperator(lively(variant), 2)
        one, _ = run(operator, grey, settings=engine.Settings(device="cpu"))
        three, _ = run(operator, np.repeat(grey, 3, axis=2), settings=engine.Settings(device="cpu"))
        assert one.shape == (40, 40, 1) and one.dtype == dtype
        unit = 1 if dtype != np.float32 else 1e-4
        assert (
            np.abs(one[..., 0].astype(float) - three.astype(float).mean(axis=2)).max() <= 1.5 * unit
            or variant == "carn_m_x2"
        )


def test_results_go_into_a_memory_map(tmp_path) -> None:
    operator = engine.NetworkOperator(lively("fsrcnn_x2"), 2)
    picture = np.random.default_rng(0).integers(0, 256, (30, 30, 3), dtype=np.uint8)
    target = np.memmap(tmp_path / "out", np.uint8, "w+", shape=(60, 60, 3))
    run(operator, picture, target, engine.Settings(device="cpu", tile=16))
    plain, _ = run(operator, picture, settings=engine.Settings(device="cpu", tile=16))
    assert np.array_equal(target, plain)


def test_a_reach_that_does_not_fit_is_cut_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that sees further than the memory holds is still run, and the report says what was given up."""
    module = importlib.import_module("restora.engine.run")
    operator = engine.NetworkOperator(lively("fsrcnn_x2"), 2)
    operator.tiling = exact(400)
    for name in ("_CPU_BUDGET", "_CPU_WHOLE"):
        monkeypatch.setattr(module, name, int(operator.bytes_per_pixel() * 200**2))
    size, reach = module.layout(operator, torch.device("cpu"))
    assert (size + 2 * reach) ** 2 * operator.bytes_per_pixel() <= 1.01 * module._CPU_BUDGET
    picture = np.random.default_rng(0).random((300, 250, 3), dtype=np.float32)
    whole, _ = run(operator, picture, settings=engine.Settings(device="cpu", tile=0))
    result, report = run(operator, picture, settings=engine.Settings(device="cpu"))
    assert any("sees 400 pixels far" in note for note in report.notes)
    assert np.abs(result - whole).max() <= 1e-5 * max(1, np.abs(whole).max())  # it really sees but 8
    assert module.layout(operator, torch.device("cpu"), 64) == (64, 400)


def test_a_picture_that_fits_is_one_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where a tile of a larger picture would be smaller than it."""
    module = importlib.import_module("restora.engine.run")
    operator = engine.NetworkOperator(lively("fsrcnn_x2"), 2)
    needed = int(operator.bytes_per_pixel() * 260 * 300)
    monkeypatch.setattr(module, "_CPU_BUDGET", needed // 2)
    picture = np.random.default_rng(0).random((260, 300, 3), dtype=np.float32)
    for whole, count in ((needed, 1), (needed - 1, 4)):
        monkeypatch.setattr(module, "_CPU_WHOLE", whole)
        _, report = run(operator, picture, settings=engine.Settings(device="cpu"))
        assert report.tiles == count
