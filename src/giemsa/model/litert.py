"""A model for phones: a `.tflite` file, run by LiteRT (extra `phone`), behind the few methods of a session that we use.

The file takes one cell at a time, as phones do. What a caller must know besides stands in it as in an ONNX file: as
`giemsa.json` in a zip archive behind the flatbuffer, which is where TensorFlow Lite keeps associated files too.
An interpreter must not be run by two threads at once, so that each thread gets its own.
"""

from __future__ import annotations

import io
import os
import threading
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from giemsa.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

METADATA_FILE: Final = "giemsa.json"
PROVIDER: Final = "LiteRT"

_MAX_METADATA: Final = 16 * 2**20
_TYPES: Final = {"float32": "tensor(float)", "uint8": "tensor(uint8)"}


@dataclass(frozen=True, slots=True)
class Value:
    """An input or an output, described as ONNX Runtime does; the number of cells is free."""

    name: str
    type: str
    shape: list[Any]


def with_metadata(flatbuffer: bytes, text: str) -> bytes:
    """Put the card behind a flatbuffer."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writer:
        entry = zipfile.ZipInfo(METADATA_FILE)  # its date is fixed: the same model is the same file
        entry.compress_type = zipfile.ZIP_DEFLATED
        writer.writestr(entry, text)
    return flatbuffer + archive.getvalue()


def read_metadata(content: bytes) -> str | None:
    """Read the card behind a flatbuffer; None where there is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as reader:
            if reader.getinfo(METADATA_FILE).file_size > _MAX_METADATA:
                return None
            return reader.read(METADATA_FILE).decode()
    except (zipfile.BadZipFile, KeyError, UnicodeDecodeError):
        return None


class LiteRtSession:
    """Runs a TensorFlow Lite model, by the methods of an ONNX Runtime session that `giemsa.model.opened` uses.

    Parameters
    ----------
    content : bytes
        The whole file.
    threads : int
        Threads that one run uses.

    Raises
    ------
    MissingExtraError
        If LiteRT is not installed.
    ValueError, RuntimeError
        From LiteRT, if the file is damaged.
    """

    def __init__(self, content: bytes, *, threads: int) -> None:
        try:
            from ai_edge_litert import interpreter as litert
        except ImportError as error:
            raise MissingExtraError(
                "a .tflite model needs ai-edge-litert, which is not installed; install it with: "
                "pip install 'giemsa[phone]', or name an ONNX file"
            ) from error
        self._litert: Any = litert
        self._threads = threads
        self._content = content
        self._own = threading.local()
        with silenced():  # it announces its delegate, once for each process
            interpreter = self._interpreter()
        (self._input, *others) = interpreter.get_input_details()
        outputs = interpreter.get_output_details()
        self._inputs = [_described(detail) for detail in (self._input, *others)]
        if len(self._inputs) == 1:
            self._inputs[0] = Value("cells", self._inputs[0].type, self._inputs[0].shape)
        # Converters name outputs as they like; the contract's differ in their number of axes.
        self._places = {_output_name(detail): int(detail["index"]) for detail in outputs}
        self._outputs = [
            Value(_output_name(detail), described.type, described.shape)
            for detail, described in zip(outputs, map(_described, outputs), strict=True)
        ]

    def get_providers(self) -> list[str]:
        """Name what computes."""
        return [PROVIDER]

    def get_inputs(self) -> list[Value]:
        """Describe the inputs."""
        return self._inputs

    def get_outputs(self) -> list[Value]:
        """Describe the outputs."""
        return self._outputs

    def metadata(self) -> str | None:
        """Return the card."""
        return read_metadata(self._content)

    def run(self, names: Sequence[str], cells: dict[str, NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        """Score cells, one after another."""
        interpreter = self._interpreter()
        found: list[list[NDArray[np.float32]]] = [[] for _ in names]
        for cell in cells["cells"]:
            interpreter.set_tensor(self._input["index"], cell[None])
            interpreter.invoke()
            for place, name in enumerate(names):
                found[place].append(interpreter.get_tensor(self._places[name])[0])
        shapes = {value.name: value.shape[1:] for value in self._outputs}
        return [
            np.stack(each) if each else np.empty((0, *shapes[name]), np.float32)
            for name, each in zip(names, found, strict=True)
        ]

    def _interpreter(self) -> Any:  # noqa: ANN401  untyped in LiteRT
        interpreter = getattr(self._own, "interpreter", None)
        if interpreter is None:
            interpreter = self._litert.Interpreter(model_content=self._content, num_threads=self._threads)
            interpreter.allocate_tensors()
            self._own.interpreter = interpreter
        return interpreter


@contextmanager
def silenced() -> Iterator[None]:
    """Keep what a library's C++ part says to itself off the terminal."""
    kept = [os.dup(1), os.dup(2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        yield
    finally:
        for stream, descriptor in zip((1, 2), kept, strict=True):
            os.dup2(descriptor, stream)
            os.close(descriptor)
        os.close(nowhere)


def _described(detail: dict[str, Any]) -> Value:
    kind = np.dtype(detail["dtype"]).name
    shape: list[Any] = [int(side) for side in detail["shape"]]
    return Value(str(detail["name"]), _TYPES.get(kind, f"tensor({kind})"), ["N", *shape[1:]])


def _output_name(detail: dict[str, Any]) -> str:
    return {1: "logit", 3: "evidence"}.get(len(detail["shape"]), str(detail["name"]))
