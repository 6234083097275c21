"""Weight files, read without running anything that is in them."""

from __future__ import annotations

import hashlib
import json
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from restora.errors import UnsafeCheckpoint, WeightsError
from restora.io import atomic_path

_MODULES = (".pkl", ".pt", ".pth", ".safetensors")


def read_checkpoint(path: str | Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The content of a checkpoint and, for safetensors, its metadata. The content decides the format, not the name; only
    ncnn's pair of files is told by its names. Of a folder with one file for each module (DMPHN), the modules by file name.

    Raises:
        WeightsError: missing, empty, damaged or of an unknown format.
        UnsafeCheckpoint: a pickle that wants to run code; nothing of it was run.
    """
    path = Path(path)
    if path.is_dir():
        return _read_modules(path), {}
    if path.suffix == ".param" or (path.suffix == ".bin" and path.with_suffix(".param").exists()):
        from restora.zoo.ncnn import read_ncnn

        return read_ncnn(path), {}
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise WeightsError(f"The weight file '{path}' cannot be read: {error.strerror or error}.") from error
    if not head:
        raise WeightsError(f"The weight file '{path}' is empty.")
    if head.startswith(b"MATLAB 7.3"):
        from restora.networks.ffdnet import read_matlab

        return dict(read_matlab(path)), {}
    if len(head) >= 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size:
        return _read_safetensors(path)
    if not (zipfile.is_zipfile(path) or head[:1] == b"\x80"):
        raise WeightsError(f"'{path}' is no checkpoint: neither safetensors nor a PyTorch file.")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")  # asks to file an issue with torch
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnsafeCheckpoint(
            f"'{path}' holds more than tensors and would have to run code to be loaded, so it was refused. "
            "Ask its author for a safetensors file, or for a plain state dict."
        ) from error
    except (
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        UnicodeDecodeError,
    ) as error:
        raise WeightsError(
            f"'{path}' is damaged or no PyTorch checkpoint: {str(error).splitlines()[0] if str(error) else 'unreadable'}."
        ) from error
    if not isinstance(content, Mapping):
        raise WeightsError(f"'{path}' holds a {type(content).__name__}, not a state dict.")
    return dict(content), {}


def _read_modules(folder: Path) -> dict[str, dict[str, Tensor]]:
    from restora.networks import unwrap

    files = sorted(p for p in folder.iterdir() if p.suffix in _MODULES and p.is_file())
    if not files:
        raise WeightsError(f"The folder '{folder}' holds no weight files ({', '.join(_MODULES)}).")
    return {p.stem: unwrap(read_checkpoint(p)[0]) for p in files}


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"The safetensors file '{path}' is damaged: {error}.") from error


def write_weights(net: nn.Module, path: Path, metadata: Mapping[str, str]) -> None:
    """Writes a network's state dict as safetensors; a tensor that it shares under several keys is written once."""
    from safetensors.torch import save

    from restora.networks import shared_keys

    repeated = shared_keys(net)
    state: dict[str, Tensor] = {
        k: v.detach().cpu().contiguous() for k, v in net.state_dict().items() if k not in repeated
    }
    with atomic_path(path) as temporary:
        content = save(state, metadata=dict(metadata))
        # the library writes its metadata in any order; the same weights have to be the same bytes
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        header["__metadata__"] = dict(sorted(metadata.items()))
        text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        temporary.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


def weights_sha256(path: str | Path) -> str:
    """SHA-256 of a weight file, or over the weight files of a folder."""
    if not Path(path).is_dir():
        return file_sha256(path)
    digest = hashlib.sha256()
    for suffix in _MODULES:
        digest.update(folder_sha256(path, f"*{suffix}").encode())
    return digest.hexdigest()


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def folder_sha256(folder: str | Path, pattern: str = "*") -> str:
    """SHA-256 over the names and contents of a folder's files, in sorted order: the checksum of a data set."""
    digest = hashlib.sha256()
    for file in sorted(p for p in Path(folder).glob(pattern) if p.is_file()):
        digest.update(file.name.encode() + b"\0" + bytes.fromhex(file_sha256(file)))
    return digest.hexdigest()
