"""The authors' MATLAB files of FFDNet."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from restora import networks
from restora.errors import MissingExtra, WeightsError
from restora.networks.ffdnet import read_matlab


def write(path: Path, state: dict[str, torch.Tensor]) -> None:
    """The state in MATLAB's layout: cells of weights, filters transposed, sub-pixels numbered by columns."""
    h5py = pytest.importorskip("h5py")
    numbers = sorted({int(key.split(".")[1]) for key in state})
    with h5py.File(path, "w") as file:
        cells = []
        for place, number in enumerate([-1, *numbers]):
            layer = file.create_group(f"#refs#/{place}")
            if number < 0:
                layer["weights"] = [0, 0]
            else:
                weight, bias = state[f"model.{number}.weight"], state[f"model.{number}.bias"]
                if number == numbers[0]:
                    weight = weight[:, [0, 2, 1, 3, 4]]
                if number == numbers[-1]:
                    weight, bias = weight[[0, 2, 1, 3]], bias[[0, 2, 1, 3]]
                file[f"#refs#/w{place}"], file[f"#refs#/b{place}"] = weight.mT.numpy(), bias[None].numpy()
                references = [[file[f"#refs#/w{place}"].ref, file[f"#refs#/b{place}"].ref]]
                layer.create_dataset("weights", data=references, dtype=h5py.ref_dtype)
            cells.append([layer.ref])
        file.create_dataset("net/layers", data=cells, dtype=h5py.ref_dtype)


def test_a_matlab_file_is_read_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = networks.create("ffdnet_gray", depth=4, features=8)
    write(tmp_path / "net.mat", net.state_dict())
    state = read_matlab(tmp_path / "net.mat")
    assert networks.identify(state).config == {"channels": 1, "depth": 4, "features": 8}
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


def test_other_files_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    (tmp_path / "net.mat").write_bytes(b"MATLAB 5.0")
    with pytest.raises(WeightsError, match=r"net\.mat"):
        read_matlab(tmp_path / "net.mat")


def test_without_h5py_the_sentence_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtra, match=r"restora\[matlab\]"):
        read_matlab("net.mat")
