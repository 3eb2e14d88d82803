"""A model for phones: a `.tflite` file, run by LiteRT (extra `phone`).

The file takes one cell at a time, as phones do. What a caller must know besides stands in it as in an ONNX file: as
`giemsa.json` in a zip archive behind the flatbuffer, which is where TensorFlow Lite keeps associated files too.
An interpreter must not be run by two threads at once, so that each thread gets its own.
"""

from __future__ import annotations

import io
import math
import os
import struct
import threading
import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from giemsa.errors import MissingExtraError, ModelError
from giemsa.model.runtime import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

METADATA_FILE: Final = "giemsa.json"
PROVIDER: Final = "LiteRT"

MAX_TENSOR_BYTES: Final = 2**30
"""Memory that the tensors of a graph may take; those of a cell classifier take some megabytes."""
_MAX_METADATA: Final = 16 * 2**20
_DTYPES: Final = {"float32": "float", "float64": "double"}  # as ONNX calls them


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


class LiteRt:
    """A graph in LiteRT; a `giemsa.model.runtime.Runtime`.

    Parameters
    ----------
    content : bytes
        The whole file.
    name : str
        What it is, for messages: "the model cells.tflite".
    threads : int
        Threads that one run uses.

    Raises
    ------
    MissingExtraError
        If LiteRT is not installed.
    ModelError
        If it is no file that LiteRT can run.
    """

    provider = PROVIDER

    def __init__(self, content: bytes, *, name: str, threads: int = 1) -> None:
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
        self._name = name
        self._own = threading.local()
        try:
            check_size(content)
            with silenced():  # it announces its delegate, once for each process
                interpreter = self._interpreter()
            inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        except (ValueError, RuntimeError) as error:  # a name that is no UTF-8 is a ValueError too
            raise ModelError(f"{name} is no TensorFlow Lite file that LiteRT can run: {_said(error)}") from error
        self._input = inputs[0]["index"] if inputs else -1
        # Converters name inputs and outputs as they like; the contract's outputs differ in their number of axes.
        self.inputs = tuple(_spec(one, "cells" if len(inputs) == 1 else str(one["name"])) for one in inputs)
        self.outputs = tuple(_spec(one, _output_name(one)) for one in outputs)
        self._places = {spec.name: int(one["index"]) for spec, one in zip(self.outputs, outputs, strict=True)}

    def metadata(self, key: str) -> str | None:
        """Text of the member `KEY.json` behind the flatbuffer."""
        return read_metadata(self._content) if f"{key}.json" == METADATA_FILE else None

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Compute outputs, one cell after another."""
        found: list[list[NDArray[np.float32]]] = [[] for _ in outputs]
        try:
            interpreter = self._interpreter()
            for cell in inputs["cells"]:
                interpreter.set_tensor(self._input, cell[None])
                interpreter.invoke()
                for place, name in enumerate(outputs):
                    found[place].append(interpreter.get_tensor(self._places[name])[0])
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"{self._name} cannot be run: {_said(error)}; the file is damaged or was exported "
                             "wrongly") from error  # fmt: skip
        shapes = {spec.name: spec.shape[1:] for spec in self.outputs}
        return [
            np.stack(each) if each else np.empty((0, *shapes[name]), np.float32)
            for name, each in zip(outputs, found, strict=True)
        ]

    def _interpreter(self) -> Any:  # noqa: ANN401  untyped in LiteRT
        interpreter = getattr(self._own, "interpreter", None)
        if interpreter is None:
            interpreter = self._litert.Interpreter(model_content=self._content, num_threads=self._threads)
            interpreter.allocate_tensors()
            self._own.interpreter = interpreter
        return interpreter


def check_size(content: bytes) -> None:
    """Refuse a graph whose tensors would fill the memory, before LiteRT makes room for them.

    That a flatbuffer is whole LiteRT checks itself; a shape with a damaged number passes there, and ends the process.

    Raises
    ------
    ValueError
        If the tensors have more than `MAX_TENSOR_BYTES` together, or cannot be read.
    """
    from ai_edge_litert import schema_py_generated as schema

    try:
        model = schema.Model.GetRootAs(content, 0)
        sizes = [
            math.prod(max(1, int(side)) for side in graph.Tensors(place).ShapeAsNumpy().tolist())
            for graph in map(model.Subgraphs, range(model.SubgraphsLength()))
            for place in range(graph.TensorsLength())
            if graph.Tensors(place).ShapeLength()
        ]
    except (ValueError, TypeError, IndexError, AttributeError, MemoryError, OverflowError, struct.error) as error:
        raise ValueError(f"its structure is damaged ({_said(error)})") from error
    if 4 * sum(sizes) > MAX_TENSOR_BYTES:
        raise ValueError(f"its tensors have {sum(sizes):,} numbers, and at most {MAX_TENSOR_BYTES // 4:,} are computed")


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


def _spec(detail: dict[str, Any], name: str) -> TensorSpec:
    kind = np.dtype(detail["dtype"]).name
    return TensorSpec(name, _DTYPES.get(kind, kind), ("N", *(int(side) for side in detail["shape"][1:])))


def _output_name(detail: dict[str, Any]) -> str:
    return {1: "logit", 3: "evidence"}.get(len(detail["shape"]), str(detail["name"]))


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
