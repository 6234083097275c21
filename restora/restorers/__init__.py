"""Restorers: the one thing that everybody calls."""

from restora.restorers.automatic import Automatic, Look, Plan, look, plan
from restora.restorers.base import Controls, Report, Restoration, Restorer
from restora.restorers.chain import Chain
from restora.restorers.deconvolve import Deconvolver
from restora.restorers.denoising import denoiser
from restora.restorers.enhance import Enhancer
from restora.restorers.loading import load, restore
from restora.restorers.scaling import ScalePlan, plan_scale
from restora.restorers.upscale import Bicubic, UpscaleControls, Upscaler
from restora.restorers.zssr import ZeroShot

__all__ = [
    "Automatic",
    "Bicubic",
    "Chain",
    "Controls",
    "Deconvolver",
    "Enhancer",
    "Look",
    "Plan",
    "Report",
    "Restoration",
    "Restorer",
    "ScalePlan",
    "UpscaleControls",
    "Upscaler",
    "ZeroShot",
    "denoiser",
    "load",
    "look",
    "plan",
    "plan_scale",
    "restore",
]
