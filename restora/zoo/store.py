"""Finding models: the bundled ones, those in the user's cache, and files that the user points at."""

from __future__ import annotations

import difflib
import fnmatch
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restora.errors import ChecksumMismatch, MissingExtra, UnknownArchitecture, UnknownModel, UsageError, WeightsError
from restora.io.cache import cache_folder
from restora.zoo.card import Card, Weights, read_card, write_card

if TYPE_CHECKING:
    from torch import nn

_HERE = Path(__file__).parent
_EXTENSIONS = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".param", ".mat")


def cards() -> dict[str, Card]:
    """All cards by name: bundled ones first, then those of the cache (which cannot replace a bundled one)."""
    found: dict[str, Card] = {}
    for path in sorted((_HERE / "cards").glob("*.yaml")):
        card = read_card(path)
        found[card.name] = card.model_copy(update={"bundled": True})
    for path in _own_cards():
        card = read_card(path)
        found.setdefault(card.name, card.model_copy(update={"bundled": False}))
    return found


def _own_cards() -> list[Path]:
    """Cards in the cache; none where it cannot be read, because the bundled models must work all the same."""
    try:
        return sorted(p for p in (cache_folder() / "cards").iterdir() if p.suffix == ".yaml")
    except OSError:
        return []


def list_models(
    pattern: str = "*", task: str | None = None, licence: str | None = None, bundled: bool | None = None
) -> list[Card]:
    """Cards whose name matches a shell pattern and whose fields are as asked, sorted by name.

    Args:
        task: for example ``super-resolution``. licence: a shell pattern on the SPDX expression.
    """
    return [
        card
        for name, card in sorted(cards().items())
        if fnmatch.fnmatch(name, pattern)
        and (task is None or card.task == task)
        and (licence is None or fnmatch.fnmatch(card.licence, licence))
        and (bundled is None or card.bundled == bundled)
    ]


def find(name: str) -> Card:
    """The card of a model: its full name, or its name or variant without a tag, which means the bundled or only tag. A name goes
    before a variant, of which there may be several models.

    Raises:
        UnknownModel: none of that name; the sentence lists the nearest.
    """
    known = cards()
    if name in known:
        return known[name]
    if meant := [card for card in known.values() if name in (card.variant, card.stem)]:
        return min(meant, key=lambda card: (card.stem != name, card.tag != "restora"))
    near = difflib.get_close_matches(name, [*known, *(c.variant for c in known.values())], n=4, cutoff=0.4)
    hint = f" Nearest: {', '.join(dict.fromkeys(near))}." if near else ""
    raise UnknownModel(
        f"There is no model called '{name}'.{hint} `restora models list` shows all; a path to a checkpoint works too."
    )


def siblings(card: Card) -> list[Card]:
    """The cards of the same weights for other scales, the card itself included: their names differ in ``_x4`` alone."""
    alike = [c for c in cards().values() if c.family == card.family and c.task == card.task]
    return [c for c in alike if c.series == card.series]


def default_models(task: str) -> list[Card]:
    """What a task's command takes when the user names no model. For each scale the last of them that has it counts: the most
    special ones stand at the end, and at the very end one that is marked as the default.

    Raises:
        UnknownModel: no model for that task is installed.
    """
    of_task = list_models(task=task)
    if not of_task:
        raise UnknownModel(f"No model for the task '{task}' is installed; `restora models list` shows what is.")
    marked = [card for card in of_task if card.default] or of_task[:1]
    found = {sibling.name: sibling for card in marked for sibling in siblings(card)}
    return sorted(found.values(), key=lambda card: (-len(card.scales), card in marked, card.name))


def default_model(task: str) -> Card:
    """The one of `default_models` that stands for them."""
    return default_models(task)[-1]


def weight_path(card: Card) -> Path:
    """Where a card's weight file lies.

    Raises:
        WeightsError: it is not on this machine; the sentence says how to get it.
    """
    for folder in ((_HERE / "weights") if card.bundled else cache_folder() / "weights",):
        path = folder / card.weights.file
        if path.is_file():
            return path
    how = (
        f"`restora models get {card.name}` fetches it"
        if card.weights.url
        else "it has to be imported again (`restora models import FILE`)"
    )
    raise WeightsError(f"The weights of '{card.name}' ({card.weights.file}) are not on this machine; {how}.")


def checked_path(card: Card) -> Path:
    """`weight_path` after its checksum was verified.

    Raises:
        ChecksumMismatch: the file is not the one that the card describes.
    """
    from restora.zoo.checkpoint import file_sha256

    path = weight_path(card)
    actual = file_sha256(path)
    if actual != card.weights.sha256:
        raise ChecksumMismatch(
            f"'{path}' is not the file that the card of '{card.name}' describes (SHA-256 {actual[:12]}... instead of "
            f"{card.weights.sha256[:12]}...). It was changed or damaged; install or import it again."
        )
    return path


def load_network(card: Card) -> nn.Module:
    """The network of a card with its weights, checksum verified."""
    from restora import networks
    from restora.zoo.checkpoint import read_checkpoint

    state, _ = read_checkpoint(checked_path(card))
    return networks.load_state(networks.create(card.variant, **card.config), state)


def identify_file(path: str | Path, scale: int | None = None, variant: str | None = None) -> tuple[nn.Module, str]:
    """Builds and loads the network that a checkpoint file belongs to; returns it and its variant.

    Args:
        variant: what it is, when the caller knows; it is still loaded strictly.
        scale: settles which variant is meant where keys and shapes cannot (FSRCNN); a scale in the file's metadata or
            name (``x4``) does so too.

    Raises:
        WeightsError: unreadable, unsafe, unknown or ambiguous; never is the wrong network built.
    """
    from restora import networks
    from restora.zoo.checkpoint import read_checkpoint

    checkpoint, metadata = read_checkpoint(path)
    if variant is not None:
        return networks.load_state(networks.create(variant), checkpoint), variant
    try:
        found = networks.identify(checkpoint)
    except UnknownArchitecture as unknown:
        from restora.zoo.spandrel_bridge import load_with_spandrel

        try:
            bridged = load_with_spandrel(networks.unwrap(checkpoint))
        except MissingExtra as hint:
            raise UnknownArchitecture(f"{unknown} {hint}") from unknown
        except UnknownArchitecture:
            raise unknown from None
        return bridged, bridged.architecture
    variant = _settle(found, metadata, Path(path), scale)
    net = networks.create(variant) if variant else networks.families()[found.family].build(**found.config).eval()
    return networks.load_state(net, checkpoint), variant or f"{found.family} {found.config}"


def _settle(found: Any, metadata: dict[str, str], path: Path, scale: int | None) -> str:
    """The variant that is meant, among the candidates: told by metadata, by the scale that the user or the file name
    gives (``x4``, ``4x``), or by the family's word that the first will do."""
    from restora import networks

    if len(found.candidates) <= 1 or networks.families()[found.family].first_will_do:
        return found.variant
    if metadata.get("restora.variant") in found.candidates:
        return metadata["restora.variant"]
    in_name = re.findall(r"(?:^|[^0-9a-z])x([2-8])(?![0-9])|(?<![0-9])([2-8])x", path.stem.lower())
    scales = {scale} if scale else {int(before or after) for before, after in in_name}
    matching = [c for c in found.candidates if any(c.endswith(f"_x{n}") for n in scales)]
    if len(matching) == 1:
        return matching[0]
    raise UsageError(
        f"'{path}' is a {found.family} checkpoint, but its tensors fit {', '.join(found.candidates)} alike. "
        f"Say which it is: `-n {found.candidates[0]}={path.name}`; a scale may also be given by --scale or stand in the "
        "file name, as in name_x4.pth."
    )


def import_model(path: str | Path, name: str | None = None, licence: str = "unknown", scale: int | None = None) -> Card:
    """Takes a user's checkpoint into the cache: identified, loaded strictly, rewritten as safetensors, with a card.

    Args:
        name: what follows the variant in the model's name; the file's name by default.

    Raises:
        WeightsError, UsageError: as `identify_file`; or a name that is taken.
    """
    from restora import networks
    from restora.zoo.checkpoint import file_sha256, weights_sha256, write_weights

    path = Path(path)
    net, variant = identify_file(path, scale)
    spec: Any = net.spec
    if variant not in networks.variants():
        raise UsageError(f"'{path}' is a {variant}, which has no variant name; use it by its path instead.")
    if spec.task == "discriminator":
        raise UsageError(f"'{path}' is a discriminator: it judges pictures in training and restores none.")
    if spec.task == "part":
        raise UsageError(f"'{path}' holds {variant}, a part of a larger system: it restores no picture.")
    tag = re.sub(r"[^a-z0-9_+-]+", "-", (name or path.stem).lower()).strip("-")
    full = f"{variant}.{tag}"
    if not tag or tag == "restora" or (full in cards() and cards()[full].bundled):
        raise UsageError(f"The name '{full}' is taken by a bundled model; choose another with --name.")
    folder = cache_folder()
    (folder / "weights").mkdir(parents=True, exist_ok=True)
    (folder / "cards").mkdir(parents=True, exist_ok=True)
    target = folder / "weights" / f"{full}.safetensors"
    write_weights(net, target, {"restora.variant": variant, "restora.source_sha256": weights_sha256(path)})
    card = Card(
        name=full,
        title=f"{variant} imported from {path.name}",
        variant=variant,
        task=spec.task,
        family=networks.family_of(variant).name,
        scales=list(spec.scales),
        licence=licence,
        weights=Weights(file=target.name, sha256=file_sha256(target), bytes=target.stat().st_size),
        parameters=sum(p.numel() for p in net.parameters() if p.requires_grad),
    )
    write_card(card, folder / "cards" / f"{full}.yaml")
    return card


def fetch(card: Card, report: Callable[[int, int], None] = lambda done, total: None) -> Path:
    """Downloads a card's weights into the cache unless they are there, verifies the checksum, and returns the path.

    Raises:
        WeightsError: no address, or none answered. ChecksumMismatch: another file came; nothing is kept of it.
    """
    from restora.io import atomic_path
    from restora.zoo.checkpoint import file_sha256

    try:
        return checked_path(card)
    except ChecksumMismatch:
        if card.bundled or not card.weights.url:
            raise
    except WeightsError:
        if not card.weights.url:
            raise
    folder = cache_folder() / "weights"
    folder.mkdir(parents=True, exist_ok=True)
    problems = []
    for url in card.weights.url:
        try:
            with atomic_path(folder / card.weights.file) as temporary:
                with urllib.request.urlopen(url, timeout=30) as answer, Path(temporary).open("wb") as file:
                    _copy(answer, file, card.weights.bytes, report)
                if (actual := file_sha256(temporary)) != card.weights.sha256:
                    raise ChecksumMismatch(
                        f"'{url}' gave another file than the card of '{card.name}' describes (SHA-256 {actual[:12]}...)."
                    )
            return folder / card.weights.file
        except (urllib.error.URLError, OSError) as error:
            problems.append(f"{url}: {getattr(error, 'reason', error)}")
    raise WeightsError(f"The weights of '{card.name}' could not be fetched ({'; '.join(problems)}).")


def _copy(source: Any, target: Any, total: int, report: Callable[[int, int], None]) -> None:
    done = 0
    while block := source.read(1 << 18):
        target.write(block)
        done += len(block)
        report(done, total)


def remove(name: str) -> None:
    """Removes a model of the user's own from the cache.

    Raises:
        UsageError: a bundled one. UnknownModel: none of that name.
    """
    card = find(name)
    if card.bundled:
        raise UsageError(f"'{card.name}' is bundled with Restora and stays.")
    (cache_folder() / "weights" / card.weights.file).unlink(missing_ok=True)
    (cache_folder() / "cards" / f"{card.name}.yaml").unlink(missing_ok=True)


def looks_like_path(name: str) -> bool:
    """Whether a model is meant by path: it has a checkpoint's extension or a path separator, or is a file."""
    return name.endswith(_EXTENSIONS) or "/" in name or os.sep in name or Path(name).is_file()
