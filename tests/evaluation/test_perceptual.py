"""LPIPS and DISTS: the arithmetic with weights made here, and where weights come from."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from restora import evaluation
from restora.errors import UsageError, WeightsError
from restora.evaluation import backbones, onnx_weights, perceptual


def random_state(net: nn.Module, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        k: torch.randn(v.shape, generator=generator) * (v[0].numel() ** -0.5 if v.ndim > 1 else 0.1)
        for k, v in net.state_dict().items()
        if not k.endswith(".window")
    }


def heads(name: str) -> dict[str, torch.Tensor]:
    widths = backbones.BACKBONES[name]().channels
    return {f"lin{n}.model.1.weight": torch.rand(1, c, 1, 1) for n, c in enumerate(widths)}


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an AlexNet, its heads and DISTS parameters, all random, in the published layouts."""
    folder = tmp_path / "metrics"
    folder.mkdir()
    classifier = {"classifier.1.weight": torch.zeros(2, 2), "classifier.1.bias": torch.zeros(2)}
    torch.save({**random_state(backbones.alexnet()), **classifier}, folder / "alexnet-owt.pth")
    torch.save(heads("alex"), folder / "v0.1_alex.pth")
    torch.save(heads("alex"), folder / "v0.0_alex.pth")
    torch.save({k: torch.rand(1, 1475, 1, 1) for k in ("alpha", "beta")}, folder / "DISTS.pt")
    monkeypatch.setenv("RESTORA_METRICS", str(folder))
    return folder


def test_lpips(weights: Path, photo: np.ndarray) -> None:
    assert evaluation.lpips(photo, photo) == 0
    noise = np.random.default_rng(0).normal(0, 1, photo.shape)
    values = [evaluation.lpips(np.clip(photo + s * noise, 0, 255).astype(np.uint8), photo) for s in (5, 20, 60)]
    assert 0 < values[0] < values[1] < values[2]
    grey = photo[..., :1]
    assert evaluation.lpips(grey, grey[::-1]) == evaluation.lpips(grey.repeat(3, 2), grey[::-1].repeat(3, 2))
    with pytest.raises(UsageError, match="32"):
        evaluation.lpips(photo[:20], photo[:20])


def test_lpips_by_hand(weights: Path, photo: np.ndarray) -> None:
    """Every step of the paper's equation 1 in plain numpy on the backbone's maps."""
    model = perceptual.lpips_model("alex")
    x, y = (torch.from_numpy(z / 255).float().permute(2, 0, 1)[None] for z in (photo, photo[::-1].copy()))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (backbones.MEAN, backbones.STD))
    total = 0.0
    for a, b, w in zip(model.backbone((x - mean) / std), model.backbone((y - mean) / std), model.heads, strict=True):
        a, b = (z[0].numpy() / np.linalg.norm(z[0].numpy(), axis=0) for z in (a, b))
        total += ((a - b) ** 2 * w[0].numpy()).sum(axis=0).mean()
    assert float(model(x, y)) == pytest.approx(total, rel=1e-4)


def test_what_is_missing_is_named(weights: Path, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match=r"v0.1_vgg.pth.*torchvision.*There is now: alex, dists, lpips-alex"):
        evaluation.lpips(photo, photo, net="vgg")
    with pytest.raises(WeightsError, match="VGG-16"):
        evaluation.dists(photo, photo)
    monkeypatch.delenv("RESTORA_METRICS")
    with pytest.raises(WeightsError, match="There is now: nothing"):
        evaluation.lpips(photo, photo)
    with pytest.raises(UsageError, match="resnet"):
        evaluation.lpips(photo, photo, net="resnet")


def test_import_takes_what_measures_use(
    weights: Path, tmp_path: Path, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = evaluation.lpips(photo, photo[::-1])
    monkeypatch.delenv("RESTORA_METRICS")
    assert evaluation.import_weights(weights / "alexnet-owt.pth", weights / "v0.1_alex.pth") == ["alex", "lpips-alex"]
    assert evaluation.lpips(photo, photo[::-1]) == pytest.approx(expected)
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "other.pth")
    for wrong in (tmp_path / "other.pth", weights / "v0.0_alex.pth"):
        with pytest.raises(WeightsError, match="neither LPIPS heads"):
            evaluation.import_weights(wrong)


def test_dists_arithmetic(photo: np.ndarray) -> None:
    small = backbones.Backbone(
        "tiny", nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), perceptual._SoftPool(4)), (1, 2), (4, 4)
    )
    alpha, beta = torch.rand(1, 11, 1, 1), torch.rand(1, 11, 1, 1)
    model = perceptual.DISTS(small, alpha, beta)
    x = torch.rand(1, 3, 40, 40)
    with torch.no_grad():
        assert float(model(x, x)) == pytest.approx(0, abs=1e-5)
        assert float(model(x, 1 - x)) > float(model(x, x.flip(-1))) > 0
        # the soft pool of a constant is the constant, away from the border
        flat = perceptual._SoftPool(2)(torch.full((1, 2, 9, 9), 0.7))
        assert torch.allclose(flat[..., 1:-1, 1:-1], torch.tensor(0.7))


def test_backbones_have_torchvisions_layout() -> None:
    counts = {name: sum(p.numel() for p in build().parameters()) for name, build in backbones.BACKBONES.items()}
    assert counts == {"squeeze": 722_496, "alex": 2_469_696, "vgg": 14_714_688}  # their published feature parts
    assert "features.3.squeeze.weight" in backbones.squeezenet().state_dict()
    assert "features.28.weight" in backbones.vgg16(perceptual._SoftPool).state_dict()
    x = torch.rand(1, 3, 64, 64)
    for build in backbones.BACKBONES.values():
        net = build()
        assert tuple(m.shape[1] for m in net(x)) == net.channels
        assert backbones.identify(net.state_dict()) == net.name


def onnx_file(tensors: dict[str, np.ndarray]) -> bytes:
    """An ONNX model with nothing but initialisers."""

    def number(n: int) -> bytes:
        out = b""
        while n > 127:
            out, n = out + bytes([n & 127 | 128]), n >> 7
        return out + bytes([n])

    def chunk(key: int, data: bytes) -> bytes:
        return number(key << 3 | 2) + number(len(data)) + data

    graph = b""
    for name, t in tensors.items():
        kind = {"float32": 1, "float16": 10}[t.dtype.name]
        dims = b"".join(number(1 << 3) + number(n) for n in t.shape)
        graph += chunk(5, dims + number(2 << 3) + number(kind) + chunk(8, name.encode()) + chunk(9, t.tobytes()))
    return number(1 << 3) + number(7) + chunk(7, graph) + number(9 << 3 | 5) + struct.pack("<f", 1.0)


def caffe_squeezenet() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    net = backbones.squeezenet()
    tensors = {}
    for key, value in net.state_dict().items():
        _, place, *part, kind = key.split(".")
        fire = {3: 2, 4: 3, 6: 4, 7: 5, 9: 6, 10: 7, 11: 8, 12: 9}.get(int(place))
        layer = "conv1" if fire is None else f"fire{fire}/{part[0].replace('squeeze', 'squeeze1x1')}"
        tensors[f"{layer}_{kind[0]}_0"] = (rng.normal(0, 0.1, value.shape)).astype(np.float16)
    return tensors


def test_squeezenet_from_onnx(tmp_path: Path) -> None:
    tensors = caffe_squeezenet()
    path = tmp_path / "squeezenet.onnx"
    path.write_bytes(onnx_file(tensors))
    read = onnx_weights.read_initialisers(path)
    assert read.keys() == tensors.keys() and all(np.array_equal(read[k], tensors[k]) for k in read)

    assert evaluation.import_weights(path) == ["squeeze"]
    state = perceptual.from_caffe(path)
    net = backbones.load(backbones.squeezenet(), state)
    # its first layer, fed with normalised RGB, gives what Caffe's gives on BGR of 0 to 255 minus the mean colour
    rgb = torch.rand(1, 3, 40, 40)
    caffe = (255 * rgb - torch.tensor([123.68, 116.78, 103.94]).view(1, 3, 1, 1)).flip(1)
    expected = torch.nn.functional.conv2d(
        caffe,
        torch.from_numpy(tensors["conv1_w_0"].astype(np.float32)),
        torch.from_numpy(tensors["conv1_b_0"].astype(np.float32)),
        2,
    )
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (backbones.MEAN, backbones.STD))
    assert torch.allclose(net.features[0]((rgb - mean) / std), expected, atol=1e-2, rtol=1e-4)


def test_broken_onnx_files_are_refused(tmp_path: Path) -> None:
    whole = onnx_file({"a": np.ones((2, 3), np.float32)})
    for number, content in enumerate((whole[:-20], b"\xff" * 40, b"PK\x03\x04 no model")):
        path = tmp_path / f"{number}.onnx"
        path.write_bytes(content)
        with pytest.raises(WeightsError):
            onnx_weights.read_initialisers(path)
    other = tmp_path / "other.onnx"
    other.write_bytes(whole)
    with pytest.raises(WeightsError, match="SqueezeNet"):
        evaluation.import_weights(other)
