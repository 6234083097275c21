"""Whatever runs a network, the picture is the same; what is chosen by itself is faithful."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from restora import engine, networks
from restora.engine import NetworkOperator, Settings, backends, selection, tiles
from restora.engine.photographs import crops
from restora.engine.run import run
from restora.engine.selection import Measured, Record, choose_way
from restora.engine.tune import Failed, tune
from restora.engine.uniform import of_one_size
from restora.errors import EngineError, MissingExtra, UsageError
from restora.networks.spec import NetworkSpec, exact
from restora.zoo.onnx import export_onnx
from tests.conftest import make_photo

CPU = torch.device("cpu")


def needs(backend: str) -> None:
    if not backends.installed(backend):
        pytest.skip(f"{backend} is not installed")
    if backend == "onnxruntime":
        pytest.importorskip("onnxscript")


class Small(nn.Module):
    """Two convolutions and a residual: enough to be converted, quick to be."""

    def __init__(self, scale: int = 1, task: str = "deblur") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.spec = NetworkSpec(task=task, tiling=exact(2), scales=(scale,))
        self.a, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 3 * scale**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shuffle(self.b(torch.relu(self.a(x)))) / 2 + 0.4


def floats(height: int = 61, width: int = 47, channels: int = 3) -> np.ndarray:
    return make_photo(height, width)[..., :channels].astype(np.float32) / 255


def settings(backend: str, tile: int | None = None, precision: str = "float32", **more: object) -> Settings:
    return Settings("cpu", precision, tile, backend=backend, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_backend_gives_what_torch_gives(backend: str) -> None:
    needs(backend)
    picture, operator = floats(), NetworkOperator(Small(2), 2)
    for how in ({}, {"tile": 16}, {"ensemble": True}):
        wanted, _ = run(operator, picture, settings=settings("torch", **how))
        result, report = run(operator, picture, settings=settings(backend, **how))
        assert report.backend == backend
        assert np.abs(result - wanted).max() < 1e-5


@pytest.mark.parametrize("variant", ["fsrcnn_s_x3", "nafnet_tiny", "ffdnet_gray", "swinir_tiny"])
def test_openvino_gives_what_torch_gives(variant: str) -> None:
    needs("openvino")
    net = small(variant)
    picture = floats(40, 53)
    for tile in (0, 24):
        wanted, _ = run(NetworkOperator(net), picture, settings=settings("torch", tile))
        result, _ = run(NetworkOperator(net), picture, settings=settings("openvino", tile))
        assert np.abs(result - wanted).max() < 1e-4 * max(1, np.abs(wanted).max())


def small(variant: str, **changes: object) -> nn.Module:
    if variant == "nafnet_tiny":
        blocks = {"width": 8, "enc_blk_nums": (1, 1), "middle_blk_num": 1, "dec_blk_nums": (1, 1)}
        net = networks.create("nafnet_gopro_width32", **blocks, **changes)
    elif variant == "swinir_tiny":
        net = networks.create("swinir_lightweight_x2", dim=12, depths=(2,), heads=(2,))
    else:
        net = networks.create(variant, **changes)
    return engine.enliven(net)


def test_levels_are_inputs_of_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another noise level, or a map of levels, is the same program."""
    needs("openvino")
    net, picture = small("ffdnet_gray"), floats(channels=1)
    made = []
    session = backends.vino.VinoSession
    monkeypatch.setattr(backends.vino, "VinoSession", lambda *a: made.append(1) or session(*a))
    for sigma in (5.0, 40.0):
        wanted, _ = run(NetworkOperator(net, 1, {"sigma": sigma}), picture, settings=settings("torch"))
        result, _ = run(NetworkOperator(net, 1, {"sigma": sigma}), picture, settings=settings("openvino"))
        assert np.abs(result - wanted).max() < 1e-4
    levels = np.dstack([picture, np.full(picture.shape[:2], 40, np.float32)])
    mapped, _ = run(NetworkOperator(net, 1, maps=("sigma",)), levels, picture.copy(), settings=settings("openvino"))
    assert np.abs(mapped - result).max() < 1e-5
    assert made == [1]


def test_a_converted_network_is_read_from_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    needs("openvino")
    net, picture = Small(), floats()
    first, _ = run(NetworkOperator(net), picture, settings=settings("openvino"))
    backends.forget(net)
    monkeypatch.setattr(backends.vino, "convert", lambda *_: pytest.fail("converted again"))
    again, _ = run(NetworkOperator(net), picture, settings=settings("openvino"))
    assert np.array_equal(first, again)


def test_other_weights_are_another_program() -> None:
    needs("openvino")
    net, picture = Small(), floats()
    before, _ = run(NetworkOperator(net), picture, settings=settings("openvino"))
    with torch.no_grad():
        net.b.bias.add_(0.25)
    after, _ = run(NetworkOperator(net), picture, settings=settings("openvino"))
    assert np.allclose(after - before, 0.125, atol=1e-5)


def test_a_network_that_cannot_be_converted_says_so() -> None:
    needs("openvino")

    class Odd(Small):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + torch.linalg.svdvals(x).mean()

    with pytest.raises(EngineError, match="OpenVINO cannot"):
        run(NetworkOperator(Odd()), floats(), settings=settings("openvino"))


@pytest.mark.parametrize(("height", "width", "size", "window"), [(100, 130, 32, 1), (97, 64, 24, 8), (10, 10, 50, 1)])
def test_tiles_of_one_size_cover_what_they_covered(height: int, width: int, size: int, window: int) -> None:
    plan = tiles.plan(height, width, size, window, 8)
    evened = of_one_size(plan, height, width, window)
    sizes = {(t.read_bottom - t.read_top, t.read_right - t.read_left) for t in evened}
    assert len(sizes) == 1 if window == 1 else len(sizes) <= 4
    for before, after in zip(plan, evened, strict=True):
        assert (before.top, before.left, before.bottom, before.right) == (
            after.top,
            after.left,
            after.bottom,
            after.right,
        )
        assert after.read_top <= before.read_top and after.read_left <= before.read_left
        assert after.read_bottom >= before.read_bottom and after.read_right >= before.read_right
        assert after.read_top % window == 0 and after.read_left % window == 0
        assert after.read_top >= 0 and after.read_bottom <= height and after.read_right <= width


def test_colours_are_computed_in_float32() -> None:
    """Half precision is the network's alone: chroma that passes by it keeps its 8 bits."""
    net = small("fsrcnn_s_x2")
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    picture = floats()
    wanted, _ = run(NetworkOperator(net), picture, settings=settings("torch"))
    half, report = run(NetworkOperator(net), picture, settings=settings("torch", precision="bf16"))
    assert report.precision == "bfloat16"
    assert np.array_equal(half, wanted)


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"backend": "tensorrt"}, "'tensorrt' is no backend"),
        ({"backend": "torch", "precision": "int8"}, "not in int8; openvino, onnxruntime would"),
        ({"backend": "onnxruntime", "precision": "bf16"}, "float32, int8, not in bf16"),
        ({"precision": "fp16"}, "fp16 is slow"),
        ({"precision": "double"}, "no precision"),
    ],
)
def test_wrong_names_are_refused(how: dict[str, str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        choose_way(NetworkOperator(Small()), Settings("cpu", **how), CPU, np.uint8)


def test_openvino_does_not_take_float32_for_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "cpu_has_bf16", lambda: False)
    with pytest.raises(UsageError, match="no bf16 on this CPU"):
        selection.check_settings(Settings("cpu", "bf16", backend="openvino"))


def test_what_is_not_installed_is_told_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for how in ({"precision": "int8"}, {"backend": "onnxruntime"}):
        with pytest.raises(MissingExtra, match=r"restora\[onnx\]"):
            selection.check_settings(Settings("cpu", **how))


def test_a_method_without_a_network_has_no_backend() -> None:
    plain = engine.FunctionOperator(lambda x: x, 1)
    assert choose_way(plain, Settings("cpu"), CPU, np.uint8).backend == "torch"
    needs("openvino")
    with pytest.raises(UsageError, match="not a network"):
        choose_way(plain, Settings("cpu", backend="openvino"), CPU, np.uint8)


def row(backend: str, precision: str, seconds: float, psnr: float = 60.0, ready: float = 0.0) -> Measured:
    return Measured(backend, precision, 64, 1, seconds, psnr, ready)


def test_what_was_measured_is_used() -> None:
    operator = NetworkOperator(Small())
    rows = [row("torch", "float32", 4, math.inf), row("torch", "bf16", 1, 49.9), row("torch", "bf16", 3)]
    rows += [row("compile", "float32", 0.5, 99, ready=80)]
    selection.remember(operator, CPU, Record(measured=rows))

    def chosen(kind: type, **how: str) -> tuple[str, str]:
        way = choose_way(NetworkOperator(operator.net), Settings("cpu", **how), CPU, kind)
        return way.backend, way.precision

    assert chosen(np.uint8) == ("torch", "bf16")
    assert choose_way(operator, Settings("cpu"), CPU, np.uint8).tile == 64
    assert chosen(np.uint16) == chosen(np.float32) == ("torch", "float32")
    assert chosen(np.uint8, precision="float32") == ("torch", "float32")
    if backends.installed("compile"):
        assert chosen(np.uint16, backend="compile") == ("compile", "float32")


def test_what_is_unfaithful_is_not_taken() -> None:
    operator = NetworkOperator(Small())
    selection.remember(operator, CPU, Record(measured=[row("torch", "float32", 4), row("torch", "bf16", 1, 49.9)]))
    assert choose_way(operator, Settings("cpu"), CPU, np.uint8).precision == "float32"
    assert choose_way(operator, Settings("cpu", "bf16"), CPU, np.uint8).precision == "bf16"


@pytest.mark.parametrize(("error", "gain", "taken"), [(1e-3, 2.0, True), (1e-2, 2.0, False), (1e-3, 1.0, False)])
def test_without_tuning_bf16_has_to_pass_a_check(
    monkeypatch: pytest.MonkeyPatch, error: float, gain: float, taken: bool
) -> None:
    calls = []

    def sample(network: NetworkOperator, ways: list[selection.Way]) -> list[tuple[torch.Tensor, float]]:
        calls.extend(way.precision for way in ways)
        return [
            (torch.full((1, 3, 8, 8), 0.5 + error * half), 1 / gain if half else 1.0)
            for half in (way.precision == "bf16" for way in ways)
        ]

    monkeypatch.setattr(selection, "sample", sample)
    monkeypatch.setattr(selection, "cpu_has_bf16", lambda: True)
    net = Small()
    for _ in range(2):
        way = choose_way(NetworkOperator(net), Settings("cpu"), CPU, np.uint8)
        assert (way.precision == "bf16") is taken
    assert calls == ["float32", "bf16"]  # once, then it is known
    assert choose_way(NetworkOperator(net), Settings("cpu"), CPU, np.uint16).precision == "float32"


def test_the_first_decision_stands() -> None:
    """Two workers may check at once; both go on with what was written first."""
    operator = NetworkOperator(Small())
    selection.remember(operator, CPU, Record({"torch": True}), replace=False)
    assert selection.remember(operator, CPU, Record({"torch": False}), replace=False).checks == {"torch": True}


def test_a_record_is_of_this_machine_and_these_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Small()
    selection.remember(NetworkOperator(net), CPU, Record(measured=[row("torch", "bf16", 1)]))
    assert selection.recall(NetworkOperator(net), CPU).measured
    with torch.no_grad():
        net.a.weight.add_(1)
    assert not selection.recall(NetworkOperator(net), CPU).measured
    with torch.no_grad():
        net.a.weight.sub_(1)
    monkeypatch.setattr(selection, "_processor", lambda: "another")
    assert not selection.recall(NetworkOperator(net), CPU).measured


def test_a_damaged_record_is_none() -> None:
    operator = NetworkOperator(Small())
    selection.remember(operator, CPU, Record(measured=[row("torch", "float32", 1)]))
    selection._MEMORY.clear()
    selection._path(operator, CPU).write_text('{"checks": {}, "measured": [{"backend": 1}]}')
    assert selection.recall(operator, CPU) == Record()
    selection.remember(
        operator, CPU, Record({"torch": True}), replace=False
    )  # it is replaced, or it would be damaged for ever
    selection._MEMORY.clear()
    assert selection.recall(operator, CPU).checks == {"torch": True}
    assert [p.suffix for p in selection._path(operator, CPU).parent.iterdir()] == [".json"]


def test_tuning_measures_and_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        backends, "candidates", lambda device, quick: [("torch", "float32"), ("torch", "bf16"), ("openvino", "float32")]
    )

    def failing(*_: object) -> object:
        raise backends.Unsupported("on purpose")

    monkeypatch.setattr(backends, "session", failing)
    monkeypatch.setattr("restora.engine.tune._SIDES", (32, 64))
    monkeypatch.setattr("restora.engine.tune._BASE", 32)
    told: list[Measured | Failed] = []
    operator = NetworkOperator(Small())
    record = tune(operator, CPU, quick=True, threads=1, model="small", tell=told.append)
    assert record.measured == [t for t in told if isinstance(t, Measured)]
    assert [t.reason for t in told if isinstance(t, Failed)] == ["on purpose"]
    assert {r.tile for r in record.measured} == {32, 64}
    plain = next(r for r in record.measured if r.precision == "float32")
    assert plain.psnr == math.inf and plain.seconds > 0
    assert selection.recall(NetworkOperator(operator.net), CPU) == record
    best = min((r for r in record.measured if r.faithful), key=lambda r: r.seconds)
    way = choose_way(operator, Settings("cpu"), CPU, np.uint8)
    assert (way.precision, way.tile) == (best.precision, best.tile)


def test_int8_is_calibrated_and_close() -> None:
    needs("onnxruntime")
    net, picture = Small(), floats(64, 64)
    wanted, _ = run(NetworkOperator(net), picture, settings=settings("torch"))
    for backend in ("onnxruntime", "openvino"):
        needs(backend)
        result, report = run(NetworkOperator(net), picture, settings=settings(backend, precision="int8"))
        assert report.precision == "int8"
        assert 1e-5 < np.sqrt(np.mean((result - wanted) ** 2)) < 0.01


def test_photographs_of_a_folder(tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(make_photo(70, 90)).save(tmp_path / "a.png")
    Image.fromarray(make_photo(20, 90)).save(tmp_path / "small.png")
    spec = Small().spec
    (one,) = crops(spec, 64, 5, tmp_path)
    assert one.shape == (1, 3, 64, 64)
    noisy = dataclasses.replace(spec, task="denoise")
    assert float((next(crops(noisy, 64, 1, tmp_path)) - one).std()) == pytest.approx(15 / 255, rel=0.2)
    assert len(list(crops(spec, 600, 3))) == 3
    with pytest.raises(UsageError, match="no photograph"):
        list(crops(spec, 100, 1, tmp_path))


def test_the_command_tells_and_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from restora.cli import make_app

    monkeypatch.setattr(backends, "candidates", lambda device, quick: [("torch", "float32")])
    monkeypatch.setattr("restora.engine.tune._SIDES", (32,))
    monkeypatch.setattr("restora.engine.tune._BASE", 32)
    done = CliRunner().invoke(make_app(), ["tune", "fsrcnn_x2", "--quick", "--threads", "1", "--json"])
    assert done.exit_code == 0, done.output
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [e["event"] for e in events] == ["measured", "chosen"]
    assert events[-1]["backend"] == "torch" and events[-1]["gain"] == 1.0
    assert [r.model for r in engine.records()] == ["fsrcnn_x2.restora x2"]


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_statistics_of_the_whole_picture_reach_a_program(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that pools over the picture is run on tiles by the backend too, with what was gathered."""
    needs(backend)
    net, picture = small("nafnet_tiny"), floats(70, 53)
    wanted, _ = run(NetworkOperator(net), picture, settings=settings("torch", 24))
    ran = []
    session = {"openvino": backends.vino.VinoSession, "onnxruntime": backends.ort.OrtSession}[backend]
    call = session.__call__
    monkeypatch.setattr(session, "__call__", lambda self, *t: ran.append(len(t)) or call(self, *t))
    result, report = run(NetworkOperator(net), picture, settings=settings(backend, 24))
    assert len(ran) == report.tiles > 1 and set(ran) == {1 + 5}  # one statistic a block
    assert np.abs(result - wanted).max() < 1e-4
    whole, _ = run(NetworkOperator(net), picture, settings=settings(backend, 0))
    assert np.abs(result - whole).max() < 0.02


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_pooling_window_is_no_constant_of_a_program(backend: str) -> None:
    """In a picture below the window a network takes the mean of all, above it of a window; programs are traced below."""
    needs(backend)
    net = small("nafnet_tiny", train_size=64)
    assert net.spec.pooling_window == 96
    for size in ((130, 144), (70, 53)):
        picture = floats(*size)
        wanted, _ = run(NetworkOperator(net), picture, settings=settings("torch", 0))
        result, _ = run(NetworkOperator(net), picture, settings=settings(backend, 0))
        assert np.abs(result - wanted).max() < 1e-4


class Deciding(Small):
    """Does something else with large pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = dataclasses.replace(self.spec, pooling_window=96)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + (0.1 if x.shape[-1] > 96 else 0)


def test_a_decision_by_size_is_noticed(tmp_path: Path) -> None:
    net, picture = Deciding(), floats(130, 144)
    wanted, _ = run(NetworkOperator(net), picture, settings=settings("torch", 0))
    needs("openvino")
    result, _ = run(NetworkOperator(net), picture, settings=settings("openvino", 0))
    assert np.abs(result - wanted).max() < 1e-4
    needs("onnxruntime")
    with pytest.raises(EngineError, match="use --backend torch"):
        run(NetworkOperator(net), picture, settings=settings("onnxruntime", 0))
    assert not export_onnx(net, tmp_path / "net.onnx").dynamic


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("scale", [1, 3])
def test_what_is_enlarged_beforehand_is_run_at_any_size(backend: str, scale: int) -> None:
    needs(backend)
    net, picture = small("srrunet", widths=(4, 6, 8, 10), blocks=1), floats(61, 47)
    for tile in (0, 24):
        wanted, _ = run(NetworkOperator(net, scale), picture, settings=settings("torch", tile))
        result, report = run(NetworkOperator(net, scale), picture, settings=settings(backend, tile))
        assert report.backend == backend and 0 < np.abs(result - wanted).max() < 1e-4


@pytest.mark.parametrize(("saturates", "largest"), [(False, 127), (True, 64)])
def test_weights_have_the_bits_that_the_cpu_can_add(
    saturates: bool, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("onnxruntime")
    import onnx

    monkeypatch.setattr(backends.int8, "cpu_saturates_int8", lambda: saturates)
    file = backends.int8.quantised(backends.Call(Small(), {}), 3, 64, 1)
    tensors = [onnx.numpy_helper.to_array(t) for t in onnx.load(file).graph.initializer]
    weights = [t for t in tensors if t.dtype == np.int8 and t.ndim == 4]
    assert len(weights) == 2 and all(np.abs(t.astype(int)).max() == largest for t in weights)
