"""What a user may set on a network: typed fields made of its spec, numbers checked, maps and regions read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import cv2
import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field, create_model
from pydantic_core import PydanticCustomError

from restora.errors import UsageError
from restora.io import Picture
from restora.networks.spec import Control, NetworkSpec
from restora.restorers.base import Controls

_Base = TypeVar("_Base", bound=Controls)
# controls that can be found from the picture itself, when their value is this word
AUTO, ESTIMATED = "auto", ("sigma", "quality")


def controls_of(spec: NetworkSpec, base: type[_Base]) -> type[_Base]:
    """`base` with the controls of a network as further fields."""
    fields: dict[str, Any] = {}
    for control in spec.controls:
        required = control.default is None and not control.optional
        described = Field(... if required else control.default, description=control.description)
        fields[control.name] = (_type(control), described)
    return create_model("NetworkControls", __base__=base, **fields) if fields else base


def _type(control: Control) -> Any:
    kinds: dict[str, Any] = {"float": float, "int": int, "bool": bool, "choice": str, "regions": Path}
    kind = kinds[control.kind]
    if control.spatial or control.kind == "regions":
        kind = kind | str | Path | np.ndarray
    elif control.name in ESTIMATED:
        kind = kind | str
    if control.optional:
        kind = kind | None
    reads_numbers = control.kind in ("float", "int")
    return Annotated[
        kind,
        *([BeforeValidator(_as_number)] if reads_numbers else []),
        AfterValidator(lambda value: _within(value, control)),
    ]


def _as_number(value: Any) -> Any:
    """A number that was written as text: a command line has nothing else, and no map is called 0.5."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _within(value: Any, control: Control) -> Any:
    """The value, if it lies in the control's range or is one of its choices; maps pass."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        low = control.low if control.low is not None else float("-inf")
        high = control.high if control.high is not None else float("inf")
        if not low <= value <= high:
            bounds = f"between {low:g} and {high:g}" if high < float("inf") else f"at {low:g} or above"
            raise _refused(f"it lies {bounds}; {value:g} was given")
    if control.kind == "choice" and value not in control.choices:
        raise _refused(f"it is one of {', '.join(control.choices)}, not '{value}'")
    if isinstance(value, str) and control.kind in ("float", "int") and not control.spatial and value != AUTO:
        raise _refused(f"it is a number or {AUTO}, not '{value}'")
    return value


def _refused(reason: str) -> PydanticCustomError:
    return PydanticCustomError("control", "{reason}", {"reason": reason})


def describe(control: Control) -> str:
    """What a control takes and means, in a line."""
    takes = {"choice": ", ".join(control.choices), "bool": "true or false", "regions": "picture or .npy of regions"}
    text = takes.get(control.kind, {"int": "whole number"}.get(control.kind, "number"))
    if control.kind in ("float", "int"):
        if control.high is not None:
            text += f" {control.low or 0:g} to {control.high:g}"
        elif control.low is not None:
            text += f" from {control.low:g}"
        text += " or grey picture" if control.spatial else ""
        text += f" or {AUTO}" if control.name in ESTIMATED else ""
    if control.default is not None:
        text += (
            f", default {control.default:g}" if isinstance(control.default, float) else f", default {control.default}"
        )
    elif not control.optional:
        text += ", required"
    return f"{text}: {control.description}"


def split(spec: NetworkSpec, controls: Controls) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The values of a network's controls: those that hold for the whole picture, and the maps, `H x W` float32, that have
    to travel with it.

    Raises:
        UsageError: a map that is none. PictureError: one that cannot be read.
    """
    values: dict[str, Any] = {}
    maps: dict[str, np.ndarray] = {}
    for control in spec.controls:
        value = getattr(controls, control.name)
        if control.kind == "regions" and value is not None:
            maps[control.name] = read_regions(value)
        elif control.spatial and isinstance(value, (str, Path, np.ndarray)):
            maps[control.name] = _map(value, control)
        else:
            values[control.name] = value
    return values, maps


def _array(value: Any) -> np.ndarray:
    """An array as it is, or the content of a file: a picture, or NumPy's .npy."""
    if isinstance(value, np.ndarray):
        return value
    if Path(value).suffix.lower() != ".npy":
        return Picture.open(value).pixels
    try:
        return np.load(value, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"'{value}' cannot be read as a NumPy array: {error}.") from error


def _map(value: Any, control: Control) -> np.ndarray:
    """A map `H x W`, float32, in the control's unit: the full range of a picture stands for the control's highest value."""
    array = _array(value)
    if array.ndim not in (2, 3):
        raise UsageError(f"A map for '{control.name}' is a grey picture H x W; this one has the shape {array.shape}.")
    top = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}.get(array.dtype, 1.0)
    plane = array.astype(np.float32).reshape(*array.shape[:2], -1).mean(axis=2) / top
    return plane * np.float32(control.high if control.high is not None else 1.0)


def read_regions(value: Any) -> np.ndarray:
    """Regions of a picture as numbers from 1, 0 for none: `H x W`, float32.

    Args:
        value: a picture in which every region has a colour or grey level of its own, black for none; an array `H x W` (or
            .npy) of whole numbers; or one `M x H x W` of M masks. Where masks overlap, a pixel belongs to the smallest.

    Raises:
        UsageError: another shape, fractions, or a lossy picture, whose levels are no longer those that were drawn.
    """
    if not isinstance(value, np.ndarray) and Path(value).suffix.lower() in (".jpg", ".jpeg"):
        raise UsageError(f"'{value}' is a JPEG, which blurs the numbers of regions; save the masks as PNG or .npy.")
    array = _array(value)
    if array.ndim == 3 and array.shape[2] not in (1, 3):
        return _one_for_each_pixel(array)
    if array.ndim not in (2, 3) or (array.dtype.kind not in "bui" and (array != np.rint(array)).any()):
        raise UsageError(
            f"Regions are whole numbers H x W, masks M x H x W, or a picture with a colour for each; these are "
            f"{array.dtype} of shape {array.shape}."
        )
    colours = array.reshape(*array.shape[:2], -1).astype(np.int64)
    codes = colours[..., 0] if colours.shape[2] == 1 else (colours * [1 << 32, 1 << 16, 1]).sum(axis=2)
    present, numbers = np.unique(codes, return_inverse=True)
    if present[0] < 0:
        raise UsageError("The numbers of regions begin at 0, which means none.")
    return (numbers.reshape(codes.shape) + (present[0] != 0)).astype(np.float32)


def _one_for_each_pixel(masks: np.ndarray) -> np.ndarray:
    """Masks `M x H x W` as numbers `H x W`: the large ones first, so that the small ones lie over them."""
    covered = masks > 0
    numbers = np.zeros(masks.shape[1:], np.float32)
    for number, index in enumerate(np.argsort(-covered.sum(axis=(1, 2)), kind="stable"), 1):
        numbers[covered[index]] = number
    return numbers


def check_size(maps: Mapping[str, np.ndarray], height: int, width: int) -> None:
    """Raises UsageError where a map is not of the picture's size."""
    for name, plane in maps.items():
        if plane.shape != (height, width):
            raise UsageError(
                f"The map for '{name}' has {plane.shape[1]}x{plane.shape[0]} pixels and does not fit {width}x{height}."
            )


def with_maps(
    pixels: np.ndarray, spec: NetworkSpec, maps: Mapping[str, np.ndarray], decode: Callable | None
) -> np.ndarray:
    """The picture in floating point with its maps as further channels, so that they are cut into the same tiles; a map of
    another size is brought to the picture's."""
    top = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}.get(pixels.dtype, 1.0)
    picture = pixels.astype(np.float32) / np.float32(top)
    height, width = pixels.shape[:2]
    kinds = {control.name: control.kind for control in spec.controls}
    planes = [
        cv2.resize(
            plane, (width, height), interpolation=cv2.INTER_NEAREST if kinds[name] == "regions" else cv2.INTER_LINEAR
        )
        for name, plane in maps.items()
    ]
    return np.dstack([decode(picture) if decode is not None else picture, *planes])


def told(controls: Controls) -> dict[str, Any]:
    """The controls as a report shows them: what was set, maps by their name or size."""
    return {name: _told(value) for name, value in controls if value is not None}


def _told(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return f"a map of {value.shape[-1]}x{value.shape[-2]}"
    return value if isinstance(value, (bool, int, float, str)) else str(value)
