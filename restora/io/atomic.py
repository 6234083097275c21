"""Files that are either whole or not there: written under a temporary name, then renamed."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from restora.errors import PictureWriteError

_PREFIX = ".restora-"


@contextlib.contextmanager
def atomic_path(destination: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path beside `destination`; when the block ends well, it is renamed to it.

    On any failure, an interrupt included, the temporary file is removed and what stood at the destination is untouched.
    The temporary name keeps the suffix, for writers that choose the format by it. A symbolic link is written through.

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
    temporary = target.parent / f"{_PREFIX}{os.getpid()}-{secrets.token_hex(8)}{target.suffix[:16]}"
    try:
        yield temporary
        if not temporary.exists():
            raise PictureWriteError(f"'{destination}' was not written: its writer produced no file.")
        if target.exists():
            with contextlib.suppress(OSError):
                shutil.copymode(target, temporary)
        temporary.replace(target)
    except OSError as error:
        # an error that names another file (one that the block was reading, say) is not ours to retell
        if error.errno is None or (error.filename is not None and Path(error.filename) != temporary):
            raise
        raise PictureWriteError(f"'{destination}' cannot be written: {error.strerror or error}.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_stale(folder: str | os.PathLike[str]) -> int:
    """Removes temporary files of `atomic_path` whose process is gone (it was killed, or the power failed); returns how many.
    Those of a process that still runs are left alone."""
    removed = 0
    for path in Path(folder).glob(f"{_PREFIX}*-*"):
        process = path.name.removeprefix(_PREFIX).split("-")[0]
        if process.isdigit() and not _alive(int(process)):
            with contextlib.suppress(OSError):
                path.unlink()
                removed += 1
    return removed


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
