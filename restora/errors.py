"""Every error that Restora raises on purpose: one sentence that says what is wrong, where, and what to do.

`RestoraError` is the root, so `except restora.errors.RestoraError` catches all of them and nothing else.
The command line prints the sentence and never a traceback for these.
"""

from __future__ import annotations


class RestoraError(Exception):
    """Root of the tree. `str(error)` is a sentence for the user."""


class UsageError(RestoraError, ValueError):
    """A wrong argument, flag, control or combination of them."""


class MissingExtra(RestoraError, ImportError):
    """An optional dependency is absent; the sentence names the `pip install restora[...]` that brings it."""


class PictureError(RestoraError):
    """A picture file could not be read or written."""


class NotAPicture(PictureError):
    """The file's content is of no picture format that can be read here, whatever its name says."""


class EmptyFile(PictureError):
    """The file has no bytes."""


class CorruptPicture(PictureError):
    """The file begins like a picture but is damaged or cut short."""


class PictureTooLarge(PictureError):
    """The header announces more pixels than the limit allows (a decompression bomb, or a limit to raise)."""


class UnsupportedPicture(PictureError):
    """A picture of a kind that cannot be represented without loss of meaning (for example an animation)."""


class PictureWriteError(PictureError):
    """The result could not be written; what stood at the destination before is untouched."""


class WeightsError(RestoraError):
    """A checkpoint or weight file cannot be used."""


class UnsafeCheckpoint(WeightsError):
    """The file would have to execute code to be loaded; it was not."""


class UnknownArchitecture(WeightsError):
    """The keys and shapes of a checkpoint belong to no network that is known here."""


class StateMismatch(WeightsError):
    """A checkpoint does not fit the network: missing, unexpected or wrongly shaped tensors."""


class ChecksumMismatch(WeightsError):
    """A weight file is not the one that its card describes."""


class UnknownModel(WeightsError, KeyError):
    """No card of that name; the sentence lists the nearest ones."""

    __str__ = Exception.__str__  # KeyError would quote the sentence


class EngineError(RestoraError):
    """A network or solver could not be run on this picture on this machine."""


class NumericalError(EngineError):
    """The result holds NaN or infinity even in float32."""


class RecipeError(RestoraError):
    """A training recipe is invalid or its data cannot be used."""


class Cancelled(RestoraError):
    """The user asked to stop; what was finished before is kept."""
