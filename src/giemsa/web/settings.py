"""What a server is told, and what it refuses to start with."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from giemsa.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

MAX_CELLS: Final = 5_000
"""Most pictures of one request; the page sends more in several."""
MAX_FIELDS: Final = 500
"""Most photographs of one smear; `giemsa smear` takes any number."""
MAX_NAME: Final = 4_096
"""Longest name of a picture, in characters: the longest path on Linux."""
_BODIES_AT_ONCE: Final = 4
"""How many of the largest bodies are held in memory at a time, in all requests together."""
_SMALL: Final = 1 / 16
"""Part of the largest body that a small one has at most; memory for eight of these is kept for small ones alone."""
_SMALL_AT_ONCE: Final = 8
_UNPACKED_FACTOR: Final = 20
"""How much larger than the largest body the pictures of an archive may be together; cells hardly shrink at all."""
_REQUESTS_QUEUED: Final = 4
"""How many of the largest requests may wait for the model at a time."""
MB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Settings:
    """What a server is told.

    Attributes
    ----------
    host, port
        Where it listens.
    model : str or None
        An ONNX file or a run folder; None means the embedded model.
    max_upload_mb : int
        Largest body of one request, in megabytes of 2^20 bytes.
    database : str or None
        Where answers of reviewers go: an SQLAlchemy URL. None means a temporary one, which ends with the server.
    token : str or None
        Asked of everyone who calls the API.
    insecure : bool
        Whether to serve others without a token.
    runs : tuple of Path
        Folders with labelled predictions, to compare models.
    site : Path or None
        This laboratory's rates, of `giemsa smear calibrate`; None means that smears are counted without.
    threads : int or None
        Runs of the model at a time; None means one for each core.
    queue_cells : int
        Most pictures that wait for the model at a time.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    model: str | None = None
    max_upload_mb: int = 50
    database: str | None = None
    token: str | None = None
    insecure: bool = False
    runs: tuple[Path, ...] = ()
    site: Path | None = None
    threads: int | None = None
    queue_cells: int = _REQUESTS_QUEUED * MAX_CELLS

    @property
    def max_upload_bytes(self) -> int:
        """Largest body of one request."""
        return self.max_upload_mb * MB

    @property
    def max_held_bytes(self) -> int:
        """Most bytes of bodies that are held at a time, in all requests together."""
        return _BODIES_AT_ONCE * self.max_upload_bytes

    @property
    def small_bytes(self) -> int:
        """Largest body that may use what is kept for small ones."""
        return int(_SMALL * self.max_upload_bytes)

    @property
    def reserved_bytes(self) -> int:
        """Bytes that are kept for small bodies."""
        return _SMALL_AT_ONCE * self.small_bytes

    @property
    def max_unpacked_bytes(self) -> int:
        """Most bytes that the pictures of one archive may have together."""
        return _UNPACKED_FACTOR * self.max_upload_bytes

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the server."""
        return is_loopback(self.host)

    @property
    def is_private(self) -> bool:
        """Whether it is one person's own: local, and without a token; then it must be called by a local name."""
        return self.is_local and self.token is None and not self.insecure


def check_settings(settings: Settings) -> None:
    """Refuse what makes no sense or is not safe, before anything is opened.

    Raises
    ------
    UsageError
        If a number is out of its range, the token can be guessed, or others would be served without one.
    """
    if not 0 <= settings.port <= 65_535:
        raise UsageError(f"--port is {settings.port}; expected a number from 0 (any free one) to 65535")
    if not 1 <= settings.max_upload_mb <= 2_048:
        raise UsageError(f"--max-upload-mb is {settings.max_upload_mb}; expected a number from 1 to 2048")
    if settings.threads is not None and settings.threads < 1:
        raise UsageError(f"--threads is {settings.threads}; expected 1 or more")
    if settings.token is not None and (len(settings.token) < 8 or not settings.token.isascii()
                                       or not settings.token.isprintable() or " " in settings.token):  # fmt: skip
        raise UsageError(
            "the token is too short or holds spaces or odd characters; expected 8 or more printable ASCII characters, "
            "such as `python -c 'import secrets; print(secrets.token_urlsafe())'` gives"
        )
    if not settings.is_local and settings.token is None and not settings.insecure:
        raise UsageError(
            f"--host {settings.host} would serve everybody who reaches this machine; ask for a token with --token, "
            "or say --insecure if that is meant"
        )


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's own, which nobody else reaches."""
    name = host.strip("[]").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
