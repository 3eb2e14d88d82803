"""What runs a model's graph: the one thing that ONNX Runtime and LiteRT have to give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or an output of a graph.

    Attributes
    ----------
    name : str
        Its name.
    dtype : str
        `uint8`, `float` and so on, as ONNX calls it.
    shape : tuple
        A number for each fixed side; anything else, mostly a name, for a free one.
    """

    name: str
    dtype: str
    shape: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} {list(self.shape)}"


class Runtime(Protocol):
    """A graph that was opened and can be run, from several threads at once.

    Attributes
    ----------
    provider : str
        What computes, for example `CPUExecutionProvider`.
    inputs, outputs : tuple of TensorSpec
        Of the graph.
    """

    provider: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def metadata(self, key: str) -> str | None:
        """Text that stands in the file under a key; None where there is none."""
        ...

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Compute outputs.

        Raises
        ------
        ModelError
            If the graph cannot be computed.
        """
        ...
