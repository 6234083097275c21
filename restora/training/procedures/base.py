"""What a training procedure is, and how a network is called on a batch."""

from __future__ import annotations

import abc
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from restora.degradation import resize
from restora.errors import RecipeError
from restora.training.batch import Batch
from restora.training.criterion import Criterion

if TYPE_CHECKING:
    from restora.networks import NetworkSpec
    from restora.training.pairs import Case
    from restora.training.recipe import Recipe
    from restora.training.sampler import Pairs


class ProcedureOptions(BaseModel):
    """Base of every procedure's keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NoOptions(ProcedureOptions):
    """Of a procedure without keys of its own."""


@dataclass(frozen=True)
class Phase:
    """A part of a training step: one set of weights moved by one loss.

    Attributes:
        name: in the log, and in the recipe under `optimiser.phases`. modules: whose weights move; all others are fixed
            meanwhile, but gradients pass through them.
        loss: `(batch, step) -> {name: term}`, scalars that are already weighted and are summed. It is called under autocast
            where the recipe says so, once for each micro-batch; no terms means that nothing is done in this step.
        every: the phase runs at steps that are multiples of it. first: not before this step. repeat: so many times in a row,
            on the same batch.
        optimiser: keys of the recipe's `optimiser` that differ here; the recipe's own `optimiser.phases` stand above.
    """

    name: str
    loss: Callable[[Batch, int], Mapping[str, Tensor]]
    modules: tuple[str, ...] = ("net",)
    every: int = 1
    first: int = 0
    repeat: int = 1
    optimiser: Mapping[str, Any] | None = None


class Procedure(abc.ABC):
    """Says what is trained and how; the trainer does the rest (backward, accumulation, clipping, optimisers, averaging,
    precision, checkpoints, resuming).

    A subclass stands in a file of its own that ends with `PROCEDURE = Class`. What phases of one step hand to each other goes
    into `batch.extra`, because with micro-batches a phase sees all of them before the next phase begins.

    Args:
        recipe: of this run, or of this stage of it. net: the recipe's network, on the processor still. options: the
            procedure's `Options`. pairs: makes the batches.

    Attributes:
        exported: the name of the module that is averaged, measured and shipped.
        keep: which weights are shipped: those of the ``best`` validation, or the ``last`` ones where the validation's score is
            not what is trained for (an adversary costs PSNR).
    """

    Options: ClassVar[type[BaseModel]] = NoOptions
    exported: ClassVar[str] = "net"
    keep: str = "best"

    def __init__(self, recipe: Recipe, net: nn.Module, options: Any, pairs: Pairs) -> None:
        self.recipe, self.net, self.options, self.pairs = recipe, net, options, pairs
        self.criterion = Criterion(recipe.loss)

    def modules(self) -> dict[str, nn.Module]:
        """Everything that is trained or goes into checkpoints, the network as ``net``; buffers such as queues travel in them."""
        return {"net": self.net}

    def helpers(self) -> list[nn.Module]:
        """Fixed modules that only have to be on the device: losses, frozen teachers."""
        return [self.criterion]

    @abc.abstractmethod
    def phases(self) -> Sequence[Phase]:
        """The parts of a step, in order."""

    def averaged(self) -> tuple[str, ...]:
        """Names of the modules that have a moving average."""
        return (self.exported,)

    def batch(self, step: int) -> Batch:
        """The batch of a step, on the processor; called in a thread of its own, ahead of time. It must depend on the recipe's
        seed and the step only."""
        return self.pairs.batch(step)

    def restore(self, net: nn.Module, batch: Batch) -> Tensor:
        """How the exported network is called on a batch, in training and in validation: the picture in [0, 1]."""
        return restored(net, batch)

    def predict(self, batch: Batch) -> Tensor:
        """The network that is being trained, on a batch."""
        return self.restore(self.net, batch)

    def before_step(self, step: int) -> None:  # noqa: B027 - a hook
        """Called before the phases of a step."""

    def after_step(self, step: int) -> None:  # noqa: B027 - a hook
        """Called after the phases of a step, for example to move a momentum encoder."""

    def state(self) -> dict[str, Any]:
        """What else a resumed run needs: numbers, strings and tensors in dicts and lists."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:  # noqa: B027 - a hook
        """Takes back what `state` gave."""

    def inherit(self, before: dict[str, dict[str, Tensor]]) -> None:
        """Starts from the stage before: `before` holds its modules' state dicts, the averaged weights where there are some.
        By default every module takes the tensors of equal name and shape from its namesake.

        Raises:
            RecipeError: none of the network's tensors fits: the stages have different networks.
        """
        from restora.training.start import take_over

        for name, module in self.modules().items():
            if name not in before:
                continue
            if not take_over(module, before[name], self.recipe.network.reinitialise) and name == self.exported:
                raise RecipeError(
                    f"No tensor of the stage before has a name and shape that {self.recipe.network.variant} has too; a stage "
                    "goes on with the network of the one before."
                )

    def cases(self) -> list[Case]:
        """The settings that a validation measures in."""
        return self.pairs.maker.cases()

    def scores(self, net: nn.Module) -> dict[str, float]:
        """Further numbers for the log at every validation, of the averaged network."""
        return {}

    def finished(self, net: nn.Module) -> nn.Module:
        """The network that is exported, from the averaged one: folded, where it was trained in a wider form."""
        fold: Callable[[], nn.Module] | None = getattr(net, "fold", None)
        return fold() if fold is not None else net


def restored(net: nn.Module, batch: Batch) -> Tensor:
    """Calls a network as the engine does: `restore` where it has one, with those of the batch's controls that it takes, and
    its input enlarged beforehand where it wants that. The result is float32."""
    spec: NetworkSpec = net.spec  # type: ignore[assignment]
    x = batch.input
    if spec.grid == "output" and batch.scale > 1:
        x = resize(x, batch.scale)
    return getattr(net, "restore", net)(x, **accepted(net, batch)).float()


def accepted(net: nn.Module, batch: Batch, call: Callable[..., Any] | None = None) -> dict[str, Any]:
    """The controls of a batch, and its scale, as far as the network's call has parameters of those names."""
    spec: NetworkSpec = net.spec  # type: ignore[assignment]
    usual: Callable[..., Any] = getattr(net, "restore", net.forward)
    takes = inspect.signature(call or usual).parameters
    controls = {name: value for name, value in batch.controls.items() if name in takes}
    if "scale" in takes and len(spec.scales) > 1:
        controls["scale"] = batch.scale
    return controls
