"""Degradations: what happened to the picture, as functions that can be composed, seeded and written down."""

from restora.degradation.colour import grey_to_luma, luma, luma_to_grey, rgb_to_ycbcr, ycbcr_to_rgb
from restora.degradation.resize import resize, resize_uint8

__all__ = ["grey_to_luma", "luma", "luma_to_grey", "resize", "resize_uint8", "rgb_to_ycbcr", "ycbcr_to_rgb"]
