"""Checkpoints with their digests: PyTorch reads one with a flipped bit without a word, and training goes on from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.plugins.io import TorchCheckpointIO

from giemsa.errors import RunError
from giemsa.files import is_sealed, seal, seal_path


class SealedCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoints, with the digest of each beside it: a flipped bit would be trained on without a word."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:  # noqa: ANN401
        """Write a checkpoint and its digest."""
        super().save_checkpoint(checkpoint, path, storage_options)
        seal(path)

    def load_checkpoint(self, path: Any, *args: Any, **options: Any) -> dict[str, Any]:  # noqa: ANN401
        """Read a checkpoint that is as it was written.

        Raises
        ------
        RunError
            If it is not.
        """
        check_checkpoint(Path(path))
        return super().load_checkpoint(path, *args, **options)

    def remove_checkpoint(self, path: Any) -> None:  # noqa: ANN401
        """Remove a checkpoint and its digest."""
        super().remove_checkpoint(path)
        seal_path(path).unlink(missing_ok=True)


def check_checkpoint(path: Path) -> None:
    """Refuse a checkpoint that is not as it was written; those of version 0.1 have no digest to tell.

    Raises
    ------
    RunError
        If its digest is another one.
    """
    if seal_path(path).exists() and not is_sealed(path):
        raise RunError(f"the checkpoint {path} is damaged: it is not the file whose digest stands beside it")
