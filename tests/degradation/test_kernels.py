"""Kernels: what each generator promises, checking, mending, reading."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from restora.degradation import kernels
from restora.errors import MissingExtra, UsageError

MAKERS = {
    "gaussian": lambda a, b: kernels.gaussian(a),
    "gaussian-sized": lambda a, b: kernels.gaussian(a, 21),
    "anisotropic": lambda a, b: kernels.anisotropic(a, b, 40 * b, 25),
    "generalised": lambda a, b: kernels.anisotropic(a, b, 40 * b, 25, shape=0.5 + b),
    "plateau": lambda a, b: kernels.plateau(a, b, 10.0, 25, 1.5),
    "disk": lambda a, b: kernels.disk(a),
    "motion": lambda a, b: kernels.motion(1 + 5 * a, 60 * b),
    "trajectory": lambda a, b: kernels.trajectory(2 * int(5 * a) + 3, int(1000 * b), shake=a, exposure=(b + 0.1) / 5),
}


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=15, deadline=None)
@given(a=st.floats(0, 4), b=st.floats(0, 4))
def test_every_generator_makes_good_kernels(name: str, a: float, b: float) -> None:
    kernel = MAKERS[name](a, b)
    assert kernels.problems(kernel) == []
    assert kernel.dtype == torch.float32 and abs(float(kernel.sum()) - 1) < 1e-5
    assert torch.equal(kernel, MAKERS[name](a, b))


def spread(kernel: torch.Tensor) -> tuple[float, float, float]:
    """Variances along x and y, and covariance."""
    k = kernel.double()
    y, x = (torch.arange(n, dtype=torch.float64) - n // 2 for n in k.shape)
    return float((k.sum(0) * x**2).sum()), float((k.sum(1) * y**2).sum()), float((k * y[:, None] * x).sum())


def test_widths_and_directions() -> None:
    assert spread(kernels.gaussian(2, 31))[0] == pytest.approx(4, rel=1e-3)
    x, y, xy = spread(kernels.anisotropic(3, 1, 0, 41))
    assert x == pytest.approx(9, rel=1e-2) and y == pytest.approx(1, rel=1e-2) and abs(xy) < 1e-9
    assert spread(kernels.anisotropic(3, 1, 45, 41))[2] > 3, "a positive angle turns from x towards y"
    x, y, _ = spread(kernels.motion(21, 0))
    assert x == pytest.approx(20**2 / 12, rel=0.05) and y < 0.01
    assert spread(kernels.motion(21, 30))[2] > 5
    assert spread(kernels.disk(6))[0] == pytest.approx(36 / 4, rel=0.03)
    assert torch.equal(kernels.gaussian(0, 5), kernels.disk(0, 5))
    assert float(
        kernels.motion(1)[0, 0] if kernels.motion(1).numel() == 1 else kernels.motion(1).max()
    ) == pytest.approx(1)


def test_trajectories_differ_by_seed_and_fit() -> None:
    many = [kernels.trajectory(31, s) for s in range(20)]
    assert len({k.numpy().tobytes() for k in many}) == 20
    assert all(k.shape == (31, 31) for k in many)
    assert np.median([int((k > 1e-4).sum()) for k in many]) > 15, "a path, not a point"


def test_ringing_kernel() -> None:
    k = kernels.sinc(1.5, 21)
    assert float(k.sum()) == pytest.approx(1, abs=1e-5) and float(k.min()) < 0
    assert "negative" in " ".join(kernels.problems(k))


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 12), width=st.integers(1, 12), seed=st.integers(0, 1000))
def test_repair_mends_everything(height: int, width: int, seed: int) -> None:
    k = torch.randn(height, width, generator=torch.Generator().manual_seed(seed))
    k[0, 0] = float("nan") if seed % 3 == 0 else 1.0
    k[-1, -1] = 5.0
    mended = kernels.repair(k)
    assert kernels.problems(mended) == []
    assert torch.equal(kernels.repair(mended), mended) or torch.allclose(kernels.repair(mended), mended, atol=1e-7)


def test_repair_moves_the_weight_to_the_centre() -> None:
    k = torch.zeros(7, 7)
    k[0, 0] = 2.0
    mended = kernels.repair(k)
    assert mended.shape == (7, 7) and float(mended[3, 3]) == 1
    assert kernels.problems(torch.roll(kernels.gaussian(1, 11), 3, 0)) == [
        "The kernel's weight is not centred: it would shift the picture."
    ]


@pytest.mark.parametrize(
    "call",
    [
        lambda: kernels.gaussian(-1),
        lambda: kernels.gaussian(1, 4),
        lambda: kernels.motion(0.5),
        lambda: kernels.disk(-1),
        lambda: kernels.sinc(4.0),
        lambda: kernels.trajectory(exposure=0),
        lambda: kernels.check(torch.ones(3)),
        lambda: kernels.check(torch.full((3, 3), float("inf"))),
        lambda: kernels.repair(torch.zeros(3, 3)),
        lambda: kernels.load("no such file.npy"),
    ],
)
def test_refusals(call: object) -> None:
    with pytest.raises(UsageError):
        call()  # type: ignore[operator]


def test_files(tmp_path: Path) -> None:
    k = kernels.trajectory(15, 1)
    np.save(tmp_path / "k.npy", k.numpy())
    np.savetxt(tmp_path / "k.txt", k.numpy())
    np.savetxt(tmp_path / "k.csv", k.numpy() * 7, delimiter=",")
    for name in ("k.npy", "k.txt", "k.csv"):
        assert torch.allclose(kernels.load(tmp_path / name), k, atol=1e-6), name
    np.save(tmp_path / "many.npy", np.stack([k.numpy(), k.numpy()[::-1]]))
    assert torch.allclose(kernels.load(tmp_path / "many.npy", 1), k.flip(0), atol=1e-6)
    with pytest.raises(UsageError, match="holds 2 kernels"):
        kernels.load(tmp_path / "many.npy")
    with pytest.raises(UsageError, match="no number 5"):
        kernels.load(tmp_path / "many.npy", 5)
    np.save(tmp_path / "even.npy", np.ones((4, 5)))
    assert kernels.load(tmp_path / "even.npy").shape == (5, 5)


def test_pictures_as_kernels(tmp_path: Path) -> None:
    from restora.io import Picture

    k = kernels.disk(4)
    Picture.from_array((k / k.max() * 255).round().to(torch.uint8).numpy()).save(tmp_path / "k.png")
    assert torch.allclose(kernels.load(tmp_path / "k.png"), k, atol=1e-3)


@pytest.mark.parametrize("compressed", [False, True])
def test_matlab_files(tmp_path: Path, compressed: bool) -> None:
    cells = np.empty((1, 2), object)
    cells[0, 0], cells[0, 1] = kernels.gaussian(1, 9).numpy().astype(np.float64), kernels.motion(9, 30).numpy()
    stack = np.random.default_rng(0).random((5, 7, 3)).astype(np.float32)
    scipy.io.savemat(tmp_path / "cells.mat", {"kernels": cells, "note": "text", "n": 3}, do_compression=compressed)
    scipy.io.savemat(tmp_path / "stack.mat", {"k": stack}, do_compression=compressed)
    first, second = kernels.load_all(tmp_path / "cells.mat")
    assert torch.allclose(first, kernels.gaussian(1, 9), atol=1e-7) and torch.allclose(
        second, kernels.motion(9, 30), atol=1e-7
    )
    loaded = kernels.load_all(tmp_path / "stack.mat")
    assert len(loaded) == 3 and loaded[0].shape == (5, 7)
    assert np.allclose(loaded[2], stack[..., 2] / stack[..., 2].sum(), atol=1e-6)


def test_damaged_kernel_files(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "k.mat", {"k": np.ones((9, 9))})
    data = (tmp_path / "k.mat").read_bytes()
    for name, content in (
        ("short.mat", data[: len(data) // 2]),
        ("no.mat", b"hello"),
        ("no.npy", b"hello"),
        ("no.txt", b"a b c"),
        ("empty.txt", b""),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError):
            kernels.load(tmp_path / name)
    np.save(tmp_path / "nan.npy", np.full((3, 3), np.nan))
    with pytest.raises(UsageError, match="not finite"):
        kernels.load(tmp_path / "nan.npy")


def test_matlab_7_3_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    (tmp_path / "k.mat").write_bytes(b"MATLAB 7.3 MAT-file" + bytes(600))
    with pytest.raises(MissingExtra, match="h5py"):
        kernels.load(tmp_path / "k.mat")


def test_published_kernel_files(data_folder: Path) -> None:
    twelve = kernels.load_all(data_folder / "kernels" / "kernels_12.mat")
    assert len(twelve) == 12 and all(k.shape == (25, 25) and not kernels.problems(k, centred=False) for k in twelve)
    for file in sorted((data_folder / "bench" / "levin" / "kernels").glob("*.npy")):
        assert not kernels.problems(kernels.load(file), centred=False), file.name
