"""Recipes from option files of the BasicSR kind, which most released training settings of this field are written in.

Only facts are read (network, data, losses, optimiser, schedule, steps); what has no counterpart here is named, not dropped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from restora import networks
from restora.errors import RecipeError
from restora.training.recipe import parse_recipe, read_yaml

# network type -> names of variants here, tried in order; `{s}` is the scale
_NETWORKS: dict[str, tuple[str, ...]] = {
    "msrresnet": ("msrresnet_x{s}",),
    "edsr": ("edsr_baseline_x{s}", "edsr_x{s}"),
    "rcan": ("rcan_x{s}",),
    "rrdbnet": ("rrdbnet_x{s}", "esrgan_x{s}"),
    "srvggnetcompact": ("srvgg_general_x{s}", "srvgg_anime_x{s}"),
    "swinir": ("swinir_classical_x{s}", "swinir_lightweight_x{s}"),
    "hat": ("hat_x{s}",),
    "nafnet": ("nafnet_gopro_width{width}", "nafnet_sidd_width{width}"),
    "nafnetlocal": ("nafnet_local_gopro_width{width}",),
    "restormer": ("restormer_deblur",),
    "mprnet": ("mprnet_deblur",),
    "mimounet": ("mimo_unet",),
    "uformer": ("uformer_b",),
    "fsrcnn": ("fsrcnn_x{s}",),
    "carn": ("carn_x{s}",),
    "imdn": ("imdn_x{s}",),
    "rdn": ("rdn_x{s}",),
    "dncnn": ("dncnn_color_blind",),
}
_OPTIMISERS = {"adam": "adam", "adamw": "adamw", "sgd": "sgd", "rmsprop": "rmsprop"}
_PIXEL = {"l1loss": "l1", "mseloss": "l2", "charbonnierloss": "charbonnier", "psnrloss": "psnr"}
_GAN = {"vanilla": "vanilla", "lsgan": "lsgan", "wgan": "wgan", "wgan_softplus": "vanilla", "hinge": "hinge"}


def import_options(path: str | Path) -> tuple[dict[str, Any], list[str]]:
    """The recipe for an option file, as plain data, and sentences about what could not be carried over.

    Raises:
        RecipeError: the file is no option file, or its network is none of those here.
    """
    options = read_yaml(path)
    if "network_g" not in options or "train" not in options:
        raise RecipeError(f"'{path}' has no network_g and train groups, so it is no option file of the BasicSR kind.")
    reading = _Reading(options)
    recipe = reading.recipe(Path(path).stem)
    parse_recipe(recipe, str(path))
    return recipe, reading.lost


class _Reading:
    """An option file being read; keys are taken out one by one, so that the rest can be named."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options, self.lost = options, []  # type: tuple[dict[str, Any], list[str]]
        self.scale = int(options.get("scale", 1))
        self.train = dict(options["train"] or {})
        self.procedure: dict[str, Any] = {}

    def recipe(self, name: str) -> dict[str, Any]:
        """The whole of it."""
        network, task = self._network(), self._task()
        steps = int(self.train.pop("total_iter", 0) or self.train.pop("niter", 0))
        if not steps:
            raise RecipeError("The option file has no train.total_iter, so the number of steps is not known.")
        recipe: dict[str, Any] = {
            "name": "".join(c if c.isalnum() or c in "_.+-" else "_" for c in str(self.options.get("name", name))),
            "description": f"imported from an option file for {self.options['network_g'].get('type', '?')}",
            "network": network,
            "task": task,
            "data": self._data(),
            "loss": self._losses(),
            **self.procedure,
            "optimiser": self._optimiser(),
            "schedule": self._schedule(steps),
            "steps": steps,
            "ema": float(self.train.pop("ema_decay", 0) or 0),
            "seed": int(self.options.get("manual_seed") or 0),
        }
        every = int((self.options.get("val") or {}).get("val_freq", 0) or 0)
        if every:
            recipe["validation"] = {"every": every}
        for key, value in self.train.items():
            if value not in (None, False, 0, 0.0, -1, {}):
                self._miss(f"train.{key}", value)
        return recipe

    def _miss(self, key: str, value: Any, why: str = "") -> None:
        self.lost.append(f"{key}: {value}" + (f" ({why})" if why else ""))

    def _network(self) -> dict[str, Any]:
        given = dict(self.options["network_g"])
        kind = str(given.pop("type", ""))
        names = _NETWORKS.get(kind.lower().replace("_", "").replace("plus", ""))
        if names is None:
            raise RecipeError(
                f"The network '{kind}' of the option file is none of those here; write a recipe with one that is."
            )
        width = given.get("width", 32)
        known = networks.variants()
        variant = next((n for n in (t.format(s=self.scale, width=width) for t in names) if n in known), None)
        if variant is None:
            raise RecipeError(f"There is no variant of '{kind}' for scale {self.scale} here.")
        config = networks.family_of(variant).variants[variant]
        changes = {}
        for key, value in given.items():
            if key in config:
                same = list(config[key]) == value if isinstance(config[key], tuple) else config[key] == value
                if not same:
                    changes[key] = value
            elif key not in ("num_in_ch", "num_out_ch", "upscale", "scale", "width"):
                self._miss(f"network_g.{key}", value, f"compare with the variant {variant}")
        start = (self.options.get("path") or {}).get("pretrain_network_g")
        return {
            "variant": variant,
            **({"config": changes} if changes else {}),
            **({"init_from": start} if start else {}),
        }

    def _task(self) -> dict[str, Any]:
        source = (self.options.get("datasets") or {}).get("train") or {}
        kind = str(source.get("type", ""))
        if "RealESRGAN" in kind:
            self._miss("datasets.train degradation ranges", kind, "the chain has the released ones")
            return {"kind": "real", "chain": f"realesrgan-x{self.scale}", "scale": self.scale}
        if self.scale > 1:
            if source.get("dataroot_lq"):
                self._miss("datasets.train.dataroot_lq", source["dataroot_lq"], "inputs are made by bicubic reduction")
            return {"kind": "sr", "scale": self.scale}
        self._miss("datasets.train", kind, "pairs come from a folder with input/ and target/")
        return {"kind": "folder", "scale": 1}

    def _data(self) -> dict[str, Any]:
        source = (self.options.get("datasets") or {}).get("train") or {}
        side = int(source.get("gt_size", 128))
        gpus = int(self.options.get("num_gpu", 1) or 1)
        batch = int(source.get("batch_size_per_gpu", 16)) * max(1, gpus)
        if sizes := source.get("gt_sizes"):
            return self._growing(sizes, source, gpus)
        return {"patch": max(8, side // self.scale), "batch": batch}

    def _growing(self, sizes: list[int], source: dict[str, Any], gpus: int) -> dict[str, Any]:
        batches = source.get("mini_batch_sizes") or [source.get("batch_size_per_gpu", 16)] * len(sizes)
        steps, growth, at = source.get("iters") or [], [], 0
        for number in range(1, min(len(sizes), len(steps))):
            at += int(steps[number - 1])
            growth.append({"step": at, "patch": sizes[number] // self.scale, "batch": batches[number] * gpus})
        return {"patch": sizes[0] // self.scale, "batch": batches[0] * gpus, **({"growth": growth} if growth else {})}

    def _losses(self) -> list[dict[str, Any]]:
        terms = []
        for key in ("pixel_opt", "fft_opt", "edge_opt"):
            given = self.train.pop(key, None)
            if not given:
                continue
            kind = {"fft_opt": "frequency", "edge_opt": "edge"}.get(key) or _PIXEL.get(
                str(given.get("type", "")).lower()
            )
            if kind is None:
                self._miss(f"train.{key}.type", given.get("type"))
                continue
            terms.append({"kind": kind, "weight": float(given.get("loss_weight", 1.0))})
        if given := self.train.pop("perceptual_opt", None):
            terms.append({"kind": "vgg", "weight": float(given.get("perceptual_weight", 1.0))})
            self._miss(
                "train.perceptual_opt", dict(given), "weights and layers of the backbone must be named: weights=PATH"
            )
        if given := self.train.pop("gan_opt", None):
            kind = _GAN.get(str(given.get("gan_type", "vanilla")), "vanilla")
            self._miss(
                "train.gan_opt and network_d", kind, "choose a GAN procedure (`restora train --list`) for this stage"
            )
        self.train.pop("optim_d", None)
        return terms or [{"kind": "l1"}]

    def _optimiser(self) -> dict[str, Any]:
        given = dict(self.train.pop("optim_g", None) or {})
        kind = str(given.pop("type", "Adam"))
        if kind.lower() not in _OPTIMISERS:
            self._miss("train.optim_g.type", kind, "adam stands instead")
        keys: dict[str, Any] = {"kind": _OPTIMISERS.get(kind.lower(), "adam"), "lr": float(given.pop("lr", 1e-4))}
        if betas := given.pop("betas", None):
            keys["betas"] = [float(b) for b in betas]
        for name in ("weight_decay", "momentum", "eps"):
            if (value := given.pop(name, None)) not in (None, 0):
                keys[name] = float(value)
        if self.train.pop("use_grad_clip", False):
            keys["clip"] = float(self.train.pop("grad_clip", 0.01))
        for key, value in given.items():
            self._miss(f"train.optim_g.{key}", value)
        return keys

    def _schedule(self, steps: int) -> dict[str, Any]:
        given = dict(self.train.pop("scheduler", None) or {})
        kind = str(given.pop("type", "constant"))
        warmup = int(self.train.pop("warmup_iter", -1) or -1)
        common = {"warmup": warmup} if warmup > 0 else {}
        rate = float((self.options["train"].get("optim_g") or {}).get("lr", 1e-4))
        if kind in ("MultiStepLR", "MultiStepRestartLR"):
            return {
                "kind": "multistep",
                "milestones": [int(m) for m in given.get("milestones", [])],
                "gamma": float(given.get("gamma", 0.1)),
                **common,
            }
        if kind in ("TrueCosineAnnealingLR", "CosineAnnealingLR"):
            return {"kind": "cosine", "final": float(given.get("eta_min", 0)) / rate, **common}
        if kind in ("CosineAnnealingRestartLR", "CosineAnnealingRestartCyclicLR"):
            floors = given.get("eta_mins") or [given.get("eta_min", 0)]
            if len(set(floors)) > 1:
                self._miss("train.scheduler.eta_mins", floors, "the last one holds for all periods")
            periods = [int(p) for p in given.get("periods", [steps])]
            return {
                "kind": "cosine",
                "periods": periods,
                "restarts": [float(w) for w in given.get("restart_weights", [1.0] * len(periods))],
                "final": float(floors[-1]) / rate,
                **common,
            }
        if kind == "LinearLR":
            return {"kind": "linear", "final": 0.0, **common}
        if kind != "constant":
            self._miss("train.scheduler.type", kind, "the rate stays constant")
        return {"kind": "constant", **common}
