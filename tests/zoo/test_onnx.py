"""Export to ONNX, where its packages are installed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from restora import networks
from restora.errors import MissingExtra
from restora.zoo.onnx import export_onnx


@pytest.mark.parametrize(("variant", "arguments"), [("fsrcnn_x3", {}), ("srcnn", {})])
def test_the_file_equals_torch_at_any_size(variant: str, arguments: dict, tmp_path: Path) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="pip install 'restora[onnx]' to run this check")
    torch.manual_seed(0)
    done = export_onnx(networks.create(variant), tmp_path / "net.onnx", arguments)
    assert done.dynamic and done.difference is not None and done.difference < 1e-5 and done.path.is_file()


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"restora\[onnx\]"):
        export_onnx(networks.create("srcnn"), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
