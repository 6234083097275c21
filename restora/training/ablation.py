"""Ablations: one recipe trained in several forms and from several seeds, and one table of what came out.

An ablation is a YAML file (`restora/training/ablations/` has some) or is made on the spot from a recipe and `key=a,b,c`. Every
run is a folder of its own, so that what was stopped goes on where it was and what is finished is not done again.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, model_validator

from restora.errors import RecipeError
from restora.io import atomic_path
from restora.training.recipe import Part, Recipe, complaint, find_recipe, merged, override_key, parse_recipe, read_yaml
from restora.training.run import train
from restora.training.trainer import Trainer

_BUNDLED = Path(__file__).parent / "ablations"
_RESULTS = "results.jsonl"


class Form(Part):
    """One row of the table: a name and the recipe's keys that differ, dotted or nested."""

    name: str
    set: dict[str, Any] = {}


class Ablation(Part):
    """What is varied, in what, how often.

    The rows are `forms`, or every combination of the values in `grid`, or both combined. The first row is what the others
    are compared with.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+-]*$")
    description: str = ""
    recipe: str = Field(description="a recipe file, or the name of a bundled recipe")
    set: dict[str, Any] = Field({}, description="keys of the recipe that differ in all rows, dotted or nested")
    grid: dict[str, list[Any]] = Field({}, description="dotted key of the recipe -> its values")
    forms: list[Form] = Field([], description="rows that change several keys at once")
    seeds: list[int] = Field([0, 1, 2], min_length=1, description="each row is trained once from each")

    @model_validator(mode="after")
    def _sensible(self) -> Ablation:
        if not self.grid and not self.forms:
            raise ValueError("an ablation varies something: give a grid or forms")
        if any(not values for values in self.grid.values()):
            raise ValueError("every key of the grid has values")
        if len({form.name for form in self.forms}) < len(self.forms) or len(set(self.seeds)) < len(self.seeds):
            raise ValueError("names of forms differ, and so do seeds")
        return self

    def rows(self) -> list[Form]:
        """All rows, with everything that they set."""
        keys = list(self.grid)
        rows = []
        for form in self.forms or [Form(name="")]:
            for values in itertools.product(*self.grid.values()):
                given = dict(zip(keys, values, strict=True))
                parts = [form.name, *(f"{key.removeprefix('network.config.')}={_shown(v)}" for key, v in given.items())]
                rows.append(Form(name=", ".join(filter(None, parts)), set={**self.set, **form.set, **given}))
        return rows

    def runs(self) -> list[Run]:
        """Every row from every seed, seed by seed, so that a table stopped early has all rows.

        Raises:
            RecipeError: no such recipe, or a row that makes an impossible one.
        """
        base = read_yaml(find_recipe(self.recipe))
        rows = self.rows()
        runs = []
        for seed, (number, row) in itertools.product(self.seeds, enumerate(rows)):
            raw = json.loads(json.dumps(base))
            for key, value in row.set.items():
                raw = _set(raw, key, value)
            slug = re.sub(r"[^A-Za-z0-9_.+-]+", "_", row.name).strip("_.")[:60]
            raw |= {"name": f"{number:02d}-{slug}.seed{seed}", "seed": seed}
            runs.append(Run(row.name, seed, parse_recipe(raw, f"{self.name}, {row.name}")))
        return runs


@dataclass(frozen=True)
class Run:
    """One training of an ablation."""

    row: str
    seed: int
    recipe: Recipe

    @property
    def checksum(self) -> str:
        """Of everything that the result depends on in the recipe."""
        text = self.recipe.model_dump_json(exclude={"name", "description", "budget"})
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Result:
    """What a run came to: the best validation score in dB, beside the degraded input and the plain method."""

    row: str
    seed: int
    score: float
    input: float
    baseline: float
    plain: str
    parameters: int
    step: int
    seconds: float
    recipe: str


@dataclass(frozen=True)
class Line:
    """A row of the table: mean and sample standard deviation (None with one seed) of `count` runs."""

    row: str
    count: int
    mean: float
    deviation: float | None
    difference: float | None
    parameters: int
    seconds: float


@dataclass(frozen=True)
class Table:
    """The results so far. `finished` says whether every run of the ablation is among them."""

    ablation: str
    lines: list[Line]
    input: float
    baseline: float
    plain: str
    finished: bool

    def markdown(self) -> str:
        """The table, with rows for the degraded input and the plain method first."""
        rows = [
            "| setting | parameters | runs | mean dB | deviation | against the first | s a run |",
            "|---|---|---|---|---|---|---|",
            f"| (degraded input) | - | - | {self.input:.3f} | - | - | - |",
        ]
        if self.plain != "input":
            rows.append(f"| ({self.plain}) | - | - | {self.baseline:.3f} | - | - | - |")
        for line in self.lines:
            deviation = "-" if line.deviation is None else f"{line.deviation:.3f}"
            difference = "-" if line.difference is None else f"{line.difference:+.3f}"
            rows.append(
                f"| {line.row} | {line.parameters:,} | {line.count} | {line.mean:.3f} | {deviation} | {difference} "
                f"| {line.seconds:.0f} |"
            )
        return "\n".join(rows)

    def json(self) -> str:
        """The same as JSON."""
        return json.dumps(asdict(self), indent=2)


def run_ablation(
    ablation: Ablation,
    data: str | Path | Mapping[str, str | Path] | Any,
    validation: str | Path,
    folder: str | Path,
    *,
    time_limit: float | None = None,
    threads: int | None = None,
    device: str = "cpu",
    report: Callable[[dict[str, Any]], None] = lambda line: None,
    started: Callable[[Trainer], None] | None = None,
) -> Table:
    """Trains what is not trained yet and returns the table; also writes `table.md` and `table.json` into the ablation's folder
    after each run.

    Args:
        data, validation, threads, device: as of `training.train`. folder: parent of the ablation's folder.
        time_limit: seconds for all together; the run in hand keeps its checkpoint, and the next call goes on with it.
        report: gets the trainings' lines with `row` and `seed` added, and ``{"event": "result", ...}`` after each run.
        started: is handed each trainer before it runs, for whoever wants to stop it.

    Raises:
        RecipeError: an impossible recipe or unusable data, or results of another recipe in the folder.
    """
    began, place = time.monotonic(), Path(folder) / ablation.name
    place.mkdir(parents=True, exist_ok=True)
    runs, known = ablation.runs(), _read(place / _RESULTS)
    for run in runs:
        found = known.get((run.row, run.seed))
        if found is not None and found.recipe != run.checksum:
            raise RecipeError(
                f"'{place}' holds results of another recipe for '{run.row}'; use another folder or remove it."
            )
    for run in runs:
        if (run.row, run.seed) in known:
            continue
        left = None if time_limit is None else time_limit - (time.monotonic() - began)
        if left is not None and left <= 0:
            break
        told = _labelled(report, run)
        clock: list[Trainer] = []

        def hand_over(trainer: Trainer, clock: list[Trainer] = clock) -> None:
            clock.append(trainer)
            if started is not None:
                started(trainer)

        done = train(
            run.recipe, data, validation, place, resume=True, time_limit=left, threads=threads, device=device, report=told,
            stopped=hand_over,
        )  # fmt: skip
        if not done.finished:
            break
        result = _result(run, clock)
        known[run.row, run.seed] = result
        with (place / _RESULTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result)) + "\n")
        report({"event": "result", **asdict(result)})
        _write(place, tabulate(ablation, known))
    table = tabulate(ablation, known)
    _write(place, table)
    return table


def tabulate(ablation: Ablation, results: Mapping[tuple[str, int], Result]) -> Table:
    """The table of what is known."""
    lines: list[Line] = []
    first: float | None = None
    for row in ablation.rows():
        own = [results[row.name, seed] for seed in ablation.seeds if (row.name, seed) in results]
        if not own:
            continue
        scores = [r.score for r in own]
        mean = statistics.fmean(scores)
        deviation = statistics.stdev(scores) if len(scores) > 1 else None
        difference = None if first is None else mean - first
        first = mean if first is None else first
        seconds = statistics.fmean(r.seconds for r in own)
        lines.append(Line(row.name, len(own), mean, deviation, difference, own[0].parameters, seconds))
    some = next(iter(results.values()), None)
    wanted = len(ablation.rows()) * len(ablation.seeds)
    return Table(
        ablation.name,
        lines,
        some.input if some else math.nan,
        some.baseline if some else math.nan,
        some.plain if some else "input",
        sum(line.count for line in lines) == wanted,
    )


def ablations() -> dict[str, Path]:
    """The ablations that come with Restora, by name."""
    return {path.stem: path for path in sorted(_BUNDLED.glob("*.yaml"))}


def load_ablation(name: str, changes: Sequence[str] = (), seeds: int | None = None) -> Ablation:
    """An ablation by name or file; or one of a recipe, by name or file, whose `changes` list values: ``key=a,b,c``.

    A change with one value holds for all rows, one with several is varied.

    Args:
        seeds: so many, from 0; the file's own (or three) by default.

    Raises:
        RecipeError: neither, an unknown key, or nothing that varies.
    """
    path = Path(name) if Path(name).is_file() else ablations().get(name)
    raw = read_yaml(path) if path is not None else {}
    if "recipe" not in raw:  # a recipe has none; its name is what is varied
        found = find_recipe(name)
        raw = {"name": f"{found.stem}.ablation", "recipe": str(found) if Path(name).is_file() else name}
    fixed, grid = dict(raw.get("set", {})), dict(raw.get("grid", {}))
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise RecipeError(f"A change has the form key=value or key=a,b,c, not '{change}'.")
        values = _values(text, change)
        if len(values) == 1:
            fixed[key] = values[0]
        else:
            grid[key] = values
    raw |= {"set": fixed, "grid": grid}
    if seeds is not None:
        raw["seeds"] = list(range(seeds))
    try:
        return Ablation.model_validate(raw)
    except ValidationError as error:
        raise RecipeError(f"The ablation '{name}' is invalid: {complaint(error, 'ablation')}.") from error


def _values(text: str, change: str) -> list[Any]:
    try:
        values = yaml.safe_load(f"[{text}]")
    except yaml.YAMLError as error:
        raise RecipeError(f"The values of '{change}' are no valid YAML.") from error
    # YAML 1.1 reads 1e-4 as a word
    return [float(v) if isinstance(v, str) and re.fullmatch(r"[-+]?[0-9.]+[eE][-+]?[0-9]+", v) else v for v in values]


def _set(raw: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """The recipe with one key changed: a dotted one is replaced, a group is merged."""
    if "." not in key:
        return merged(raw, {key: value})
    override_key(raw, f"{key}={json.dumps(value)}")
    return raw


def _shown(value: Any) -> str:
    return json.dumps(value).replace('"', "") if not isinstance(value, str) else value


def _labelled(report: Callable[[dict[str, Any]], None], run: Run) -> Callable[[dict[str, Any]], None]:
    return lambda line: report({"row": run.row, "seed": run.seed, **line})


def _result(run: Run, trainers: list[Trainer]) -> Result:
    """From the last stage's log; a run that a call found finished has its trainer all the same."""
    from restora.training import state

    trainer = trainers[-1]
    lines = [li for li in state.read_lines(trainer.folder / "log.jsonl") if li.get("event") == "validation"]
    best = max(lines, key=lambda line: line["validation"])
    return Result(
        run.row,
        run.seed,
        best["validation"],
        best["input"],
        best["baseline"],
        best["plain"],
        sum(p.numel() for p in trainer.net.parameters()),
        best["step"],
        round(trainer.seconds, 1),
        run.checksum,
    )


def _read(path: Path) -> dict[tuple[str, int], Result]:
    """Results by row and seed; a last line that a crash cut short is left out, and its run found finished again."""
    found: dict[tuple[str, int], Result] = {}
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            result = Result(**json.loads(text))
        except (ValueError, TypeError):
            continue
        found[result.row, result.seed] = result
    return found


def _write(place: Path, table: Table) -> None:
    for name, text in (("table.md", table.markdown()), ("table.json", table.json())):
        with atomic_path(place / name) as temporary:
            Path(temporary).write_text(text + "\n", encoding="utf-8")
