"""Training: recipes, data, pairs, procedures, the loop, and the card at its end."""

from restora.training.batch import Batch
from restora.training.data import Clips, PairedFolders, Photographs
from restora.training.export import export
from restora.training.recipe import (
    Recipe,
    bundled_recipes,
    find_recipe,
    load_recipe,
    parse_recipe,
    schema,
    seconds,
)
from restora.training.run import Trained, train
from restora.training.sampler import Pairs
from restora.training.schedule import factor, learning_rate
from restora.training.trainer import Trainer

__all__ = [
    "Batch",
    "Clips",
    "PairedFolders",
    "Pairs",
    "Photographs",
    "Recipe",
    "Trained",
    "Trainer",
    "bundled_recipes",
    "export",
    "factor",
    "find_recipe",
    "learning_rate",
    "load_recipe",
    "parse_recipe",
    "schema",
    "seconds",
    "train",
]
