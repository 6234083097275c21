"""The engine: runs a network on a picture of any size. Device, precision, tiles, self-ensemble; nothing about files."""

from restora.engine.backends import BACKENDS
from restora.engine.device import choose_device, choose_precision, cpu_has_bf16, free_memory
from restora.engine.operator import EnsembleOperator, NetworkOperator, Operator
from restora.engine.process import keep_freed_memory, set_threads, usable_cores
from restora.engine.run import Progress, RunReport, Settings, layout, load, run, store, tile_size
from restora.engine.selection import (
    Measured,
    Record,
    Way,
    check_settings,
    choose_way,
    decisions,
    machine,
    obey,
    records,
)
from restora.engine.solver_operator import FunctionOperator, SolverOperator
from restora.engine.verify import TilingError, enliven, seconds_of, verify_tiling

__all__ = [
    "BACKENDS",
    "EnsembleOperator",
    "FunctionOperator",
    "Measured",
    "NetworkOperator",
    "Operator",
    "Progress",
    "Record",
    "RunReport",
    "Settings",
    "SolverOperator",
    "TilingError",
    "Way",
    "check_settings",
    "choose_device",
    "choose_precision",
    "choose_way",
    "cpu_has_bf16",
    "decisions",
    "enliven",
    "free_memory",
    "keep_freed_memory",
    "layout",
    "load",
    "machine",
    "obey",
    "records",
    "run",
    "seconds_of",
    "set_threads",
    "store",
    "tile_size",
    "usable_cores",
    "verify_tiling",
]
