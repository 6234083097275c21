"""Checkpoints of other programs: ncnn files, and what only spandrel knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import restora
from restora import networks, zoo
from restora.errors import UnknownArchitecture, WeightsError
from restora.zoo.ncnn import read_ncnn


def write_ncnn(folder: Path, state: dict[str, torch.Tensor], half: bool) -> Path:
    """A network of convolutions and PReLUs as ncnn files."""
    lines, data = [], b""
    for key, value in state.items():
        if key.endswith("weight") and value.ndim == 4:
            maps, _, side, _ = value.shape
            lines.append(f"Convolution conv 1 1 a b 0={maps} 1={side} 4=1 5=1 6={value.numel()}")
            raw = value.numpy().astype(np.float16 if half else np.float32).tobytes()
            data += (0x01306B47 if half else 0).to_bytes(4, "little") + raw + b"\0" * (-len(raw) % 4)
        else:
            data += value.numpy().astype(np.float32).tobytes()
            if value.ndim == 1 and key.endswith("weight"):
                lines.append(f"PReLU relu 1 1 a b 0={len(value)}")
    path = folder / "net_x4.param"
    path.write_text(
        "\n".join(["7767517", f"{len(lines) + 2} 9", "Input in 0 1 data", *lines, "PixelShuffle up 1 1 a b 0=4"]) + "\n"
    )
    path.with_suffix(".bin").write_bytes(data)
    return path


@pytest.mark.parametrize("half", [True, False])
def test_an_ncnn_pair_is_identified_and_runs(tmp_path: Path, half: bool) -> None:
    torch.manual_seed(0)
    net = networks.create("srvgg_anime_x4")
    path = write_ncnn(tmp_path, net.state_dict(), half)
    read = read_ncnn(path)
    assert all(torch.allclose(read[k], v, atol=1e-3 if half else 0) for k, v in net.state_dict().items())
    restorer = restora.load(path.with_suffix(".bin"))
    assert restorer(np.zeros((8, 8, 3), np.uint8)).array.shape == (32, 32, 3)


def test_damaged_ncnn_files_are_refused(tmp_path: Path) -> None:
    path = write_ncnn(tmp_path, networks.create("srvgg_anime_x4").state_dict(), half=True)
    whole = path.with_suffix(".bin").read_bytes()
    for content in (whole[:-5], whole + b"1234", b"\1\2\3\4" + whole[4:]):
        path.with_suffix(".bin").write_bytes(content)
        with pytest.raises(WeightsError):
            read_ncnn(path)
    path.with_suffix(".bin").unlink()
    with pytest.raises(WeightsError, match="two files"):
        read_ncnn(path)
    path.write_text("7767517\n1 1\nLSTM l 1 1 a b 0=3\n")
    path.with_suffix(".bin").write_bytes(b"")
    with pytest.raises(UnknownArchitecture, match="LSTM"):
        read_ncnn(path)


def test_what_only_spandrel_knows_goes_over_the_bridge(tmp_path: Path) -> None:
    import importlib.util

    if importlib.util.find_spec("spandrel") is None:
        pytest.skip("pip install 'restora[spandrel]' to run this check")
    from restora.zoo.spandrel_bridge import _import_spandrel

    _import_spandrel()
    from spandrel.architectures.SPAN import SPAN

    torch.manual_seed(0)
    theirs = SPAN(num_in_ch=3, num_out_ch=3, feature_channels=16, upscale=2).eval()
    torch.save(theirs.state_dict(), tmp_path / "span.pth")
    restorer = restora.load(tmp_path / "span.pth", device="cpu", tile=0)
    x = torch.rand(1, 3, 12, 16)
    with torch.no_grad():
        expected = theirs(x)
        assert torch.allclose(restorer(x).tensor, expected, atol=1e-4 * float(expected.abs().max()))
    torch.save({"nobody.weight": torch.zeros(3)}, tmp_path / "nobody.pth")
    with pytest.raises(UnknownArchitecture):
        restora.load(tmp_path / "nobody.pth")


@pytest.mark.slow
def test_published_imdn_gives_the_papers_score(data_folder: Path) -> None:
    from restora.evaluation import measure

    score = measure(
        restora.load(data_folder / "weights/imdn/IMDN_x4.pth", tile=0), data_folder / "bench/Set5", "sr-y", 4
    )
    assert score.psnr == pytest.approx(32.21, abs=0.02)


def test_a_folder_of_modules_is_one_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = networks.create("dmphn_1_2_4")
    for name, module in net.named_children():
        torch.save({f"module.{k}": v for k, v in module.state_dict().items()}, tmp_path / f"{name}.pkl")
    loaded, variant = zoo.identify_file(tmp_path)
    assert variant == "dmphn_1_2_4"
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in loaded.state_dict().items())
    assert zoo.import_model(tmp_path, "mine").variant == "dmphn_1_2_4"
    assert restora.load(str(tmp_path), task="deblur").task == "deblur"
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="no weight files"):
        zoo.identify_file(tmp_path / "empty")
