"""Pictures in and out, with everything that travels with the pixels: depth, alpha, EXIF, ICC, XMP, resolution."""

from restora.io.atomic import atomic_path, identity, remove_stale, settle, synced
from restora.io.cache import cache_folder
from restora.io.decode import PictureInfo, probe
from restora.io.formats import FORMATS, MAX_PIXELS, READABLE, WRITABLE, format_of
from restora.io.icc import ColourTransform
from restora.io.metadata import Metadata
from restora.io.picture import Picture, read
from restora.io.pixels import coding_threads

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "READABLE",
    "WRITABLE",
    "ColourTransform",
    "Metadata",
    "Picture",
    "PictureInfo",
    "atomic_path",
    "cache_folder",
    "coding_threads",
    "format_of",
    "identity",
    "probe",
    "read",
    "remove_stale",
    "settle",
    "synced",
]
