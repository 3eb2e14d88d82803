"""Export of a run as one `.tflite` file for phones, compared with PyTorch before it is written.

PyTorch's exported graph goes through litert-torch. int8 means weights of 8 bits, one scale a channel, and activations
that are brought to 8 bits as they come (LiteRT calls that dynamic range): in our trials it changed logits by 0.013
on average, static ranges found on 256 cells by 0.5, and static ranges that also cover what finds the cell's prevailing
colour made the model useless. So it needs no cells to calibrate on.
"""

from __future__ import annotations

import tempfile
import warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from giemsa.errors import MissingExtraError, ModelError
from giemsa.files import write_file
from giemsa.lab.export.onnx import INT8_CHANGED_VERDICTS, Agreement, card_of, compare, has_evidence
from giemsa.lab.training.loop import predict_logits, to_rgb
from giemsa.model.litert import LiteRt, silenced, with_metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from giemsa.lab.training.calibration import Calibration
    from giemsa.lab.training.runs import Run

FP32_TOLERANCE: Final = 0.02
"""Largest allowed difference of logits. Nearly all cells differ by less than 1e-4; where a cell's prevailing colour
hangs on a pixel at the limit of what counts as black, the last digit decides, and one in some thousand differs by
0.004."""
MOST_COMPARED: Final = 2000
"""Largest number of cells that are compared, since a phone's model takes one at a time."""


def export_tflite(
    run: Run,
    output: Path,
    *,
    calibration: Calibration,
    figures: dict[str, Any] | None = None,
    int8: bool = False,
    comparison_cells: NDArray[np.uint8] | None = None,
) -> Agreement:
    """Agreement of a run's `.tflite` file with PyTorch; the file is written if they agree.

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
        Quantise the weights, and the activations as they come.
    comparison_cells : (N, S, S, 3) ndarray of uint8, optional
        Cells to compare on; random ones, which are only good for fp32, where there are none.

    Raises
    ------
    MissingExtraError
        If litert-torch is not installed.
    ModelError
        If the network cannot be converted, or verdicts or logits differ from PyTorch's beyond what is allowed;
        nothing is written then.
    """
    network = run.load_network().eval()
    size = run.recipe.input_size_px
    if comparison_cells is None:
        if int8:
            raise ModelError("int8 is compared with fp32 on cells, and not on noise: give some with --data")
        comparison_cells = np.random.default_rng(0).integers(0, 256, (64, size, size, 3), np.uint8)
    rows = np.sort(np.random.default_rng(0).permutation(len(comparison_cells))[:MOST_COMPARED])
    cells = np.asarray(comparison_cells[rows])
    flatbuffer = _convert(network, size, int8=int8)
    card = card_of(run, calibration, figures or {}, has_evidence=has_evidence(network, size))
    content = with_metadata(flatbuffer, card.to_json())
    # As a phone would: LiteRT, one cell at a time.
    found = LiteRt(content, name="the exported file").run(["logit"], {"cells": cells})[0]
    agreement = compare(predict_logits(network, cells, np.arange(len(cells))), found, calibration)
    _refuse_disagreement(agreement, int8=int8)
    write_file(output, content)
    return agreement


class _OneCell(nn.Module):
    """A network that scales its input itself, with its outputs by name."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, cells: Tensor) -> dict[str, Tensor]:
        scores = self.network(to_rgb(cells))
        outputs = {"logit": scores.logit}
        if scores.evidence is not None:
            outputs["evidence"] = scores.evidence
        return outputs


def _convert(network: nn.Module, size_px: int, *, int8: bool) -> bytes:
    try:
        with _without_chatter():
            import litert_torch
            from ai_edge_quantizer import quantizer, recipe
    except ImportError as error:
        raise MissingExtraError(
            f"a .tflite file needs {error.name or 'litert-torch'}, which is not installed; install it with: "
            "pip install 'giemsa[phone]'"
        ) from error
    example = torch.zeros(1, size_px, size_px, 3, dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as scratch:
        path, small = Path(scratch) / "fp32.tflite", Path(scratch) / "int8.tflite"
        try:
            with _without_chatter():
                litert_torch.convert(_OneCell(network).eval(), sample_kwargs={"cells": example}).export(str(path))
                if int8:
                    quantiser = quantizer.Quantizer(str(path))
                    quantiser.load_quantization_recipe(recipe.dynamic_wi8_afp32())
                    quantiser.quantize().export_model(str(small))
        except Exception as error:  # MLIR's and torch.export's own
            said = " ".join(str(error).split())[:300] or type(error).__name__
            raise ModelError(f"the network cannot be converted to a .tflite file: {said}; export it as ONNX") from error
        return (small if int8 else path).read_bytes()


def _refuse_disagreement(agreement: Agreement, *, int8: bool) -> None:
    if agreement.changed_verdicts > INT8_CHANGED_VERDICTS:
        raise ModelError(
            f"the .tflite file is not written: {agreement}, and at most {INT8_CHANGED_VERDICTS:.1%} of verdicts may "
            f"change; export {'without --int8' if int8 else 'as ONNX'}"
        )
    if not int8 and agreement.largest_difference > FP32_TOLERANCE:
        raise ModelError(
            f"the .tflite file is not written: {agreement}, and at most {FP32_TOLERANCE:g} is allowed; export as ONNX"
        )


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Suppress the converter's own messages, from Python and from C++."""
    with (
        warnings.catch_warnings(),
        redirect_stdout(StringIO()),
        redirect_stderr(StringIO()),
        silenced(),
    ):
        warnings.simplefilter("ignore")
        yield
