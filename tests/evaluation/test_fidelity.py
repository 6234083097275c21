"""Fidelity: nothing bundled shifts colours, draws patterns or seams, or stumbles over odd pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import restora
from restora import zoo
from restora.engine import Settings
from restora.errors import UsageError
from restora.evaluation import fidelity
from restora.restorers import Restorer
from tests.conftest import make_photo
from tests.restorers.test_enhance import Dimmer

BUNDLED = [card.name for card in zoo.list_models(bundled=True)]


@pytest.fixture(scope="module")
def loaded() -> dict[str, Restorer]:
    return {}


def get(loaded: dict[str, Restorer], name: str) -> tuple[Restorer, dict[str, Any]]:
    if name not in loaded:
        loaded[name] = restora.load(name, device="cpu", precision="float32")
    return loaded[name], fidelity.settings_of(loaded[name])


@pytest.mark.parametrize("name", BUNDLED)
def test_hard_pictures_come_back_whole_and_in_their_colours(loaded: dict[str, Restorer], name: str) -> None:
    restorer, given = get(loaded, name)
    found = [fidelity.examine(restorer, kind, x, **given) for kind, x in fidelity.hard_pictures(48).items()]
    if restorer.task == "deconvolve":  # a kernel larger than the picture is refused with a sentence
        found = [f for f in found if "larger than the picture" not in f.problem]
    assert all(f.faithful for f in found), [f for f in found if not f.faithful]


@pytest.mark.parametrize("name", BUNDLED)
def test_photographs_keep_their_mean_and_show_no_seams(loaded: dict[str, Restorer], name: str) -> None:
    restorer, given = get(loaded, name)
    photo = make_photo(80, 96, 3)
    assert fidelity.examine(restorer, "photo", photo, **given).faithful
    most, mean = fidelity.seam(restorer, photo, 40, **given)
    if zoo.load_network(zoo.find(name)).spec.tiling.kind == "global":
        assert mean < fidelity.SEAM
    else:
        assert most <= fidelity.SEAM


@pytest.mark.parametrize("period", [2, 4, 8])
def test_a_faint_grid_is_told_from_texture(period: int) -> None:
    photo = make_photo(192, 256, 3)
    y, x = np.mgrid[:192, :256]
    grid = np.where((y % period == 0) & (x % period == 0), 4, 0)[..., None]
    clean, gridded = fidelity.repeated(photo), fidelity.repeated((photo.clip(0, 250) + grid).astype(np.uint8))
    assert gridded == pytest.approx(np.hypot(clean, grid.std()), rel=0.1)
    with pytest.raises(UsageError, match="64 pixels"):
        fidelity.repeated(photo[:60])


def test_what_is_unfaithful_is_told() -> None:
    from restora.restorers import Enhancer
    from restora.restorers.upscale import Source

    dimmer = Enhancer("dimmer", Source("dimmer", "0" * 64, Dimmer), Settings(device="cpu"))
    grey = fidelity.hard_pictures()["grey"]
    assert not fidelity.examine(dimmer, "grey", grey, sigma=30).faithful
    assert fidelity.examine(dimmer, "grey", grey, sigma=0).faithful
    assert "sigma" in fidelity.examine(dimmer, "grey", grey).problem
    noisy = np.random.default_rng(0).normal(128, 3, (64, 64, 1)).clip(0, 255).astype(np.uint8)
    pattern = fidelity.examine(dimmer, "grey", np.repeat(noisy, 3, 2), sigma=0)
    assert pattern.grid > fidelity.GRID and not pattern.faithful
