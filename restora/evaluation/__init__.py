"""Measuring: metrics under named protocols."""

from restora.evaluation.metrics import Protocol, protocol, protocols, psnr, ssim, to_uint8

__all__ = ["Protocol", "protocol", "protocols", "psnr", "ssim", "to_uint8"]
