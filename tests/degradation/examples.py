"""One or more of every degradation there is, with random parameters where it takes them."""

from __future__ import annotations

import torch

from restora import degradation as d
from restora.degradation import Choice, Integers, Normal, Uniform, kernels

_KERNELS = torch.stack([kernels.gaussian(0.5, 7), kernels.motion(5, 30, 7), kernels.disk(2, 7), kernels.gaussian(2, 7)])

LINEAR: dict[str, d.Linear] = {
    "identity": d.Identity(),
    **{f"blur-{b}": d.Blur(kernels.motion(6, 20), b) for b in ("reflect", "circular", "replicate", "valid")},
    "blur-uneven": d.Blur(kernels.repair(torch.rand(3, 7, generator=torch.Generator().manual_seed(0)))),
    "gaussian": d.GaussianBlur(1.3),
    "anisotropic": d.AnisotropicBlur(2.0, 0.6, 30.0, 11),
    "plateau": d.AnisotropicBlur(2.0, 0.6, 30.0, 11, 1.5, "plateau"),
    "defocus": d.DefocusBlur(2.5),
    "motion": d.MotionBlur(7.0, 70.0),
    "trajectory": d.TrajectoryBlur(15, key=4),
    "sinc": d.SincFilter(1.5, 9),
    **{f"varying-{b}": d.VaryingBlur(_KERNELS, 2, 2, b) for b in ("reflect", "circular", "replicate")},
    "varying-row": d.VaryingBlur(_KERNELS[:3], 1, 3),
    **{f"down-{m}": d.Downsample(2, m) for m in ("bicubic", "bilinear", "box", "nearest")},
    "down-3-plain": d.Downsample(3, antialias=False),
    "down-replicate": d.Downsample(4, border="replicate"),
    "up": d.Upsample(2),
    "up-1.5": d.Upsample(1.5, "bilinear"),
    "decimate": d.Decimate(3),
    "down-up": d.DownUp(3, "bicubic", "nearest"),
    "chain": d.Blur(kernels.gaussian(1.0), "circular") >> d.Decimate(2),
    "chain-3": d.GaussianBlur(1.0) >> d.Downsample(2) >> d.MotionBlur(3.0),
}

# kept: whether the result stays in [0, 1] for a picture in [0, 1]
RANDOM: dict[str, tuple[d.Degradation, bool]] = {
    "gaussian-blur": (d.GaussianBlur(Uniform(0.2, 4), 11), True),
    "anisotropic-blur": (d.AnisotropicBlur(Uniform(0.2, 4), Uniform(0.2, 4), Uniform(0, 180)), True),
    "one-of-several": (d.Blur(Choice(tuple(_KERNELS), (1, 2, 3, 4)), "replicate"), True),
    "defocus": (d.DefocusBlur(Uniform(0, 4)), True),
    "motion": (d.MotionBlur(Uniform(1, 9), Normal(0, 30)), True),
    "trajectory": (d.TrajectoryBlur(Integers(9, 15, 2)), True),
    "sinc": (d.SincFilter(Uniform(1, 3), 7), False),
    "down": (d.Downsample(2, Choice(("bicubic", "box"))), False),
    "down-8-bit": (d.Downsample8Bit(2), True),
    "down-up": (d.DownUp(Integers(1, 8)), False),
    "rescale-there": (
        d.Rescale(Uniform(0.3, 1.4), Choice(("area", "bilinear", "nearest"))) >> d.FitScale(2, "area"),
        True,
    ),
    "resize-to": (d.ResizeTo(9, 13, "bicubic"), False),
    "gaussian-noise": (d.GaussianNoise(Uniform(0, 50), Choice(("independent", "grey", "correlated"))), False),
    "grain": (d.GaussianNoise(20, grain=Uniform(0, 2)), False),
    "level-map": (d.GaussianNoise(torch.linspace(0, 50, 20 * 24).view(20, 24)), False),
    "varying-noise": (d.VaryingNoise(Uniform(0, 5), Uniform(20, 50), Choice(("patches", "ramp"))), False),
    "poisson": (d.PoissonNoise(Uniform(5, 500), Uniform(0, 2), Choice((True, False))), False),
    "speckle": (d.SpeckleNoise(Uniform(0, 50)), False),
    "salt-pepper": (d.SaltPepperNoise(Uniform(0, 0.2), Uniform(0, 1)), True),
    "salt-pepper-pixels": (d.SaltPepperNoise(0.1, pixels=True), True),
    "f-noise": (d.FrequencyNoise(Uniform(1, 10)), True),
    "quantise": (d.Quantise(Integers(2, 16), Choice(("round", "floor"))), True),
    "clip": (d.Clip(), True),
    "camera": (d.CameraNoise(Uniform(0, 0.02), Uniform(0, 0.03), Choice((True, False))), True),
    "variance": (d.VarianceNoise(Uniform(0.005, 0.05)), True),
    "jpeg": (d.Jpeg(Integers(5, 95), Choice(("420", "444"))), True),
    "soft-jpeg": (d.SoftJpeg(Integers(5, 95), Choice(("420", "444")), Choice(("straight", "cubic"))), True),
    "webp": (d.WebP(Uniform(5, 95)), True),
    "contrast": (d.Contrast(Uniform(-100, 100)), True),
    "brightness": (d.Brightness(Uniform(0.5, 1.5), Uniform(0.5, 2)), True),
    "low-pass": (d.LowPass(Uniform(0.03, 1)), True),
    "over-smoothing": (d.OverSmoothing(Uniform(0.02, 0.1), 3, 3), True),
    "fading": (d.Fading(Uniform(0, 1), flicker=0.05), True),
    "scratches": (d.Scratches(Integers(0, 5), colour=Choice(("white", "black", "coloured")), opacity=0.8), True),
    "dust": (d.Dust(Integers(0, 9), hairs=0.5), True),
    "stains": (d.Stains(2), True),
    "choose": (d.Choose((d.GaussianBlur(1.0), d.Jpeg(30)), (1, 3)), True),
    "sometimes": (d.Sometimes(0.5, d.Contrast(40)), True),
    "shuffled": (d.Shuffled((d.GaussianBlur(1.0), d.SaltPepperNoise(0.1), d.Jpeg(30)), 1), True),
    "shdd": (d.Shdd(Choice(("easy", "moderate", "difficult")), Choice(("rows", "columns", "grid"))), True),
    "flickr": (d.FlickrDistortion(Choice(("basic", "difficult"))), True),
    "region": (d.Region((2, 3, 10, 12), d.GaussianNoise(Uniform(0, 9)) >> d.Clip(), "disc"), True),
}

# those that only make sense on clips, or need files; each has a test of its own
ELSEWHERE = {"FrameAverage", "EachFrame", "Overlay", "Regions", "Chain", "Rescale", "FitScale"}
