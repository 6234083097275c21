"""Solvers: methods that work at run time from a known blur, scale and noise level."""

from restora.solvers.base import Boundary, Denoiser, Monitor, Problem, Solver, Step, create, names, solvers

__all__ = ["Boundary", "Denoiser", "Monitor", "Problem", "Solver", "Step", "create", "names", "solvers"]
