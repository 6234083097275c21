"""Data sets: where the pairs of the public ones lie, how new ones are cut, split and checked for leaks."""

from restora.degradation.datasets.cropping import Cutting, windows
from restora.degradation.datasets.layouts import Pair, Pairs, layouts, read_pairs
from restora.degradation.datasets.leaks import Leak, hash_pictures, leaks, perceptual_hash
from restora.degradation.datasets.scenes import kaggle_blur, suspicious
from restora.degradation.datasets.splits import Split, split

__all__ = [
    "Cutting",
    "Leak",
    "Pair",
    "Pairs",
    "Split",
    "hash_pictures",
    "kaggle_blur",
    "layouts",
    "leaks",
    "perceptual_hash",
    "read_pairs",
    "split",
    "suspicious",
    "windows",
]
