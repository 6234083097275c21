"""A recipe: one typed YAML file that says everything about how a network is trained.

Unknown keys are refused, so a typing error cannot silently train something else. A recipe inherits nothing from another
one; what it does not say has the default that stands here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from restora.errors import RecipeError, RestoraError


class Part(BaseModel):
    """Base of all groups of keys: typed, closed, unchangeable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Network(Part):
    """Which network, and where its first weights come from."""

    variant: str
    config: dict[str, Any] = Field({}, description="constructor arguments that differ from the variant's")
    init_from: str | None = Field(
        None,
        description="another run in the same folder, a model's name, or a checkpoint file; tensors of equal name and shape are "
        "taken over",
    )
    reinitialise: list[str] = Field([], description="key prefixes that keep their fresh initialisation all the same")
    freeze: dict[str, int | None] = Field(
        {},
        description="key prefix -> number of steps during which it does not learn (null: never does); a prefix is of the "
        "network, or begins with the name of another module: 'discriminator.'",
    )

    @field_validator("freeze", mode="before")
    @classmethod
    def _plain_list(cls, value: Any) -> Any:
        return dict.fromkeys(value) if isinstance(value, list) else value


class Growth(Part):
    """Progressive training: from a step on, another patch and batch."""

    step: int = Field(ge=1)
    patch: int = Field(ge=8)
    batch: int = Field(ge=1)


class Data(Part):
    """How crops are drawn from the training pictures."""

    patch: int = Field(24, ge=8, description="side of a training patch in pixels of the network's input")
    batch: int = Field(16, ge=1, description="patches a step, over all processes and micro-batches together")
    rescale: list[float] = Field(
        [1.0], min_length=1, description="every photograph is also used reduced by these factors"
    )
    colour: Literal["auto", "rgb", "luma", "grey"] = Field("auto", description="auto: what the network takes")
    growth: list[Growth] = Field([], description="progressive patch sizes, by increasing step")
    cache: bool = Field(True, description="keep the decoded photographs in a memory-mapped file beside the runs")
    prefetch: int = Field(3, ge=0, description="batches made ahead in a thread of their own; 0: none")

    @model_validator(mode="after")
    def _sensible(self) -> Data:
        if any(not 0 < f <= 1 for f in self.rescale):
            raise ValueError("rescale factors lie in (0, 1]")
        steps = [g.step for g in self.growth]
        if steps != sorted(set(steps)):
            raise ValueError("the steps of growth increase")
        return self

    def at(self, step: int) -> tuple[int, int]:
        """Patch and batch of a step."""
        now = (self.patch, self.batch)
        for growth in self.growth:
            if step >= growth.step:
                now = (growth.patch, growth.batch)
        return now

    @property
    def largest_patch(self) -> int:
        """The largest patch of the run."""
        return max([self.patch, *(g.patch for g in self.growth)])


class Loss(BaseModel):
    """A term of the loss; keys besides these two are the kind's own and are checked when it is built."""

    model_config = ConfigDict(extra="allow", frozen=True)
    kind: str
    weight: float = 1.0


class Optimiser(Part):
    """An optimiser and what is done to the gradient before its step."""

    kind: Literal["adam", "adamw", "sgd", "rmsprop", "adagrad"] = "adam"
    lr: float = Field(1e-3, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    momentum: float = Field(0.0, ge=0, lt=1, description="of SGD and RMSprop")
    clip: float | None = Field(None, gt=0, description="largest norm of the gradient")
    clip_value: float | None = Field(None, gt=0, description="largest absolute value in the gradient")
    accumulate: int = Field(1, ge=1, description="the batch is worked off in so many parts before a step")
    lr_factors: dict[str, float] = Field({}, description="key prefix -> factor on the learning rate")
    phases: dict[str, dict[str, Any]] = Field(
        {}, description="phase of the procedure -> keys of this group that differ there: {discriminator: {lr: 1e-5}}"
    )

    @field_validator("phases")
    @classmethod
    def _known(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        allowed = set(cls.model_fields) - {"phases", "accumulate"}
        for phase, changes in value.items():
            if unknown := sorted(set(changes) - allowed):
                raise ValueError(f"{phase}.{unknown[0]} is no key of an optimiser")
        return value

    def of(self, phase: str, changes: dict[str, Any] | None = None) -> Optimiser:
        """What holds for a phase: these keys, then the procedure's `changes`, then the recipe's own for that phase."""
        merged = {**self.model_dump(exclude={"phases"}), **(changes or {}), **self.phases.get(phase, {})}
        return Optimiser.model_validate(merged)


class Schedule(Part):
    """The factor on the learning rate over the steps; see `restora.training.schedule`."""

    kind: Literal["cosine", "constant", "multistep", "step", "exponential", "linear", "polynomial"] = "cosine"
    warmup: int = Field(0, ge=0, description="steps of linear warm-up")
    warmup_from: float = Field(0.0, ge=0, le=1, description="factor before the first step of the warm-up")
    final: float = Field(0.001, ge=0, le=1, description="factor at the end: cosine, linear, polynomial")
    milestones: list[int] = Field([], description="multistep: the steps at which the factor is multiplied by gamma")
    gamma: float = Field(0.5, gt=0, le=1, description="multistep, step, exponential")
    every: int = Field(
        1, ge=1, description="step: so many steps at each level; exponential: gamma is reached after so many"
    )
    power: float = Field(1.0, gt=0, description="polynomial")
    hold: int = Field(0, ge=0, description="cosine, linear, polynomial: steps at the full rate before it falls")
    periods: list[int] = Field([], description="cosine with restarts: their lengths, which sum to the steps")
    restarts: list[float] = Field([], description="cosine with restarts: the factor at the start of each period")

    @model_validator(mode="after")
    def _sensible(self) -> Schedule:
        if self.milestones != sorted(self.milestones):
            raise ValueError("the milestones increase")
        if self.kind == "multistep" and not self.milestones:
            raise ValueError("a multistep schedule needs milestones")
        if self.restarts and len(self.restarts) != len(self.periods):
            raise ValueError("there is one restart factor for each period")
        return self


class Validation(Part):
    """How the run is measured on pictures that it does not learn from."""

    every: int = Field(2000, ge=1)
    protocol: str = Field("", description="a name of restora.evaluation.protocols(); by default the task's")
    pictures: int = Field(16, ge=1, description="at most so many, the first by name")
    crop: int = Field(384, ge=32, description="side of the square cut from the middle of each, in target pixels")
    sheet: int = Field(3, ge=0, description="pictures on the sheets of input, output and target")


class Checkpoints(Part):
    """When the state is written besides at every validation and at the end."""

    every: int | None = Field(None, ge=1, description="steps")
    minutes: float = Field(10.0, gt=0, description="and at the latest after so long")


class Recovery(Part):
    """What is done when a loss becomes infinite or NaN: back to the last good state with a lower rate, or an end."""

    tries: int = Field(3, ge=0)
    factor: float = Field(0.5, gt=0, lt=1, description="on the learning rate, at each try")


class Recipe(Part):
    """Everything that a training run depends on, but for the machine and the place of the photographs."""

    name: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+-]*$")
    description: str = ""
    budget: str = Field(
        "", description="what a run takes, in words: '12 min on 2 CPU cores'; for people, nothing is stopped by it"
    )
    network: Network
    procedure: str = Field("supervised", description="how it is trained: a file of restora.training.procedures")
    options: dict[str, Any] = Field({}, description="the procedure's own keys")
    task: dict[str, Any] = Field(
        description="the pair maker: {kind: a file of restora.training.pairs, and its own keys}"
    )
    data: Data = Data()
    augment: dict[str, Any] | list[dict[str, Any]] | None = Field(
        None, description="a batch augmentation besides flips and turns, {kind: moa, p: 1.0}, or several in turn"
    )
    loss: list[Loss] = Field(
        [Loss(kind="l1")], min_length=1, description="a kind, a term, or a list of terms, which are summed"
    )
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    steps: int = Field(ge=1)
    ema: float = Field(0.999, ge=0, lt=1, description="decay of the weights' moving average; 0: none")
    seed: int = Field(0, ge=0)
    precision: Literal["float32", "bf16", "fp16"] = Field(
        "float32", description="of forward and backward; weights stay float32"
    )
    validation: Validation = Validation()
    checkpoints: Checkpoints = Checkpoints()
    recovery: Recovery = Recovery()
    stages: list[dict[str, Any]] = Field(
        [],
        description="one after another, each from the weights of the one before: {name, steps, and any top-level keys that "
        "differ}; a group of keys is merged unless its kind differs, a list is replaced",
    )

    @field_validator("loss", mode="before")
    @classmethod
    def _terms(cls, value: Any) -> Any:
        terms = value if isinstance(value, list) else [value]
        return [{"kind": term} if isinstance(term, str) else term for term in terms]

    @field_validator("task", mode="before")
    @classmethod
    def _task(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _sensible(self) -> Recipe:
        from restora.training import pairs, procedures

        if not self.stages and self.schedule.warmup >= self.steps:
            raise ValueError(f"a warm-up of {self.schedule.warmup} steps leaves nothing of {self.steps}")
        if not self.stages and self.schedule.periods and sum(self.schedule.periods) < self.steps:
            raise ValueError(f"the periods sum to {sum(self.schedule.periods)}, but there are {self.steps} steps")
        try:
            pairs.parse(self.task)
            procedures.parse(self.procedure, self.options)
        except RestoraError as error:
            raise ValueError(str(error)) from error
        return self

    def split(self) -> list[Recipe]:
        """The stages as recipes of their own, named `NAME/STAGE`-wise by `stage`; a recipe without stages is its only one.

        Raises:
            RecipeError: a stage without name or steps, two of one name, or impossible keys.
        """
        if not self.stages:
            return [self]
        whole = self.model_dump(mode="json", exclude={"stages"})
        result, names = [], set()
        for number, stage in enumerate(self.stages, 1):
            changes = dict(stage)
            name = str(changes.pop("name", ""))
            if not name or name in names or "steps" not in changes:
                raise RecipeError(f"Stage {number} of '{self.name}' needs a name of its own and a number of steps.")
            if "stages" in changes:
                raise RecipeError(f"Stage '{name}' of '{self.name}' has stages itself; list them in a row.")
            names.add(name)
            if number > 1:  # what came before is where it starts, unless it says otherwise
                fresh: dict[str, Any] = {"init_from": None, "reinitialise": []}
                changes["network"] = {**fresh, **changes.get("network", {})}
            result.append(parse_recipe({**merged(whole, changes), "name": name}, f"{self.name}, stage {name}"))
        return result


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes`: groups of keys are merged, unless the change names another `kind`; anything else is replaced."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        same = (
            isinstance(old, dict) and isinstance(value, dict) and value.get("kind", old.get("kind")) == old.get("kind")
        )
        # the options of one procedure mean nothing to another
        fresh = key == "options" and changes.get("procedure", base.get("procedure")) != base.get("procedure")
        result[key] = merged(old, value) if same and not fresh and isinstance(old, dict) else value
    if changes.get("procedure", base.get("procedure")) != base.get("procedure") and "options" not in changes:
        result["options"] = {}
    return result


def load_recipe(path: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Reads a recipe and applies overrides such as ``optimiser.lr=0.0005``.

    Raises:
        RecipeError: no such file, no YAML, an unknown key or an impossible value; the sentence names the key.
    """
    raw = read_yaml(path)
    for override in overrides or []:
        override_key(raw, override)
    return parse_recipe(raw, str(path))


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The keys of a YAML file; raises RecipeError where there are none."""
    path = Path(path)
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise RecipeError(f"The recipe '{path}' cannot be read: {error.strerror or error}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"The recipe '{path}' is no valid YAML: {str(error).splitlines()[0]}.") from error
    if not isinstance(raw, dict):
        raise RecipeError(f"The recipe '{path}' holds no keys.")
    return raw


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 1e-4 as a word; everybody who writes a learning rate means a number."""


_Loader.yaml_implicit_resolvers = {k: list(v) for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_FLOAT = r"^[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$"


def _numbers_with_exponents() -> None:
    import re

    for first in "-+0123456789.":
        _Loader.yaml_implicit_resolvers.setdefault(first, []).insert(0, ("tag:yaml.org,2002:float", re.compile(_FLOAT)))


_numbers_with_exponents()


def parse_recipe(raw: dict[str, Any], where: str = "recipe") -> Recipe:
    """A recipe from plain data; raises RecipeError as `load_recipe` does. Its stages are checked too."""
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        raise RecipeError(f"The recipe '{where}' is invalid: {complaint(error, 'recipe')}.") from error
    if recipe.stages:
        recipe.split()
    return recipe


def complaint(error: ValidationError, whole: str) -> str:
    """The first few problems that pydantic found, each with its key."""
    return "; ".join(
        f"{'.'.join(map(str, e['loc'])) or whole}: {e['msg'].removeprefix('Value error, ').rstrip('.')}"
        for e in error.errors()[:4]
    )


def override_key(raw: dict[str, Any], override: str) -> None:
    """Applies one ``key.key=value`` to plain data; a number addresses a place in a list (``stages.0.steps=5``)."""
    key, equals, value = override.partition("=")
    if not equals:
        raise RecipeError(f"An override has the form key=value, for example optimiser.lr=0.0005, not '{override}'.")
    *parents, last = key.split(".")
    node: Any = raw
    for parent in parents:
        node = _entered(node, parent, override)
    try:
        parsed = yaml.load(value, Loader=_Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"The value of the override '{override}' is no valid YAML.") from error
    if isinstance(node, list):
        node[_place(node, last, override)] = parsed
    else:
        node[last] = parsed


def _entered(node: Any, key: str, override: str) -> Any:
    if isinstance(node, list):
        inner = node[_place(node, key, override)]
    else:
        inner = node.get(key)
        if inner is None:
            inner = node[key] = {}
    if not isinstance(inner, (dict, list)):
        raise RecipeError(f"The override '{override}' goes through '{key}', which is no group of keys.")
    return inner


def _place(node: list[Any], key: str, override: str) -> int:
    if not key.isdigit() or int(key) >= len(node):
        raise RecipeError(f"The override '{override}': '{key}' is no place in a list of {len(node)}.")
    return int(key)


_BUNDLED = Path(__file__).parent / "recipes"


def bundled_recipes() -> dict[str, Path]:
    """The recipes that come with Restora, by name, sorted."""
    return {p.stem: p for p in sorted(_BUNDLED.glob("*.yaml"))}


def find_recipe(name: str) -> Path:
    """The path of a recipe: a file, or the name of one that is bundled.

    Raises:
        RecipeError: neither; the sentence names the nearest bundled ones.
    """
    import difflib

    known = bundled_recipes()
    if Path(name).is_file():
        return Path(name)
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, 4, 0.4)
    hint = f" Nearest: {', '.join(near)}." if near else ""
    raise RecipeError(f"There is no recipe '{name}'.{hint} `restora train --list` lists the bundled ones.")


def schema() -> dict[str, Any]:
    """The JSON schema of a recipe (draft 2020-12), with the keys of every pair maker and procedure."""
    from restora.training import pairs, procedures

    result = Recipe.model_json_schema()
    definitions = result.setdefault("$defs", {})
    tasks = []
    for kind, options in pairs.kinds().items():
        own = options.model_json_schema(ref_template="#/$defs/{model}")
        definitions.update(own.pop("$defs", {}))
        own["properties"] = {"kind": {"const": kind}, **own.get("properties", {})}
        own["required"] = ["kind", *own.get("required", [])]
        tasks.append(own)
    result["properties"]["task"] = {"oneOf": [*tasks, {"enum": list(pairs.kinds())}]}
    rules = []
    for name, keys in procedures.options().items():
        own = keys.model_json_schema(ref_template="#/$defs/{model}")
        definitions.update(own.pop("$defs", {}))
        rules.append({"if": {"properties": {"procedure": {"const": name}}}, "then": {"properties": {"options": own}}})
    result["properties"]["procedure"]["enum"] = list(procedures.options())
    result["allOf"] = rules
    result["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    result["properties"]["loss"] = {
        "anyOf": [{"type": "string"}, {"$ref": "#/$defs/Loss"}, result["properties"]["loss"]]
    }
    return result


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
        value = float(number) * units[unit]
    except (ValueError, KeyError) as error:
        raise RecipeError(f"A time limit is written like 90s, 25m or 2h, not '{text}'.") from error
    if not 0 <= value < float("inf"):
        raise RecipeError(f"A time limit is a time from now on, not '{text}'.")
    return value
