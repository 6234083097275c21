"""How a studio runs: where its state lies, what it refuses, who may ask."""

from __future__ import annotations

import ipaddress
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from restora.errors import UsageError


@dataclass(frozen=True)
class Limits:
    """What is refused above. Bytes, pixels, seconds and counts; `requests_a_second` on average, four times as many in a burst."""

    upload_bytes: int = 2 << 30
    picture_pixels: int = 300_000_000
    result_pixels: int = 1_200_000_000
    preview_pixels: int = 1024 * 1024
    view_side: int = 4096
    files_a_job: int = 1000
    queued_jobs: int = 2000
    job_seconds: int | None = None
    disk_bytes: int = 100 << 30
    memory_bytes: int = 1 << 30  # of decoded pictures that are kept
    waiting_previews: int = 8
    requests_a_second: float = 100.0


# for a studio that others than its own user can reach
SHARED = Limits(
    upload_bytes=200 << 20,
    picture_pixels=60_000_000,
    result_pixels=400_000_000,
    files_a_job=100,
    queued_jobs=500,
    job_seconds=3600,
    disk_bytes=20 << 30,
    requests_a_second=40.0,
)


@dataclass(frozen=True)
class StudioSettings:
    """`folder` holds the state. `token`: what every request must carry, None for none. `share_folder`: what all may see."""

    folder: Path
    host: str = "127.0.0.1"
    port: int = 7860
    token: str | None = None
    share_folder: Path | None = None
    workers: int = 1
    allowed_hosts: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    threads: int | None = None


def default_folder() -> Path:
    """The cache folder's part for the studio."""
    from restora.zoo import cache_folder

    return cache_folder() / "studio"


def is_loopback(host: str) -> bool:
    """Whether a host name or address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def settle(
    folder: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    token: str | None = None,
    share_folder: Path | None = None,
    workers: int = 1,
    allowed_hosts: tuple[str, ...] = (),
) -> StudioSettings:
    """Settings for a host: one that others can reach gets a token, unless there is one, and the tighter limits.

    Raises:
        UsageError: a share folder that is none, a token that is too short to protect anything.
    """
    if share_folder is not None and not share_folder.is_dir():
        raise UsageError(f"The folder to share, '{share_folder}', does not exist.")
    if token is not None and not re.fullmatch(r"[A-Za-z0-9._~-]{12,200}", token):
        raise UsageError("A token is 12 to 200 letters, digits and . _ ~ -; leave it out to have one made.")
    if workers < 1:
        raise UsageError(f"The number of workers is at least 1, not {workers}.")
    alone = is_loopback(host)
    if not alone and token is None:
        token = secrets.token_urlsafe(24)
    return StudioSettings(
        folder=(folder or default_folder()).resolve(),
        host=host,
        port=port,
        token=token,
        share_folder=None if share_folder is None else share_folder.resolve(),
        workers=workers,
        allowed_hosts=allowed_hosts,
        limits=Limits() if alone else SHARED,
    )
