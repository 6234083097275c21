"""Degradations: what happened to the picture, as functions that can be composed, seeded and written down.

chain = Blur(kernels.motion(15, 30)) >> Downsample(4, "bicubic") >> GaussianNoise(Uniform(0, 10))
y = chain.seed(0)(x)
y, manifest = chain.degrade(x, generator)      # replay(manifest, x) gives the same bytes
"""

from restora.degradation import datasets, kernels
from restora.degradation.base import Degradation, Degraded, Linear, Seeded, replay
from restora.degradation.blur import (
    AnisotropicBlur,
    Blur,
    DefocusBlur,
    GaussianBlur,
    MotionBlur,
    SincFilter,
    TrajectoryBlur,
    VaryingBlur,
)
from restora.degradation.colour import grey_to_luma, luma, luma_to_grey, rgb_to_ycbcr, ycbcr_to_rgb
from restora.degradation.compose import Chain, Choose, EachFrame, Identity, Shuffled, Sometimes
from restora.degradation.compression import Jpeg, SoftJpeg, WebP
from restora.degradation.distributions import Choice, Distribution, Integers, LogUniform, Normal, Uniform
from restora.degradation.film import Dust, Overlay, Scratches, Stains
from restora.degradation.noise import (
    CameraNoise,
    Clip,
    FrequencyNoise,
    GaussianNoise,
    PoissonNoise,
    Quantise,
    SaltPepperNoise,
    SpeckleNoise,
    VaryingNoise,
)
from restora.degradation.photometric import Brightness, Contrast, Fading, LowPass, OverSmoothing
from restora.degradation.recipes import recipe, recipes
from restora.degradation.regions import FlickrDistortion, Region, Regions, Shdd, VarianceNoise
from restora.degradation.resampling import (
    Decimate,
    Downsample,
    Downsample8Bit,
    DownUp,
    FitScale,
    Rescale,
    ResizeTo,
    Upsample,
)
from restora.degradation.resize import resize, resize_uint8
from restora.degradation.spec import from_dict
from restora.degradation.video import FrameAverage

__all__ = [
    "AnisotropicBlur",
    "Blur",
    "Brightness",
    "CameraNoise",
    "Chain",
    "Choice",
    "Choose",
    "Clip",
    "Contrast",
    "Decimate",
    "DefocusBlur",
    "Degradation",
    "Degraded",
    "Distribution",
    "DownUp",
    "Downsample",
    "Downsample8Bit",
    "Dust",
    "EachFrame",
    "Fading",
    "FitScale",
    "FlickrDistortion",
    "FrameAverage",
    "FrequencyNoise",
    "GaussianBlur",
    "GaussianNoise",
    "Identity",
    "Integers",
    "Jpeg",
    "Linear",
    "LogUniform",
    "LowPass",
    "MotionBlur",
    "Normal",
    "OverSmoothing",
    "Overlay",
    "PoissonNoise",
    "Quantise",
    "Region",
    "Regions",
    "Rescale",
    "ResizeTo",
    "SaltPepperNoise",
    "Scratches",
    "Seeded",
    "Shdd",
    "Shuffled",
    "SincFilter",
    "SoftJpeg",
    "Sometimes",
    "SpeckleNoise",
    "Stains",
    "TrajectoryBlur",
    "Uniform",
    "Upsample",
    "VarianceNoise",
    "VaryingBlur",
    "VaryingNoise",
    "WebP",
    "datasets",
    "from_dict",
    "grey_to_luma",
    "kernels",
    "luma",
    "luma_to_grey",
    "recipe",
    "recipes",
    "replay",
    "resize",
    "resize_uint8",
    "rgb_to_ycbcr",
    "ycbcr_to_rgb",
]
