"""Restora restores photographs and video.

    import restora
    restora.load("fsrcnn_x4")("old.jpg").save("new.png")

Importing this module imports neither torch nor anything else that is slow; names are resolved when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from restora.io import Picture
    from restora.restorers import Restoration, Restorer, load, look, restore
    from restora.zoo import Card, list_models

_LAZY = {
    "load": "restora.restorers",
    "look": "restora.restorers",
    "restore": "restora.restorers",
    "Restorer": "restora.restorers",
    "Restoration": "restora.restorers",
    "list_models": "restora.zoo",
    "Card": "restora.zoo",
    "Picture": "restora.io",
}
_ROOMS = (
    "cli",
    "degradation",
    "engine",
    "errors",
    "evaluation",
    "io",
    "jobs",
    "networks",
    "restorers",
    "solvers",
    "studio",
    "training",
    "zoo",
)

__all__ = ["Card", "Picture", "Restoration", "Restorer", "__version__", "list_models", "load", "look", "restore"]


def __getattr__(name: str) -> Any:
    import importlib

    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"restora.{name}")
    raise AttributeError(f"module 'restora' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY, *_ROOMS])
