"""Cards: what a set of weights is. One YAML file each, typed; reading them needs no torch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from restora.errors import WeightsError
from restora.io import atomic_path

_SCALE_PART = re.compile(r"_x\d+(?=\.|$)")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Score(_Part):
    """A mean over a test set under a protocol, beside the degraded input's and a plain baseline's."""

    data: str
    data_sha256: str = Field(description="over the names and contents of the files, see `restora.zoo.folder_sha256`")
    images: int
    protocol: str = Field(description="name and version, for example sr-y/1")
    scale: int = 1
    psnr: float
    ssim: float
    bicubic_psnr: float | None = None
    bicubic_ssim: float | None = None
    input: str = Field("", description="how the input was made where the data hold references only: noise sigma 25")
    input_psnr: float | None = None
    input_ssim: float | None = None
    command: str = Field(description="what printed these numbers")


class Weights(_Part):
    """The file. `url` is for weights that are not bundled; the checksum is verified wherever it comes from."""

    file: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bytes: int
    url: list[str] = []


class Training(_Part):
    """How the weights came to be."""

    recipe: str = ""
    data: str = ""
    data_sha256: str = ""
    data_licence: str = ""
    steps: int = 0
    hours: float = 0.0
    hardware: str = ""
    revision: str = Field("", description="git revision of the training code")
    notes: str = ""


class Failure(_Part):
    """Something that the weights get wrong, seen in a picture."""

    picture: str = Field(description="a file beside the card: rows of input, result and truth")
    words: str = Field(description="what is to be seen there, and how large the error is")
    data: str = Field("", description="where the crops are from")


class Card(_Part):
    """What a set of weights is. `name` is `variant.tag`, or `recipe.tag` where the network's `config` is its own; the tag says
    who made it."""

    name: str = Field(pattern=r"^[a-z0-9_+-]+\.[a-z0-9_.+-]+$")
    title: str
    variant: str
    config: dict[str, Any] = Field({}, description="constructor arguments that differ from the variant's")
    task: Literal["super-resolution", "denoise", "deblur", "dejpeg", "deconvolve", "mixed"]
    family: str = Field(description="cards of one family and tag complete each other in scales")
    scales: list[int]
    licence: str = Field(description="SPDX expression for the weights")
    weights: Weights
    training: Training = Training()
    scores: list[Score] = []
    advice: str = Field("", description="when to take it, in a line")
    limits: str = Field("", description="what it cannot do, honestly")
    failures: list[Failure] = []
    parameters: int = 0
    default: bool = Field(False, description="the choice of its command when the user names none")
    bundled: bool = False

    @property
    def tag(self) -> str:
        """What follows the first point in the name: who made it."""
        return self.name.split(".", 1)[1]

    @property
    def stem(self) -> str:
        """What stands before it: the variant, or the name that a configuration of its own was given."""
        return self.name.split(".", 1)[0]

    @property
    def series(self) -> str:
        """The name without its scale, which weights for several scales have in common: ``realsr.restora``."""
        return _SCALE_PART.sub("", self.name)


def read_card(path: Path) -> Card:
    """Reads a card.

    Raises:
        WeightsError: unreadable, an unknown key, or a missing one; the sentence names it.
    """
    try:
        return Card.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        raise WeightsError(
            f"The card '{path}' is invalid: {'.'.join(map(str, first['loc']))}: {first['msg']}."
        ) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise WeightsError(f"The card '{path}' cannot be read: {str(error).splitlines()[0]}.") from error


def write_card(card: Card, path: Path) -> None:
    """Writes a card, leaving out what has its default value; a reader finds the old one or the new one."""
    text = yaml.safe_dump(
        card.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True, width=110
    )
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
