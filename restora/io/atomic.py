"""Files that are either whole or not there: written under a temporary name, then renamed."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import secrets
import shutil
import socket
from collections.abc import Collection, Iterator
from pathlib import Path

from restora.errors import PictureWriteError

_PREFIX = ".restora-"


def temporary_beside(target: Path) -> Path:
    """A name of its own beside `target`, with its suffix, that says which process of which machine it belongs to."""
    return target.parent / f"{_PREFIX}{identity()}-{secrets.token_hex(8)}{target.suffix[:16]}"


@functools.cache
def _machine() -> str:
    """This machine's name, as far as it may stand in a file's name: folders are shared between machines."""
    return re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname())[:64]


@contextlib.contextmanager
def atomic_path(destination: str | os.PathLike[str], hold: bool = False) -> Iterator[Path]:
    """Yields a temporary path beside `destination`; when the block ends well, it is renamed to it.

    On any failure, an interrupt included, the temporary file is removed and what stood at the destination is untouched.
    The temporary name keeps the suffix, for writers that choose the format by it. A symbolic link is written through.

    Args:
        hold: leave the file under its temporary name when the block ends well; `settle` renames it later.

    Raises:
        PictureWriteError: the folder is missing or read-only, the disk is full, the destination is a folder, or the block
            wrote nothing. Other exceptions of the block pass through.
    """
    target = Path(destination)
    if target.is_symlink():
        target = target.resolve()
    if target.is_dir():
        raise PictureWriteError(f"'{destination}' is a folder; give the name of a file.")
    if not target.parent.is_dir():
        raise PictureWriteError(f"'{destination}' cannot be written: the folder '{target.parent}' does not exist.")
    temporary = temporary_beside(target)
    kept = False
    try:
        yield temporary
        if not temporary.exists():
            raise PictureWriteError(f"'{destination}' was not written: its writer produced no file.")
        if not hold:
            _rename(temporary, target)
        kept = hold
    except OSError as error:
        # an error that names another file (one that the block was reading, say) is not ours to retell
        if error.errno is None or (error.filename is not None and Path(error.filename) != temporary):
            raise
        raise PictureWriteError(f"'{destination}' cannot be written: {error.strerror or error}.") from error
    finally:
        if not kept:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def settle(temporary: Path, destination: str | os.PathLike[str]) -> None:
    """Gives a file that `atomic_path` was told to hold its own name; on failure it is removed.

    Raises:
        PictureWriteError: it cannot be renamed.
    """
    target = Path(destination)
    try:
        _rename(temporary, target.resolve() if target.is_symlink() else target)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise PictureWriteError(f"'{destination}' cannot be written: {error.strerror or error}.") from error


def _rename(temporary: Path, target: Path) -> None:
    if target.exists():
        with contextlib.suppress(OSError):
            shutil.copymode(target, temporary)
    temporary.replace(target)


def synced(path: Path) -> None:
    """Waits until a file's content is on the disk.

    Raises:
        OSError: it cannot be written there.
    """
    with path.open("rb") as file:
        os.fsync(file.fileno())


def remove_stale(folder: str | os.PathLike[str], processes: Collection[str] = ()) -> int:
    """Removes temporary files of `atomic_path` whose process is gone (it was killed, or the power failed); returns how many.
    Those of a process that still runs, and those of other machines, are left alone.

    Args:
        processes: of other machines or this one, as `identity()` names them there, that are known to have ended.
    """
    removed = 0
    for path in Path(folder).glob(f"{_PREFIX}*-*"):
        owner = path.name.removeprefix(_PREFIX).rpartition("-")[0]
        process, _, machine = owner.partition("@")
        gone = machine in ("", _machine()) and process.isdigit() and not _alive(int(process))
        if gone or owner in processes:
            with contextlib.suppress(OSError):
                path.unlink()
                removed += 1
    return removed


def identity() -> str:
    """How this process is called in the names of its temporary files."""
    return f"{os.getpid()}@{_machine()}"


def _alive(process: int) -> bool:
    if os.name != "posix":
        return True  # os.kill would end the process there; the file stays, hidden and harmless
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True
