"""Chains of restorers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import restora
from restora.engine import Settings
from restora.errors import UsageError
from restora.restorers import Chain, Enhancer
from restora.restorers.upscale import Source
from tests.restorers.test_enhance import Dimmer

COLOUR = np.array([200, 210, 220])


@pytest.fixture
def chain() -> Chain:
    def dimmer() -> Enhancer:
        return Enhancer("dimmer", Source("dimmer", "0" * 64, Dimmer), Settings(device="cpu"))

    return Chain([("denoise", dimmer()), ("upscale", restora.load("bicubic")), ("denoise", dimmer())])


def test_steps_follow_each_other_with_their_own_controls(chain: Chain) -> None:
    array = np.full((6, 8, 3), COLOUR, np.uint8)
    seen: list[float] = []
    result = chain(
        array,
        **{"denoise.sigma": 10, "upscale.scale": 2, "denoise2.sigma": 30},
        progress=lambda p: seen.append(p.done / p.total),
    )
    assert result.array.shape == (12, 16, 3) and result.array.dtype == np.uint8
    assert (result.array == COLOUR - 40).all()
    assert result.report.scale == 2 and result.report.controls["denoise2.sigma"] == 30
    assert seen == sorted(seen) and seen[-1] == 1


def test_no_rounding_between_the_steps(chain: Chain) -> None:
    array = np.full((6, 8, 3), COLOUR, np.uint8)
    controls = {"denoise.sigma": 0.4, "upscale.scale": 1, "denoise2.sigma": 0.4}
    assert (chain(array, **controls).array == COLOUR - 1).all()  # 0.8 less; rounded at each step it would be as before


def test_depth_and_transparency_return(chain: Chain) -> None:
    rgba = np.random.default_rng(0).integers(60, 256, (6, 8, 4), dtype=np.uint8)
    result = chain(rgba, **{"denoise.sigma": 0, "upscale.scale": 1, "denoise2.sigma": 0}).array
    assert result.dtype == np.uint8 and np.array_equal(result, rgba)


def test_wrong_controls_are_named(chain: Chain) -> None:
    with pytest.raises(UsageError, match="sharpness"):
        chain(np.zeros((4, 4, 3), np.uint8), **{"denoise.sigma": 1, "denoise2.sigma": 1, "denoise.sharpness": 2})
    with pytest.raises(UsageError, match="at least one"):
        Chain([])


def test_a_job_of_a_chain(chain: Chain, tmp_path: Path) -> None:
    from restora import jobs
    from restora.io import Picture

    Picture.from_array(np.full((6, 8, 3), 200, np.uint8)).save(tmp_path / "a.png")
    items = jobs.assign(jobs.expand([str(tmp_path / "a.png")]), tmp_path / "out", "", "auto")
    controls = {"denoise.sigma": 10, "upscale.scale": 2, "denoise2.sigma": 30}
    summary = jobs.run_job(chain, items, jobs.Output(tmp_path / "out"), controls, lambda *_: None)
    assert summary.done and jobs.estimate(chain, items, controls)[0].output_size == (12, 16)
