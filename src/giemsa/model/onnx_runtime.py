"""ONNX files, run by ONNX Runtime on the processor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from giemsa.errors import ModelError
from giemsa.model.runtime import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


class OnnxRuntime:
    """A graph in ONNX Runtime; a `giemsa.model.runtime.Runtime`.

    Parameters
    ----------
    content : bytes
        The whole file.
    name : str
        What it is, for messages: "the model cells.onnx".
    threads : int
        Threads that one run uses.

    Raises
    ------
    ModelError
        If it is no ONNX file that can be run.
    """

    def __init__(self, content: bytes, *, name: str, threads: int = 1) -> None:
        import onnxruntime

        onnxruntime.disable_telemetry_events()  # for those who have loaded it before Giemsa, see giemsa/__init__.py
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that spin while they wait take the cores from those that decode.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4  # what goes wrong is raised; nothing else is said beside our own messages
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises a class of its own for each kind of failure
            raise ModelError(f"{name} is no ONNX file that ONNX Runtime can run: {_said(error)}") from error
        self._name = name
        self.provider: str = self._session.get_providers()[0]
        self.inputs = tuple(map(_spec, self._session.get_inputs()))
        self.outputs = tuple(map(_spec, self._session.get_outputs()))

    def metadata(self, key: str) -> str | None:
        """Text under a key of the file's metadata."""
        found: str | None = self._session.get_modelmeta().custom_metadata_map.get(key)
        return found

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Compute outputs."""
        try:
            found: list[NDArray[Any]] = self._session.run(list(outputs), dict(inputs))
        except Exception as error:  # as above
            raise ModelError(f"{self._name} cannot be run: {_said(error)}; the file is damaged or was exported "
                             "wrongly") from error  # fmt: skip
        return found


def _spec(value: Any) -> TensorSpec:  # noqa: ANN401  untyped in onnxruntime
    return TensorSpec(value.name, value.type.removeprefix("tensor(").removesuffix(")"), tuple(value.shape))


def _said(error: Exception) -> str:
    return str(error).rpartition(" : ")[2].split("\n")[0].strip() or type(error).__name__
