"""Training: recipes, data, the loop, and the card at its end."""

from restora.training.data import Pairs, Photographs
from restora.training.export import export
from restora.training.recipe import Recipe, find_recipe, load_recipe, parse_recipe, seconds
from restora.training.trainer import Trainer, learning_rate

__all__ = [
    "Pairs",
    "Photographs",
    "Recipe",
    "Trainer",
    "export",
    "find_recipe",
    "learning_rate",
    "load_recipe",
    "parse_recipe",
    "seconds",
]
