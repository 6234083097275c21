"""Published weights and baselines on the real benchmarks: our bench gives the measured scores. Needs RESTORA_DATA, the folder
with `bench/` and `weights/`; the conformance folder with `published.json` lies beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from restora import evaluation, networks
from restora.evaluation import inputs, open_test_set, protocol
from restora.evaluation.why import explain

# Where the weights of a published entry lie under `weights/`, and the variant that they need.
WEIGHTS = {
    "carn_m": ("carn/carn_m.pth", "carn_m"),
    "pcarn_m_l1": ("pcarn/PCARN-M-L1.pth", "pcarn_m"),
    "pcarn_m_gan": ("pcarn/PCARN-M.pth", "pcarn_m"),
}
SETS = ("Set5", "Set14", "BSD100")


def published(folder: Path) -> list[dict[str, Any]]:
    path = folder.resolve().parent / "conformance" / "published.json"
    if not path.is_file():
        pytest.skip(f"no {path.name} beside RESTORA_DATA")
    return json.loads(path.read_text())["results"]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["bicubic", *WEIGHTS])
def test_published_scores(model: str, data_folder: Path) -> None:
    """Within 0.02 dB and 0.0005, the mean and every image."""
    checked = 0
    for entry in published(data_folder):
        folder, scale = data_folder / "bench" / entry["dataset"], entry.get("scale")
        if entry["model"] != model or entry["dataset"] not in SETS or not (folder / f"HRx{scale}").is_dir():
            continue
        source = [] if model == "bicubic" else [data_folder / "weights" / WEIGHTS[model][0]]
        if source and WEIGHTS[model][1] not in networks.variants():
            pytest.skip(f"the network {WEIGHTS[model][1]} is not here yet")
        result = evaluation.bench(source, folder, "sr-y", scale, why=True)
        row = result.rows[-1] if source else result.row("bicubic")
        assert not row.error, row.error
        rounded = row.under(next(p for p in row.scores[0].nearby if p.startswith("Y rounded")))
        mean = entry["mean"]
        assert row.mean("psnr") == pytest.approx(mean["psnr_y"], abs=0.02)
        assert row.mean("ssim") == pytest.approx(mean["ssim_y"], abs=0.0005)
        assert rounded == pytest.approx((mean["psnr_y_rounded"], mean["ssim_y_rounded"]), abs=0.02)
        if "psnr_y_floor" in mean:
            floor = row.under("the result truncated to 8 bits instead of rounded")
            assert floor is not None and floor[0] == pytest.approx(mean["psnr_y_floor"], abs=0.02)
        worst = max(abs(s.psnr - i["psnr_y"]) for s, i in zip(row.scores, entry["images"], strict=True))
        print(  # noqa: T201 - the figures, for those who run this with -s
            f"{model} x{scale} {entry['dataset']}: {row.mean('psnr'):.5f} {row.mean('ssim'):.5f}, published "
            f"{mean['psnr_y']:.5f} {mean['ssim_y']:.5f}, worst image {worst:.5f} dB"
        )
        assert worst < 0.02
        checked += 1
    assert checked


@pytest.mark.slow
def test_published_scores_of_denoising(data_folder: Path) -> None:
    """DnCNN (sigma 25) on Set12: the noise recipe, the restorer and the protocol together."""
    weights = data_folder / "weights" / "kair" / "dncnn_25.pth"
    if "dncnn_gray" not in networks.variants():
        pytest.skip("the network dncnn_gray is not here yet")
    entry = next(e for e in published(data_folder) if e["model"] == "dncnn_25" and e["dataset"] == "Set12")
    row = evaluation.bench([weights], data_folder / "bench" / "Set12", "denoise-gray", sigma=25).rows[-1]
    assert not row.error, row.error
    assert row.mean("psnr") == pytest.approx(entry["mean"]["psnr"], abs=0.02)
    assert row.mean("ssim") == pytest.approx(entry["mean"]["ssim"], abs=0.0005)
    for score, image in zip(row.scores, entry["images"], strict=True):
        assert score.psnr == pytest.approx(image["psnr"], abs=0.02), score.image


def test_why_explains_the_bicubic_row_of_the_papers(data_folder: Path) -> None:
    result = evaluation.bench([], data_folder / "bench" / "Set5", "sr-y", 4, why=True)
    row = result.row("bicubic")
    assert (round(row.mean("psnr") or 0, 2), round(row.mean("ssim") or 0, 4)) == (28.43, 0.8113)
    for ssim in (None, 0.8104):
        explanation = explain(result, row, 28.42, ssim)
        assert "is what this gives: Y rounded to whole numbers" in explanation.verdict


def test_noise_is_that_of_the_published_scores(data_folder: Path) -> None:
    sets = {e["dataset"]: e for e in published(data_folder) if e["task"] != "super-resolution"}
    for name, rules in (("Set12", protocol("denoise-gray")), ("CBSD68", protocol("denoise-rgb"))):
        expected = {i["image"]: i["psnr_noisy_unclipped"] for i in sets[name]["images"]}
        for pair in open_test_set(data_folder / "bench" / name, rules).pairs[:12]:
            noisy, clean, _ = inputs.pictures(pair, rules, inputs.Recipe("denoise", sigma=25))
            value = 10 * np.log10(1 / np.mean((noisy.astype(np.float64) - clean / 255) ** 2))
            assert value == pytest.approx(expected[pair.name], abs=1e-3)
