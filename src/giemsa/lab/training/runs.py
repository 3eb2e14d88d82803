"""A run: one training, and the folder that holds all that it left.

recipe.toml          the resolved recipe, defaults included
run.json             what it was trained on, with which versions, and whether it is complete
split.json           the split, where there was one
training_cells.csv   file and SHA-256 of every cell that was trained on
weights.safetensors  the weights that are kept, and their digest in weights.safetensors.sha256
metrics.csv          a row an epoch
frozen_metrics.csv   the same of the epochs that trained a backbone's head alone
training.png         loss and accuracy over epochs
model.onnx           the model, fp32, for `evaluate` and `classify`
checkpoints/         what `--resume` goes on from, each with its digest
tensorboard/         the same metrics for TensorBoard
.lock                held while a process trains here
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save

from giemsa.errors import RunError
from giemsa.files import is_sealed, seal, seal_path, write_file
from giemsa.lab.networks.building import build_network
from giemsa.lab.recipes import Recipe, load_recipe

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

FORMAT = 1
_SINCE_0_2 = ("standardise.mean", "standardise.std")
"""What weights of runs of version 0.1 lack; where a network is built anew, they change nothing."""


@dataclass(frozen=True)
class RunRecord:
    """The content of `run.json`.

    Attributes
    ----------
    status : str
        `training` until everything is written, then `complete`.
    command : str
        The command that made it.
    data_digest, split_digest, recipe_digest : str
        SHA-256 as hex; the split's is empty where all cells were trained on.
    split_part : str
        Which part or fold of the split was held back for validation; empty where none was.
    patients : list of str
        Those trained on, as far as they are known.
    patients_known : bool
        Whether the patient of every cell is known.
    counts : dict
        Cells trained on by class, those left out, donors' cells.
    versions : dict
        Of everything that bears on the result.
    device, precision, threads
        What the training ran on.
    timings : dict
        Seconds in all and per epoch.
    calibration : dict
        Temperature, bias, threshold, and where they come from.
    weights : dict
        Where the first weights came from.
    parameters : int
        Number of weights.
    """

    status: str
    command: str
    data_digest: str
    split_digest: str
    recipe_digest: str
    split_part: str = ""
    patients: list[str] = field(default_factory=list)
    patients_known: bool = True
    counts: dict[str, int] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    device: str = ""
    precision: str = ""
    threads: int = 0
    timings: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Any] = field(default_factory=dict)
    parameters: int = 0
    format: int = FORMAT


@dataclass(frozen=True)
class Run:
    """A run's folder, with its recipe and record read."""

    folder: Path
    recipe: Recipe
    record: RunRecord

    def load_network(self) -> nn.Module:
        """Build the network and load the weights that were kept, strictly.

        Raises
        ------
        RunError
            If the weights are of another architecture.
        """
        network = build_network(self.recipe.network, self.recipe.input_size_px)
        load_weights(network, self.folder / "weights.safetensors")
        return network.eval()


def open_run(folder: Path) -> Run:
    """Open a complete run.

    Raises
    ------
    RunError
        If the folder is not a run, not complete, or of another format.
    """
    record = read_record(folder)
    if record.status != "complete":
        raise RunError(
            f"the run {folder} is not complete: finish it with `giemsa train ... --output {folder} --resume`"
        )
    return Run(folder, load_recipe(folder / "recipe.toml"), record)


def read_record(folder: Path) -> RunRecord:
    """Read `run.json`.

    Raises
    ------
    RunError
        If there is none, it is damaged, or of another format.
    """
    path = folder / "run.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{folder} is not a run folder: there is no run.json in it") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read: {error}") from None
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise RunError(f"the run {folder} is of format {found}, and this version reads format {FORMAT}: train it again")
    try:
        return RunRecord(**content)
    except TypeError as error:
        raise RunError(
            f"{path} has other entries than this version writes ({str(error).partition(') ')[2]}): train it again"
        ) from None


def write_record(folder: Path, record: RunRecord) -> None:
    """Write `run.json`, beside its place and renamed."""
    write_file(folder / "run.json", json.dumps(asdict(record), indent=2) + "\n")


def save_weights(network: nn.Module, path: Path) -> None:
    """Write weights as safetensors, beside their place and renamed, and their digest."""
    write_file(path, save({name: tensor.contiguous() for name, tensor in network.state_dict().items()}))
    seal(path)


def load_weights(network: nn.Module, path: Path) -> None:
    """Load safetensors into a network, strictly.

    Raises
    ------
    RunError
        If the file is missing, damaged or not of this architecture.
    """
    if not path.is_file():
        raise RunError(f"there are no weights at {path}")
    if seal_path(path).exists() and not is_sealed(path):  # runs of version 0.1 have none
        raise RunError(
            f"{path} is damaged: it is not the file whose digest is in {seal_path(path).name}; train it again"
        )
    try:
        weights = load_file(path)
    except Exception as error:
        raise RunError(f"{path} is not a safetensors file: {error}") from None
    expected = network.state_dict()
    for name in _SINCE_0_2:
        if name in expected:
            weights.setdefault(name, expected[name])
    missing, unknown = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    misshapen = [name for name in expected.keys() & weights.keys() if expected[name].shape != weights[name].shape]
    for names, what in ((missing, "lack"), (unknown, "have besides"), (sorted(misshapen), "have in another shape")):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise RunError(f"{path} holds weights of another architecture: they {what} {names[0]}{more}")
    network.load_state_dict(weights)
