"""OpenVINO: measured fastest on CPUs for gated and window-attention networks, and in bf16 for nearly all.

A network is converted once and kept in the cache folder. A program is compiled for each size of tile: with free sizes it
is slower by a third and more.
"""

from __future__ import annotations

import functools
import importlib.util
import threading
import warnings
import weakref
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from restora.engine.backends.base import (
    Call,
    Unsupported,
    check_sizes,
    close,
    code_checksum,
    example,
    first_line,
    keep,
    kept_file,
)

_HINTS = {"float32": "f32", "bf16": "bf16", "int8": "bf16"}
_PROGRAMS = 6  # tile sizes whose programs are held: a picture has four at most (whole, and cut at its two ends)


def installed() -> bool:
    return importlib.util.find_spec("openvino") is not None


@functools.cache
def _core() -> Any:
    import openvino

    return openvino.Core()


def hardware() -> list[str]:
    """Devices that OpenVINO sees, the CPU among them."""
    return list(_core().available_devices)


class VinoSession:
    """A network on the CPU by OpenVINO, with as many threads as torch has.

    Raises:
        Unsupported: the network cannot be converted, or its program gives another result.
    """

    def __init__(
        self, call: Call, precision: str, channels: int, side: int, multiple: int, photographs: Path | None = None
    ) -> None:
        self.key, self.precision = call.checksum, precision
        self.programs: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self.lock = threading.Lock()
        if precision == "int8":
            from restora.engine.backends.int8 import quantised

            file = quantised(call, channels, side, multiple, photographs)
            self.model, any_size = _core().read_model(file), True
        else:
            self.model, any_size = self._converted(call, channels, side, multiple)
        # the network is held weakly: sessions are known as long as it lives, and must not be what keeps it alive
        self.net = None if any_size else weakref.ref(call.net)
        self.fixed, self.maps, self.statistics = call.fixed, call.inputs, call.statistics

    def _converted(self, call: Call, channels: int, side: int, multiple: int) -> tuple[Any, bool]:
        """The network as OpenVINO's model, and whether it holds for any size."""
        import openvino

        spec: Any = call.net.spec
        name = f"{self.key}-{code_checksum()[:16]}-ov{openvino.__version__.split('-')[0]}"
        file, done = kept_file("converted", f"{name}.xml"), kept_file("converted", f"{name}.sizes")
        if file.exists() and file.with_suffix(".bin").exists() and done.exists():
            return _core().read_model(file), done.read_text() == "any"
        model = convert(call, example(call, channels, side, side))
        any_size = self._holds_for_other_sizes(model, call, channels, check_sizes(spec, side, multiple)[1])
        keep(file, lambda to: openvino.save_model(model, to, compress_to_fp16=False))
        keep(done, lambda to: Path(to).write_text("any" if any_size else "one"))
        # what is read back is what every later run has, to the last bit
        return _core().read_model(file) if file.exists() else model, any_size

    def _holds_for_other_sizes(self, model: Any, call: Call, channels: int, size: tuple[int, int]) -> bool:
        """Tracing turns decisions of the program into constants; a second size shows whether one depended on the size."""
        other = example(call, channels, *size)
        try:
            result = self._compiled(model, [list(t.shape) for t in other], "f32")(other)
        except RuntimeError:
            return False
        with torch.inference_mode():
            wanted = call(*other)
        return close(result, wanted)

    def _compiled(self, model: Any, shapes: list[list[int]], hint: str) -> Any:
        fixed = model.clone()
        fixed.reshape({port.any_name: shape for port, shape in zip(fixed.inputs, shapes, strict=True)})
        program = _core().compile_model(
            fixed,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": hint,
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                "NUM_STREAMS": 1,
                "PERFORMANCE_HINT": "LATENCY",
                "ENABLE_CPU_PINNING": False,  # pinned threads of two processes would share a core
            },
        )
        request = program.create_infer_request()
        lock = threading.Lock()

        def run(tensors: tuple[Tensor, ...]) -> Tensor:
            with lock:
                result = request.infer([t.contiguous().numpy() for t in tensors], share_inputs=True)
                return torch.from_numpy(result[0].copy())

        return run

    def __call__(self, *tensors: Tensor) -> Tensor:
        shape = (torch.get_num_threads(), *(tuple(t.shape) for t in tensors))
        with self.lock:
            if shape not in self.programs:
                self.programs[shape] = self._program(tensors)
                while len(self.programs) > _PROGRAMS:
                    self.programs.popitem(last=False)
            self.programs.move_to_end(shape)
            program = self.programs[shape]
        return program(tensors)

    def _program(self, tensors: tuple[Tensor, ...]) -> Any:
        model = self.model
        if self.net is not None and (net := self.net()) is not None:
            call = Call(net, {**self.fixed, **dict.fromkeys(self.maps, tensors[0])}, self.statistics)
            model = convert(call, tensors)
        return self._compiled(model, [list(t.shape) for t in tensors], _HINTS[self.precision])


def convert(call: Call, inputs: tuple[Tensor, ...]) -> Any:
    """A network as OpenVINO's model with free sizes, by tracing it.

    Raises:
        Unsupported: an operation that OpenVINO does not know.
    """
    import openvino

    try:
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")  # of tracing; what they warn of is checked afterwards
            own = tuple(t.clone() for t in inputs)
            traced = torch.jit.trace(call, own, check_trace=False, strict=False)
            model = openvino.convert_model(traced, example_input=own)
    except Exception as error:  # the converter raises whatever the network makes it raise
        raise Unsupported(
            f"OpenVINO cannot convert this network ({first_line(error)}); use --backend torch."
        ) from error
    for number, (port, tensor) in enumerate(zip(model.inputs, inputs, strict=True)):
        port.get_tensor().set_names({f"x{number}"})
        free = number <= len(call.inputs)  # what follows are statistics
        port.get_node().set_partial_shape(
            openvino.PartialShape([-1, tensor.shape[1], -1, -1] if free else list(tensor.shape))
        )
    model.validate_nodes_and_infer_types()
    return model
