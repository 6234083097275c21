"""The automatic look, as the page shows it: `restorers.automatic` looks and decides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from restora.io import Picture

if TYPE_CHECKING:  # the page's server answers before PyTorch is loaded
    from restora.restorers import automatic

_WORDS = {
    "denoise": "remove the noise first",
    "dejpeg": "remove the traces of JPEG first",
    "deconvolve": "undo the blur, with a kernel that is estimated or drawn",
    "upscale": "enlarge it",
}
_WIDEST = 2.5  # edge width in pixels that the page shows as 100 % blurred; wider ones cannot be told apart


def look(picture: Picture) -> dict[str, Any]:
    """Noise, blur, JPEG quality and size of a picture, with advice: the fields of `schemas.Look`. The kernel of a blur, which
    takes seconds, is left to the page's own tool."""
    from restora.restorers import automatic

    found = automatic.look(picture, thorough=False)
    task, advice = advise(found)
    width = found.width_of_edges
    return {
        "noise": None if found.sigma is None else round(found.sigma, 2),
        "blur": None if width is None else round(min(1.0, width / _WIDEST), 3),
        "jpeg_quality": found.quality,
        "size": found.size,
        "task": task,
        "advice": advice,
    }


def advise(found: automatic.Look) -> tuple[str | None, str]:
    """The task that would help most, and a sentence: the first step of the plan for a machine with everything installed, and
    what the plan leaves to the user."""
    from restora.restorers import automatic

    everything = {task: automatic.Ability("", sigma=True) for task in automatic.STEPS}
    moves = automatic.plan(found, everything).moves
    task = moves[0].task if moves else None
    if task is None and found.blurred:
        task = "deconvolve"
    if task is None and found.size == "small":
        task = "upscale"
    seen = ", ".join(found.findings())
    if task is None:
        return None, f"Found: {seen}. The picture is fairly clean and sharp. Enlarge it if it has to be larger."
    return task, f"Found: {seen}. Best {_WORDS[task]}."
