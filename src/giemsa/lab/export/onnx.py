"""Export of a run as one ONNX file, compared with PyTorch before it is written.

The graph follows the contract of `giemsa.model`: uint8 pixels in, scaling inside, `logit` and (where the network has
it) `evidence` out.
int8 is static, QDQ, per channel, unsigned activations and signed weights: on CPUs with VNNI that is the fastest
form, and it is calibrated on cells that were trained on and nothing else. Weights have 7 bits: on CPUs without VNNI
two products of unsigned by signed 8 bits are added in 16, and would saturate. Where that changes too many verdicts,
less is quantised, in the order of `INT8_WAYS`.
"""

from __future__ import annotations

import csv
import logging
import tempfile
import warnings
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from giemsa.errors import DataError, ModelError
from giemsa.files import write_file
from giemsa.lab.training.cells import judged_batch_size
from giemsa.lab.training.loop import predict_logits, to_rgb
from giemsa.model.card import METADATA_KEY, ModelCard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from giemsa.data.index import CellIndex
    from giemsa.lab.training.calibration import Calibration
    from giemsa.lab.training.runs import Run

OPSET = 18
FP32_TOLERANCE = 1e-3
"""Largest allowed difference of logits: fp32 sums in another order, amplified by a dozen layers."""
INT8_CHANGED_VERDICTS = 0.002
"""Largest share of verdicts that may change."""
INT8_WAYS: Final = {
    "all": "",
    # They have few weights and bear most of the error: the pixels' steps, and the logit's.
    "inner": "the first and the last layer are left in fp32",
    # A dense layer's few ranges are of thousands of activations, of which one cell may have others than those seen.
    "weights": "only weights are in int8, those of the first and the last layer aside: small, but no faster than fp32",
}
"""Ways to quantise, with their remarks; the first that changes few enough verdicts is written."""
CALIBRATION_CELLS = 1024
_LAYERS: Final = ("Conv", "Gemm", "MatMul")
NO_EVIDENCE = "none: the network does not end in a map that the logit is the mean of; giemsa explain gives Grad-CAM"
"""Text of the card about evidence, for a network that ends in dense layers."""


@dataclass(frozen=True)
class Agreement:
    """Agreement of an exported model with PyTorch's fp32 network.

    Attributes
    ----------
    cells : int
        How many were compared.
    largest_difference, mean_difference : float
        Of logits.
    changed_verdicts : float
        Part of the cells whose verdict differs at the model's threshold.
    left_in_fp32 : str
        What of an int8 model is not quantised, since too many verdicts changed otherwise; empty where all is.
    """

    cells: int
    largest_difference: float
    mean_difference: float
    changed_verdicts: float
    left_in_fp32: str = ""

    def __str__(self) -> str:
        return (
            f"{self.cells} cells compared with PyTorch: {self.changed_verdicts:.3%} of verdicts differ, "
            f"logits by {self.mean_difference:.2g} on average and {self.largest_difference:.2g} at most"
            + (f"; {self.left_in_fp32}" if self.left_in_fp32 else "")
        )


def export_run(
    run: Run,
    output: Path,
    *,
    calibration: Calibration,
    figures: dict[str, Any] | None = None,
    int8: bool = False,
    calibration_cells: NDArray[np.uint8] | None = None,
    comparison_cells: NDArray[np.uint8] | None = None,
) -> Agreement:
    """Agreement of a run's ONNX file with PyTorch; the file is written if they agree.

    Parameters
    ----------
    run : Run
        A complete run.
    output : Path
        The file to write; written only if the model agrees with PyTorch.
    calibration : Calibration
        Temperature, bias and threshold, which travel in the metadata.
    figures : dict, optional
        Of the card.
    int8 : bool
        Quantise. Needs `calibration_cells`.
    calibration_cells : (N, S, S, 3) ndarray of uint8, optional
        Cells that were trained on, for the ranges of activations.
    comparison_cells : (N, S, S, 3) ndarray of uint8, optional
        Cells to compare on; random ones, which are only good for fp32, where there are none.

    Raises
    ------
    ModelError
        If verdicts or logits differ from PyTorch's beyond what is allowed; nothing is written then.
    """
    if int8 and calibration_cells is None:
        raise ModelError("int8 needs cells to calibrate on: give the data that the run was trained on (--data)")
    network = run.load_network()
    size = run.recipe.input_size_px
    if comparison_cells is None:
        comparison_cells = np.random.default_rng(0).integers(0, 256, (64, size, size, 3), np.uint8)
    expected = predict_logits(network, comparison_cells, np.arange(len(comparison_cells)))
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "fp32.onnx"
        _write_graph(network, size, path)
        card = card_of(run, calibration, figures or {}, has_evidence=has_evidence(network, size))

        def finished(path: Path, left_in_fp32: str = "") -> Agreement:
            _write_metadata(path, card)
            return replace(compare(expected, run_onnx(path, comparison_cells), calibration), left_in_fp32=left_in_fp32)

        if not int8 or calibration_cells is None:
            agreement = finished(path)
        else:
            fp32 = _prepared(path)
            for way, said in INT8_WAYS.items():
                path = _quantise(fp32, calibration_cells, way)
                agreement = finished(path, said)
                if agreement.changed_verdicts <= INT8_CHANGED_VERDICTS:
                    break
        _refuse_disagreement(agreement, int8=int8)
        write_file(output, path.read_bytes())
    return agreement


def trained_on(run: Run, index: CellIndex) -> NDArray[np.intp]:
    """Rows of an index that a run was trained on, found by the digests of their files.

    Raises
    ------
    DataError
        If none of them is there.
    """
    with (run.folder / "training_cells.csv").open(newline="", encoding="utf-8") as file:
        known = {row["sha256"] for row in csv.DictReader(file)}
    rows = np.array([row for row, cell in enumerate(index.cells) if cell.sha256 in known], np.intp)
    if not len(rows):
        raise DataError(f"{index.root} holds none of the cells that {run.folder} was trained on")
    return rows


def card_of(run: Run, calibration: Calibration, figures: dict[str, Any], *, has_evidence: bool) -> ModelCard:
    """Card that travels in the file that a run is exported to."""
    return ModelCard(
        name=run.recipe.name,
        input_size_px=run.recipe.input_size_px,
        temperature=calibration.temperature,
        bias=calibration.bias,
        threshold=calibration.threshold,
        calibration_source=calibration.source,
        digests={
            "data": run.record.data_digest,
            "split": run.record.split_digest,
            "recipe": run.record.recipe_digest,
        },
        training_patients=tuple(run.record.patients),
        label_set=f"disputed: {run.recipe.labels.disputed}; donors: {run.recipe.labels.donors}",
        figures=figures,
        evidence="exact: its mean is the logit" if has_evidence else NO_EVIDENCE,
        first_weights=run.record.weights,
        doubt=calibration.doubt,
        laboratories=_laboratories(run),
        licence="Apache-2.0",
        created_by=f"giemsa {version('giemsa')}",
    )


def _laboratories(run: Run) -> dict[str, list[str]]:
    """Laboratories besides the labelled set's whose pictures the run was trained on."""
    trained = [name for name in run.recipe.laboratories.names if run.record.counts.get(f"of_{name}")]
    return {"trained": trained} if trained else {}


def run_onnx(path: Path, cells: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits of cells, float32 [N], by the exported file."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    size = judged_batch_size(cells.shape[1])
    found = [session.run(["logit"], {"cells": cells[start : start + size]})[0] for start in range(0, len(cells), size)]
    return np.concatenate(found)


def compare(expected: NDArray[np.float32], found: NDArray[np.float32], calibration: Calibration) -> Agreement:
    """Agreement of PyTorch's logits with those of the exported file, both float32 [N]."""
    difference = np.abs(found - expected)
    verdicts = [calibration.called(logit) for logit in (expected, found)]
    return Agreement(
        len(found), float(difference.max()), float(difference.mean()), float(np.mean(verdicts[0] != verdicts[1]))
    )


def has_evidence(network: nn.Module, size: int) -> bool:
    """Whether the network ends in a map that the logit is the mean of."""
    with torch.inference_mode():
        return network.eval()(torch.zeros(2, 3, size, size)).evidence is not None


class _Contract(nn.Module):
    """A network that scales its input itself, so that no caller can get it wrong."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, cells: Tensor) -> tuple[Tensor, ...]:
        scores = self.network(to_rgb(cells))
        return tuple(part for part in (scores.logit, scores.evidence, scores.cell, scores.novelty) if part is not None)


class _Cells(CalibrationDataReader):  # type: ignore[misc]  # untyped in onnxruntime
    def __init__(self, cells: NDArray[np.uint8]) -> None:
        self._batches: Iterator[NDArray[np.uint8]] = iter(np.array_split(cells, max(1, len(cells) // 64)))

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"cells": batch}


def _write_graph(network: nn.Module, size: int, path: Path) -> None:
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    with torch.inference_mode():
        scores = network.eval()(torch.zeros(2, 3, size, size))
    names = [name for name, part in scores._asdict().items() if part is not None]
    with warnings.catch_warnings(), _silent("torch.onnx", "onnxscript", "onnx_ir"):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Contract(network).eval(),
            (example,),
            path,
            input_names=["cells"],
            output_names=names,
            dynamic_shapes=({0: torch.export.Dim("N")},),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def _prepared(path: Path) -> Path:
    """Infer shapes and fold constants, as the quantiser expects."""
    prepared = path.with_name("prepared.onnx")
    with _silent("root"):
        quant_pre_process(path, prepared, skip_symbolic_shape=True)
    return prepared


def _quantise(fp32: Path, cells: NDArray[np.uint8], way: str) -> Path:
    """Write a quantised model beside the fp32 one."""
    quantised = fp32.with_name("int8.onnx")
    if way == "weights":
        _quantise_weights(fp32, quantised, left_out=_outer_layers(fp32))
        return quantised
    with _silent("root"):
        quantize_static(
            fp32,
            quantised,
            _Cells(cells[:CALIBRATION_CELLS]),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Add", "Relu", "Gemm", "MatMul", "MaxPool"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=True,
            nodes_to_exclude=_in_fp32(fp32) + (_outer_layers(fp32) if way == "inner" else []),
        )
    return quantised


def _quantise_weights(fp32: Path, quantised: Path, *, left_out: list[str]) -> None:
    """Store weights as 8 bits with a scale per output channel.

    A cast and a product make floats of them: ONNX Runtime computes these once, as it loads the model, whereas it would
    leave a DequantizeLinear for each run.
    """
    model = onnx.load(fp32)
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    restored = []
    for node in graph.node:
        if node.op_type not in _LAYERS or node.name in left_out or node.input[1] not in weights:
            continue
        tensor = weights.pop(node.input[1])
        values = onnx.numpy_helper.to_array(tensor)
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        axis = 0 if node.op_type == "Conv" or transposed else values.ndim - 1
        others = tuple(other for other in range(values.ndim) if other != axis)
        scale = np.maximum(np.abs(values).max(others, keepdims=True) / 127, np.finfo(np.float32).tiny)
        steps = np.rint(values / scale).astype(np.int8)
        kept, cast, scales = (f"{tensor.name}_{what}" for what in ("int8", "float", "scale"))
        restored += [
            onnx.helper.make_node("Cast", [kept], [cast], to=onnx.TensorProto.FLOAT),
            onnx.helper.make_node("Mul", [cast, scales], [tensor.name]),
        ]
        graph.initializer.remove(tensor)
        graph.initializer.extend(
            [onnx.numpy_helper.from_array(steps, kept), onnx.numpy_helper.from_array(scale, scales)]
        )
    everything = [*restored, *graph.node]
    del graph.node[:]
    graph.node.extend(everything)
    onnx.save(model, quantised)


def _in_fp32(path: Path) -> list[str]:
    """Names of the nodes before any convolution, where colours are made relative, and of those of novelty alone.

    Distances are differences of large sums of squares, of which 8 bits leave nothing.
    """
    graph = onnx.load(path).graph
    makers = {output: node for node in graph.node for output in node.output}
    convolved: set[str] = set()
    for node in graph.node:  # in the order in which they compute
        if node.op_type == "Conv" or any(makers[name].name in convolved for name in node.input if name in makers):
            convolved.add(node.name)
    leading: dict[str, set[str]] = {output.name: set() for output in graph.output}
    for output, names in leading.items():
        waiting = [output]
        while waiting:
            maker = makers.get(waiting.pop())
            if maker is not None and maker.name not in names:
                names.add(maker.name)
                waiting += maker.input
    others = set().union(*(names for output, names in leading.items() if output != "novelty"))
    alone = leading.get("novelty", set()) - others
    return [node.name for node in graph.node if node.name not in convolved or node.name in alone]


def _outer_layers(path: Path) -> list[str]:
    """Names of the first and the last layer."""
    layers = [node.name for node in onnx.load(path).graph.node if node.op_type in _LAYERS]
    return [layers[0], layers[-1]]


def _write_metadata(path: Path, card: ModelCard) -> None:
    model = onnx.load(path)
    del model.metadata_props[:]
    model.doc_string = ""
    for node in model.graph.node:  # the exporter leaves the paths of its sources there
        node.doc_string = ""
        del node.metadata_props[:]
    onnx.helper.set_model_props(model, {METADATA_KEY: card.to_json()})
    onnx.save(model, path)


def _refuse_disagreement(agreement: Agreement, *, int8: bool) -> None:
    if int8 and agreement.changed_verdicts > INT8_CHANGED_VERDICTS:
        raise ModelError(
            f"the int8 model is not written: {agreement}, and at most {INT8_CHANGED_VERDICTS:.1%} of verdicts may "
            "change; export without --int8, or train longer"
        )
    if not int8 and agreement.largest_difference > FP32_TOLERANCE:
        raise ModelError(f"the model is not written: {agreement}, and at most {FP32_TOLERANCE:g} is allowed")


class _silent:  # noqa: N801  used as a word
    """Suppress the exporters' own messages."""

    def __init__(self, *names: str) -> None:
        self._loggers = [logging.getLogger(None if name == "root" else name) for name in names]

    def __enter__(self) -> None:
        self._levels = [logger.level for logger in self._loggers]
        for logger in self._loggers:
            logger.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        for logger, level in zip(self._loggers, self._levels, strict=True):
            logger.setLevel(level)
