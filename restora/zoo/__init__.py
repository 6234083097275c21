"""The zoo: cards, bundled weights, the user's cache, and the import of other people's checkpoints."""

from restora.zoo.card import Card, Failure, Score, Training, Weights, read_card, write_card
from restora.zoo.store import (
    cache_folder,
    cards,
    checked_path,
    default_model,
    fetch,
    find,
    identify_file,
    import_model,
    list_models,
    load_network,
    looks_like_path,
    remove,
    siblings,
    weight_path,
)

__all__ = [
    "Card",
    "Failure",
    "Score",
    "Training",
    "Weights",
    "cache_folder",
    "cards",
    "checked_path",
    "default_model",
    "fetch",
    "find",
    "identify_file",
    "import_model",
    "list_models",
    "load_network",
    "looks_like_path",
    "read_card",
    "remove",
    "siblings",
    "weight_path",
    "write_card",
]
