"""Networks: one file a paper. Build, identify and load them; nothing here knows of files or devices."""

from restora.networks.folding import for_inference
from restora.networks.registry import (
    Family,
    Identified,
    create,
    families,
    family_of,
    identify,
    load_state,
    own_config,
    shared_keys,
    unwrap,
    variants,
)
from restora.networks.spec import Control, NetworkSpec, Tiling, aligned, exact, global_

__all__ = [
    "Control",
    "Family",
    "Identified",
    "NetworkSpec",
    "Tiling",
    "aligned",
    "create",
    "exact",
    "families",
    "family_of",
    "for_inference",
    "global_",
    "identify",
    "load_state",
    "own_config",
    "shared_keys",
    "unwrap",
    "variants",
]
