"""Distillation: what the teacher answers is learned, at the scales that it has."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from restora import networks, zoo
from restora.errors import RecipeError
from restora.training import Trainer
from restora.training.batch import Batch
from tests.training.test_trainer import Make

THIN = {"variant": "carn_m", "config": {"channels": 8, "blocks": 1, "units": 1}}


def distilled(tiny: Make, teacher: str, scale: int | list[int] = 2, **changes: object) -> Trainer:
    options = {"teacher": teacher, **changes}
    return tiny(
        network=THIN,
        task={"kind": "sr", "scale": scale},
        optimiser={"lr": 0.003},
        procedure="distilled",
        options=options,
    )


def batch_of(scale: int) -> Batch:
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    target = torch.rand(2, 3, 16 * scale, 16 * scale, generator=torch.Generator().manual_seed(2))
    return Batch(x, target, scale)


def test_the_terms_are_those_of_the_equation_at_the_scales_of_the_teacher(tiny: Make) -> None:
    procedure = distilled(tiny, "span_x4", [2, 4], weight=0.5).procedure
    batch = batch_of(4)
    terms = procedure.loss(batch, 0)
    answer = zoo.load_network(zoo.find("span_x4"))(batch.input)
    output = procedure.predict(batch)
    assert set(terms) == {"l1", "teacher.l1"}
    assert terms["l1"].item() == pytest.approx((output - batch.target).abs().mean().item(), rel=1e-5)
    assert terms["teacher.l1"].item() == pytest.approx(0.5 * (output - answer).abs().mean().item(), rel=1e-5)
    assert set(procedure.loss(batch_of(2), 0)) == {"l1"}


def test_the_teacher_stays_as_it_is_and_the_pupil_does_not(tiny: Make) -> None:
    trainer = distilled(tiny, "span_x4", 4)
    teacher = trainer.procedure.teacher  # type: ignore[attr-defined]
    before = [t.clone() for t in teacher.state_dict().values()]
    first = [t.clone() for t in trainer.modules["net"].state_dict().values()]
    trainer.run()
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.state_dict().values(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first, trainer.modules["net"].state_dict().values(), strict=True))
    assert "teacher" not in trainer.modules


def test_a_file_is_a_teacher_too(tiny: Make, tmp_path: Path) -> None:
    luminance, path = tmp_path / "luminance_x2.pth", tmp_path / "big.pth"
    torch.save(networks.create("fsrcnn_s_x2").state_dict(), luminance)
    with pytest.raises(RecipeError, match="different kinds of pictures"):
        distilled(tiny, str(luminance))
    torch.save(networks.create("edsr_baseline_x2").state_dict(), path)
    assert "teacher.l1" in distilled(tiny, str(path)).procedure.loss(batch_of(2), 0)


def test_teachers_that_cannot_teach_are_refused_with_a_sentence(tiny: Make) -> None:
    with pytest.raises(RecipeError, match="none of the scales"):
        distilled(tiny, "span_x4", 2)
    with pytest.raises(RecipeError, match="The recipe's teacher 'nobody' cannot be had"):
        distilled(tiny, "nobody")
