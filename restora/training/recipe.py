"""A recipe: one typed YAML file that says everything about how a network is trained.

Unknown keys are refused, so a typing error cannot silently train something else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from restora.errors import RecipeError


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Network(_Part):
    """Which network, and where its first weights come from."""

    variant: str
    init_from: str | None = Field(
        None, description="name of another run in the same folder; tensors of equal name and shape are taken over"
    )
    reinitialise: list[str] = Field([], description="key prefixes that keep their fresh initialisation all the same")


class Data(_Part):
    """How crops are drawn from the training photographs."""

    patch: int = Field(24, ge=8, description="side of a training patch in low-resolution pixels")
    batch: int = Field(16, ge=1)
    rescale: list[float] = Field([1.0], description="every photograph is also used reduced by these factors")
    colour: Literal["rgb", "luma"] = "rgb"


class Degradation(_Part):
    """The forward model that makes the input from the clean crop."""

    kind: Literal["bicubic"] = "bicubic"
    scale: int = Field(ge=1)
    quantise: bool = Field(True, description="round the low-resolution picture to 8 bits, as files are")


class Optimiser(_Part):
    lr: float = Field(1e-3, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float | None = Field(None, description="largest norm of the gradient")
    lr_factors: dict[str, float] = Field({}, description="key prefix -> factor on the learning rate")


class Schedule(_Part):
    """Learning rate over the steps: linear warm-up, then cosine down to `final` times the start."""

    warmup: int = Field(0, ge=0)
    final: float = Field(0.001, ge=0, le=1)


class Validation(_Part):
    every: int = Field(2000, ge=1)
    protocol: str = "sr-y"


class Recipe(_Part):
    """Everything that a training run depends on, but for the machine and the place of the photographs."""

    name: str
    description: str = ""
    network: Network
    data: Data = Data()
    degradation: Degradation
    loss: Literal["l1", "l2", "charbonnier"] = "l1"
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    steps: int = Field(ge=1)
    ema: float = Field(0.999, ge=0, lt=1)
    seed: int = 0
    validation: Validation = Validation()

    @model_validator(mode="after")
    def _sensible(self) -> Recipe:
        if self.schedule.warmup >= self.steps:
            raise ValueError(f"a warm-up of {self.schedule.warmup} steps leaves nothing of {self.steps}")
        if any(not 0 < f <= 1 for f in self.data.rescale):
            raise ValueError("rescale factors lie in (0, 1]")
        return self


def load_recipe(path: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Reads a recipe and applies overrides such as ``optimiser.lr=0.0005``.

    Raises:
        RecipeError: no such file, no YAML, an unknown key or an impossible value; the sentence names the key.
    """
    path = Path(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"The recipe '{path}' cannot be read: {error.strerror or error}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"The recipe '{path}' is no valid YAML: {str(error).splitlines()[0]}.") from error
    if not isinstance(raw, dict):
        raise RecipeError(f"The recipe '{path}' holds no keys.")
    for override in overrides or []:
        _override(raw, override)
    return parse_recipe(raw, str(path))


def parse_recipe(raw: dict[str, Any], where: str = "recipe") -> Recipe:
    """A recipe from plain data; raises RecipeError as `load_recipe` does."""
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'recipe'}: {e['msg']}" for e in error.errors()[:4])
        raise RecipeError(f"The recipe '{where}' is invalid: {problems}.") from error


def _override(raw: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals:
        raise RecipeError(f"An override has the form key=value, for example optimiser.lr=0.0005, not '{override}'.")
    *parents, last = key.split(".")
    node = raw
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise RecipeError(f"The override '{override}' goes through '{parent}', which is no group of keys.")
    node[last] = yaml.safe_load(value)


def find_recipe(name: str) -> Path:
    """The path of a recipe: a file, or the name of one that is bundled.

    Raises:
        RecipeError: neither; the sentence lists the bundled ones.
    """
    bundled = Path(__file__).parent / "recipes"
    for path in (Path(name), bundled / f"{name}.yaml"):
        if path.is_file():
            return path
    raise RecipeError(
        f"There is no recipe '{name}'; bundled ones are {', '.join(sorted(p.stem for p in bundled.glob('*.yaml')))}."
    )


def seconds(text: str) -> float:
    """A time limit such as ``90s``, ``25m`` or ``2h`` in seconds.

    >>> seconds("25m")
    1500.0

    Raises:
        RecipeError: another form.
    """
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = text[:-1], text[-1:]
    try:
        return float(number) * units[unit]
    except (ValueError, KeyError) as error:
        raise RecipeError(f"A time limit has the form 90s, 25m or 2h, not '{text}'.") from error
