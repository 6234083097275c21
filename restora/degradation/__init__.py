"""Degradations: what happened to the picture, as functions that can be composed, seeded and written down."""

from restora.degradation.resize import resize, resize_uint8

__all__ = ["resize", "resize_uint8"]
