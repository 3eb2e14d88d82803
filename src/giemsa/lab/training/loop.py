"""Train a recipe on labelled cells, and leave a run folder behind.

Lightning runs the loop. What it is given here makes a training repeatable and interruptible: the order of the cells
and their disturbances depend on the seed, the epoch and the batch alone, the last two checkpoints are kept, so that
one is whole whenever the process is killed, and the weights that are kept are a moving average.
"""

from __future__ import annotations

import giemsa.lab.networks.torchvision_fix  # noqa: F401 Lightning imports torchvision

# isort: split
import logging
import math
import platform
import sys
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import lightning
import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock, Timeout
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from giemsa.errors import RunError
from giemsa.files import replace_file, write_file
from giemsa.lab.networks.building import (
    RelativeColour,
    ResidualCnn,
    Scores,
    build_network,
    check_network,
    count_parameters,
)
from giemsa.lab.recipes import BackboneSettings
from giemsa.lab.training.allocator import keep_freed_memory
from giemsa.lab.training.augment import Augment
from giemsa.lab.training.cells import (
    CellDataset,
    Targets,
    choose_targets,
    judged_batch_size,
    ordered_loader,
    require_both_classes,
    training_loader,
)
from giemsa.lab.training.checkpoints import SealedCheckpoints, check_checkpoint
from giemsa.lab.training.company import Company, field_colours, photographs_of
from giemsa.lab.training.curves import EPOCH_METRICS, draw_training, read_run_metrics, write_metrics
from giemsa.lab.training.runs import Run, RunRecord, open_run, read_record, save_weights, write_record
from giemsa.spreadsheets import GuardedWriter
from giemsa.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lightning.pytorch.utilities.types import OptimizerLRScheduler
    from numpy.typing import NDArray

    from giemsa.data.index import CellIndex
    from giemsa.data.labels import LabelSets
    from giemsa.lab.recipes import Recipe
    from giemsa.lab.training.cells import Batch
    from giemsa.lab.training.laboratories import LaboratoryCells

CHECKPOINTS_KEPT = 2
"""A checkpoint that is being written when the process is killed may be lost; the one before it is whole."""
CELL_SHARE: Final = 0.3
"""Of the loss of being a cell, beside the loss of parasitized against uninfected."""
FIELD_NOISE: Final = 0.04
"""Standard deviation of the logarithm of a field's colour in training: it is estimated from few cells."""
_ALIKE: Final = 1e-4
"""Logits of all validation cells within this: dead, since even a network at its random start spreads them more."""


@dataclass(frozen=True)
class TrainingData:
    """What one training is given.

    Attributes
    ----------
    index : CellIndex
        The labelled cells.
    labels : LabelSets
        Aligned with the index.
    pixels : (N, S, S, 3) ndarray of uint8
        The cells, aligned with the index, in the recipe's input size.
    train, validation : (M,) ndarray of intp
        Rows of the index; one that stands several times in `train` is shown so often an epoch. `validation` may be
        empty.
    split_digest, split_part : str
        Which split, and what of it is held back.
    laboratories : LaboratoryCells or None
        What of other laboratories may be trained on, where the recipe asks for it.
    """

    index: CellIndex
    labels: LabelSets
    pixels: NDArray[np.uint8]
    train: NDArray[np.intp]
    validation: NDArray[np.intp]
    split_digest: str = ""
    split_part: str = ""
    laboratories: LaboratoryCells | None = None

    def say_without_split(self) -> str:
        """Say what is trained on where no split was given."""
        if self.split_part:
            return (
                f"No --split: {len(self.train)} cells of the folder train/ are trained on, and {len(self.validation)} "
                "of valid/ validate; the rest is left alone."
            )
        return "No --split: every cell is trained on, and nothing is left to validate on."


def train(
    recipe: Recipe,
    data: TrainingData,
    folder: Path,
    *,
    resume: bool = False,
    command: str = "",
    threads: int | None = None,
    progress: bool = False,
    initial: nn.Module | None = None,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Train a recipe.

    A backbone's head is trained alone for the recipe's frozen epochs, on features that are computed once; what epochs
    are left train the levels that the recipe names, at its lower rate.

    The number of threads, the seed of PyTorch's generator and what malloc keeps (see `keep_freed_memory`) are set
    for the whole process.

    Parameters
    ----------
    recipe : Recipe
        How to train.
    data : TrainingData
        What to train on.
    folder : Path
        Where the run goes. It must not exist, unless `resume` is set.
    resume : bool
        Go on from the last checkpoint in `folder`; a complete run is returned as it is.
    command : str
        Stands in the record.
    threads : int, optional
        Of PyTorch on the CPU; all cores by default.
    progress : bool
        Show a progress bar.
    initial : Module, optional
        A network as `build_network` makes it from this recipe, whose weights are begun with instead of random ones.
    callbacks : sequence of Callback
        Given to Lightning besides those that every training has.

    Raises
    ------
    RunError
        If the folder is taken, or what is to be resumed was another training, or is running in another process.
    DataError
        If a class is missing from the cells to be trained on.
    """
    recipe = _resolve(recipe)
    targets = choose_targets(data.labels, recipe.labels)
    used = data.train[targets.weight[data.train] > 0]
    require_both_classes(targets, used, "training")
    record = _new_record(recipe, data, targets, used, command)
    if resume and folder.exists():
        previous = _check_resumable(folder, record)
        if previous.status == "complete":
            return open_run(folder)
    else:
        _start_folder(folder, recipe, record, data, used)
    with _alone(folder):
        if threads:
            torch.set_num_threads(threads)
        keep_freed_memory()
        lightning.seed_everything(recipe.training.seed, verbose=False)
        started = time.perf_counter()
        network, weights = _first_network(recipe, initial)
        validation = data.validation[targets.weight[data.validation] > 0]
        device, precision = "cpu", "32-true"
        seconds: list[float] = []
        earlier = 0.0
        if recipe.frozen_epochs:
            device, seconds = _train_frozen(recipe, network, data, targets, used, validation, folder)
        if recipe.training.epochs > recipe.frozen_epochs:
            log = _EpochLog(folder / "metrics.csv")
            trainer = _make_trainer(
                recipe, folder, [log, *callbacks], has_validation=len(validation) > 0, progress=progress
            )
            company = None
            if not recipe.laboratories.is_off:
                company = Company(
                    recipe.laboratories,
                    data.pixels,
                    targets,
                    data.labels,
                    used,
                    data.laboratories,
                    recipe.training.seed,
                )
            dataset = CellDataset(data.pixels, targets, _field_colours(recipe, data))
            network = _fit(recipe, trainer, network, dataset, used, validation, company, resume=resume)
            device, precision = str(trainer.strategy.root_device), str(trainer.precision)
            seconds, earlier = seconds + log.seconds, log.earlier_seconds
        fit_novelty(network, data.pixels, np.unique(used), data.laboratories)
        save_weights(network, folder / "weights.safetensors")
        disturbed = not recipe.augmentation.is_off
        draw_training(read_run_metrics(folder), recipe.name, folder / "training.png", disturbed=disturbed)
        record = replace(
            record,
            status="complete",
            device=device,
            precision=precision,
            threads=torch.get_num_threads(),
            timings={"seconds": round(earlier + time.perf_counter() - started, 1), "seconds_per_epoch": seconds},
            weights=weights,
            parameters=count_parameters(network),
        )
        write_record(folder, record)
        return open_run(folder)


def predict_logits(network: nn.Module, pixels: NDArray[np.uint8], rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """Score cells with a network in fp32 on the CPU.

    Returns
    -------
    (M,) ndarray of float32
        A logit for each row.
    """
    network.eval()
    out = [np.empty(0, np.float32)]
    with torch.inference_mode():
        batch_size = judged_batch_size(pixels.shape[1])
        for start in range(0, len(rows), batch_size):
            cells = torch.from_numpy(pixels[rows[start : start + batch_size]])
            out.append(network(to_rgb(cells)).logit.numpy())
    return np.concatenate(out)


def look(
    network: nn.Module,
    pixels: NDArray[np.uint8],
    rows: NDArray[np.intp],
    field: NDArray[np.float32] | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Return everything that a network says of cells, in fp32 on the CPU.

    Parameters
    ----------
    network : Module
        Any that `build_network` makes.
    pixels : (N, S, S, 3) ndarray of uint8
        Cells.
    rows : (M,) ndarray of intp
        Those that are looked at.
    field : (M, 3) ndarray of float32, optional
        The colour that each is judged by in place of its own; 0 for its own.

    Returns
    -------
    dict
        `logit`, float32 [M]; `cell` and `novelty` where the network has them.
    """
    network.eval()
    found: dict[str, list[NDArray[np.float32]]] = {"logit": [np.empty(0, np.float32)]}
    with torch.inference_mode():
        batch_size = judged_batch_size(pixels.shape[1])
        for start in range(0, len(rows), batch_size):
            cells = to_rgb(torch.from_numpy(pixels[rows[start : start + batch_size]]))
            given = None if field is None else torch.from_numpy(field[start : start + batch_size])
            scores: Scores = network(cells) if given is None else network(cells, given)
            found["logit"].append(scores.logit.numpy())
            if scores.cell is not None:
                found.setdefault("cell", []).append(scores.cell.numpy())
            if scores.novelty is not None:
                found.setdefault("novelty", []).append(scores.novelty.numpy())
    return {name: np.concatenate(parts) for name, parts in found.items()}


def fit_novelty(
    network: nn.Module,
    pixels: NDArray[np.uint8],
    rows: NDArray[np.intp],
    laboratories: LaboratoryCells | None,
) -> None:
    """Choose the prototypes that novelty is measured against, of the red cells that were trained on.

    The distance that counts as half novel is the one that one in a hundred of these exceeds, until cross-validation
    says what unseen patients' cells do.
    """
    if not isinstance(network, ResidualCnn) or network.novelty is None:
        return
    network.eval()
    parts = [pixels[part] for part in np.array_split(rows, max(1, len(rows) // 256))]
    if laboratories is not None:
        red = laboratories.of("red cell")
        parts += [laboratories.pixels[part] for part in np.array_split(red, max(1, len(red) // 256))]
    with torch.inference_mode():
        pooled = torch.cat([network.pooled(to_rgb(torch.from_numpy(part))) for part in parts])
        network.novelty.fit(pooled)
        distance = torch.cat([network.novelty.distance(part) for part in pooled.split(4096)])
        network.novelty.middle.copy_(torch.quantile(distance.double(), 0.99))


def to_rgb(cells: Tensor) -> Tensor:
    """Map uint8 [N, S, S, 3] to float 0..1 [N, 3, S, S]."""
    return cells.permute(0, 3, 1, 2).float().div(255)


class CellTraining(lightning.LightningModule):
    """The loss, the optimiser and the moving average of one training."""

    def __init__(
        self, recipe: Recipe, network: nn.Module, steps_per_epoch: int, company: Company | None = None
    ) -> None:
        super().__init__()
        self.company = company
        self._augment_in_field = Augment(recipe.augmentation, cut_out=False)
        self.recipe = recipe
        self.network = network
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in the stubs
        self.average = AveragedModel(self.network, multi_avg_fn=_ema(recipe.training.ema_decay), use_buffers=True)
        self._augment = Augment(recipe.augmentation)
        self._steps_per_epoch = steps_per_epoch
        self._judged: list[Tensor] = []
        self._said_alike = False

    def kept_network(self) -> nn.Module:
        """Return the network whose weights are kept: the moving average, or the last where there is none."""
        return self.average.module if self.recipe.training.ema_decay else self.network

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Disturb a batch, with what accompanies it, and score it."""
        cells, targets, weights, field = batch
        seeds = (self.recipe.training.seed, self.current_epoch, batch_index, self.global_rank)
        state = np.random.SeedSequence(seeds).generate_state(1, np.uint64)
        generator = torch.Generator(cells.device).manual_seed(int(state[0] >> 1))
        labelled = len(cells)
        disturbed = self._augment(cells, targets, generator)
        is_cell = torch.ones_like(targets)
        joined = self.company.draw(labelled, seeds) if self.company is not None else None
        if joined is not None:
            others = joined.cells.to(cells.device)
            positive = joined.positive.to(cells.device)
            disturbed = torch.cat([disturbed, self._augment_in_field(others, positive, generator)])
            targets = torch.cat([targets, positive])
            weights = torch.cat([weights, joined.weight.to(cells.device)])
            is_cell = torch.cat([is_cell, joined.is_cell.to(cells.device)])
            field = torch.cat([field, joined.field.to(cells.device)])
            cells = torch.cat([cells, others])
        scores = self._scored(cells, disturbed, field, generator)
        smoothing = self.recipe.labels.smoothing
        soft = targets * (1 - 2 * smoothing) + smoothing
        loss = _weighted_loss(scores.logit, soft, weights)
        if scores.cell is not None:
            said = ~torch.isnan(is_cell)
            wanted = is_cell[said] * (1 - smoothing) + smoothing / 2
            loss = loss + CELL_SHARE * F.binary_cross_entropy_with_logits(scores.cell[said].float(), wanted)
        self.log("train_loss", loss, on_epoch=True, on_step=False, prog_bar=True, batch_size=len(cells))
        right = ((scores.logit > 0) == (targets > 0.5))[:labelled].float().mean()
        self.log("train_accuracy", right, on_epoch=True, on_step=False, batch_size=labelled)
        return loss

    def _scored(self, cells: Tensor, disturbed: Tensor, field: Tensor, generator: torch.Generator) -> Scores:
        """Score disturbed cells, some of them by their field's colour instead of their own.

        What lies between a cell's own colour and its field's is kept in the disturbed cell's colours, since its stain
        was changed and its field's with it.
        """
        share = self.recipe.laboratories.field_colour
        network = self.network
        if not share or not isinstance(network, ResidualCnn) or not isinstance(network.colour, RelativeColour):
            scores: Scores = network(disturbed)
            return scores
        with torch.no_grad(), torch.autocast(cells.device.type, enabled=False):
            before = network.colour.reference(to_rgb(cells))[:, :, 0, 0]
            after = network.colour.reference(disturbed.float())[:, :, 0, 0]
            noise = torch.randn(field.shape, generator=generator, device=field.device) * FIELD_NOISE
            given = after * (field + 0.02) / (before + 0.02) * torch.exp(noise)
            chosen = torch.rand(len(field), generator=generator, device=field.device) < share
            given = torch.where((chosen & (field.amin(1) > 0))[:, None], given, torch.zeros_like(given))
        scores = network(disturbed, given)
        return scores

    def validation_step(self, batch: Batch, _batch_index: int) -> None:
        """Score undisturbed cells with the weights that would be kept."""
        cells, targets, weights, _ = batch
        logit = self.kept_network()(to_rgb(cells)).logit
        self.log("validation_loss", _weighted_loss(logit, targets, weights), prog_bar=True, batch_size=len(cells))
        right = ((logit > 0) == (targets > 0.5)).float().mean()
        self.log("validation_accuracy", right, prog_bar=True, batch_size=len(cells))
        self._judged.append(torch.stack(torch.aminmax(logit.float())))

    def on_validation_epoch_end(self) -> None:
        """Say once if the network answers alike to every cell: its activations have died, and it goes on in vain."""
        judged = torch.cat(self._judged)
        self._judged.clear()
        if float(judged.max() - judged.min()) < _ALIKE and not self._said_alike:
            self._said_alike = True
            _say(
                f"giemsa: after {counted(self.current_epoch + 1, 'epoch')} the network answers alike to every cell and "
                "will hardly learn any more; try a lower optimiser.learning_rate or another training.seed"
            )

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  Lightning's signature
        """Step, then let the average follow."""
        super().optimizer_step(*args, **kwargs)
        if self.recipe.training.ema_decay:
            self.average.update_parameters(self.network)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Weights decay, biases and norms do not; what is frozen is left out."""
        settings = self.recipe.optimiser
        trained = [weight for weight in self.network.parameters() if weight.requires_grad]
        decayed = [weight for weight in trained if weight.ndim > 1]
        free = [weight for weight in trained if weight.ndim <= 1]
        rate = settings.learning_rate
        if self.recipe.frozen_epochs and settings.finetune_learning_rate is not None:
            rate = settings.finetune_learning_rate
        groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": free, "weight_decay": 0.0}]
        optimiser: torch.optim.Optimizer
        if settings.name == "adamw":
            optimiser = torch.optim.AdamW(groups, lr=rate)
        elif settings.name == "adam":
            optimiser = torch.optim.Adam(groups, lr=rate)
        else:
            optimiser = torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True)
        if settings.schedule == "constant":
            return optimiser
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser,
            rate,
            total_steps=self._steps_per_epoch * (self.recipe.training.epochs - self.recipe.frozen_epochs),
            pct_start=settings.warmup,
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _resolve(recipe: Recipe) -> Recipe:
    """Check that the network can take the cells, and cut a backbone off where its weights end."""
    if isinstance(recipe.network, BackboneSettings):
        from giemsa.lab.networks.pretrained import fit_to_weights

        recipe = fit_to_weights(recipe, _say)
    check_network(recipe)
    return recipe


def _first_network(recipe: Recipe, initial: nn.Module | None) -> tuple[nn.Module, dict[str, Any]]:
    """Build the network with the weights that the training begins with, and say where they are from."""
    network = build_network(recipe.network, recipe.input_size_px)
    if initial is not None:
        network.load_state_dict(initial.state_dict())
        return network, {"source": "another network"}
    if isinstance(recipe.network, BackboneSettings):
        from giemsa.lab.networks.backbones import Backbone
        from giemsa.lab.networks.pretrained import load_pretrained

        assert isinstance(network, Backbone)
        return network, load_pretrained(network, recipe.network)
    return network, {"source": "random"}


def _train_frozen(
    recipe: Recipe,
    network: nn.Module,
    data: TrainingData,
    targets: Targets,
    used: NDArray[np.intp],
    validation: NDArray[np.intp],
    folder: Path,
) -> tuple[str, list[float]]:
    """Train a backbone's head alone, then free what the remaining epochs train."""
    from giemsa.lab.networks.backbones import Backbone
    from giemsa.lab.training.frozen import FrozenCells, train_head

    assert isinstance(network, Backbone) and isinstance(recipe.network, BackboneSettings)  # noqa: PT018
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cells = FrozenCells(data.pixels, targets, used, validation, data.index.digest)
    network.freeze(0)
    seconds = train_head(network, recipe, cells, folder, device=device, say=_say)
    network.freeze(recipe.network.trained_levels)
    return str(device), seconds


def _fit(
    recipe: Recipe,
    trainer: lightning.Trainer,
    network: nn.Module,
    dataset: CellDataset,
    used: NDArray[np.intp],
    validation: NDArray[np.intp],
    company: Company | None,
    *,
    resume: bool,
) -> nn.Module:
    """Let Lightning run the epochs, and return the network that is kept."""
    folder = Path(trainer.default_root_dir)
    steps = max(1, len(used) // recipe.training.batch_size)
    module = CellTraining(recipe, network, steps_per_epoch=steps, company=company)
    with _quiet():
        try:
            trainer.fit(
                module,
                training_loader(dataset, used, recipe.training.batch_size, recipe.training.seed),
                ordered_loader(dataset, validation, recipe.input_size_px) if len(validation) else None,
                ckpt_path=_last_checkpoint(folder) if resume else None,
            )
        except SystemExit:  # what Lightning makes of an interruption
            if trainer.interrupted:
                raise KeyboardInterrupt from None
            raise
    _keep_best(recipe, trainer, module)
    return module.kept_network()


def _field_colours(recipe: Recipe, data: TrainingData) -> NDArray[np.float32] | None:
    """Return the colour of each cell's field, where the recipe asks for it."""
    if not recipe.laboratories.field_colour:
        return None
    return field_colours(data.pixels, photographs_of(data.index))


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr)


class _EpochLog(Callback):
    """Figures and seconds of each epoch; those before an interruption come back with the checkpoint.

    Lightning's CSVLogger would begin its file anew.
    """

    def __init__(self, path: Path) -> None:
        self.seconds: list[float] = []
        self.earlier_seconds = 0.0
        self._path = path
        self._rows: list[list[float]] = []
        self._started = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self._rows, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._rows, self.seconds = list(state_dict["rows"]), list(state_dict["seconds"])
        self.earlier_seconds = sum(self.seconds)

    def on_train_epoch_start(self, *_: Any) -> None:  # noqa: ANN401  Lightning's signature
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: lightning.Trainer, *_: Any) -> None:  # noqa: ANN401
        self.seconds.append(round(time.perf_counter() - self._started, 2))
        found = trainer.callback_metrics
        self._rows.append([trainer.current_epoch, *(float(found.get(name, math.nan)) for name in EPOCH_METRICS)])
        write_metrics(self._path, self._rows)


def _weighted_loss(logit: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    each = F.binary_cross_entropy_with_logits(logit.float(), targets, reduction="none")
    return (each * weights).sum() / weights.sum()


def _ema(decay: float) -> Any:  # noqa: ANN401  a callable of PyTorch's own signature
    """Make a moving average that forgets its random start quickly."""

    def update(kept: Sequence[Tensor], last: Sequence[Tensor], steps: Tensor | int) -> None:
        done = int(steps)
        if not kept[0].is_floating_point():  # a norm's count of batches
            torch._foreach_copy_(list(kept), list(last))
            return
        torch._foreach_lerp_(list(kept), list(last), 1 - min(decay, (1 + done) / (10 + done)))

    return update


def _make_trainer(
    recipe: Recipe, folder: Path, given: list[Callback], *, has_validation: bool, progress: bool
) -> lightning.Trainer:
    callbacks: list[Callback] = [
        *given,
        ModelCheckpoint(
            folder / "checkpoints",
            filename="epoch-{epoch:03d}",
            auto_insert_metric_name=False,
            monitor="epoch",
            mode="max",
            save_top_k=CHECKPOINTS_KEPT,
            save_on_train_epoch_end=True,
        ),
    ]
    if recipe.training.patience and has_validation:
        callbacks.append(EarlyStopping("validation_loss", patience=recipe.training.patience))
        callbacks.append(
            ModelCheckpoint(folder / "checkpoints", filename="best", monitor="validation_loss", save_top_k=1)
        )
    if progress:
        callbacks.append(RichProgressBar())
    with _quiet():
        return lightning.Trainer(
            max_epochs=recipe.training.epochs - recipe.frozen_epochs,
            callbacks=callbacks,
            plugins=[SealedCheckpoints()],
            logger=TensorBoardLogger(folder, name="", version="tensorboard"),
            default_root_dir=folder,
            precision=recipe.training.precision,
            gradient_clip_val=recipe.optimiser.gradient_clip or None,
            enable_progress_bar=progress,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=50,
            deterministic="warn" if torch.cuda.is_available() else True,
        )


def _keep_best(recipe: Recipe, trainer: lightning.Trainer, module: CellTraining) -> None:
    """After an early stop, go back to the weights of the best epoch."""
    if not recipe.training.patience:
        return
    best = next(
        (
            Path(callback.best_model_path)
            for callback in trainer.checkpoint_callbacks
            if isinstance(callback, ModelCheckpoint) and callback.monitor == "validation_loss"
        ),
        None,
    )
    if best is not None and best.is_file():
        check_checkpoint(best)
        module.load_state_dict(torch.load(best, map_location="cpu", weights_only=True)["state_dict"])


def _new_record(
    recipe: Recipe, data: TrainingData, targets: Targets, used: NDArray[np.intp], command: str
) -> RunRecord:
    cells = np.unique(used)  # one may be shown several times an epoch
    patients = [data.index.cells[row].patient for row in cells]
    known = all(patient is not None for patient in patients)
    return RunRecord(
        status="training",
        command=command,
        data_digest=data.index.digest,
        split_digest=data.split_digest,
        split_part=data.split_part,
        recipe_digest=recipe.digest,
        patients=sorted({patient for patient in patients if patient is not None}),
        patients_known=known,
        counts={
            "parasitized": int(targets.positive[cells].sum()),
            "uninfected": int((~targets.positive[cells]).sum()),
            "of_donors": int(data.labels.donor[cells].sum()),
            "left_out": len(np.unique(data.train)) - len(cells),
            "validation": len(data.validation),
            **_laboratory_counts(recipe, data),
        },
        versions={
            "python": platform.python_version(),
            **{name: version(name) for name in ("giemsa", "torch", "lightning", "numpy", "opencv-python-headless")},
        },
    )


def _laboratory_counts(recipe: Recipe, data: TrainingData) -> dict[str, int]:
    """Return how many pictures of each other laboratory are trained on."""
    if data.laboratories is None or recipe.laboratories.is_off:
        return {}
    names, counts = np.unique(data.laboratories.laboratory, return_counts=True)
    return {f"of_{name}": int(count) for name, count in zip(names, counts, strict=True)}


def _start_folder(folder: Path, recipe: Recipe, record: RunRecord, data: TrainingData, used: NDArray[np.intp]) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} exists: go on with --resume, or give another --output")
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / "recipe.toml", recipe.to_toml())
    with (
        replace_file(folder / "training_cells.csv") as partial,
        partial.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = GuardedWriter(file)
        writer.writerow(["file", "sha256"])
        rows = np.unique(used)  # a cell may be shown several times an epoch
        writer.writerows((data.index.cells[row].file, data.index.cells[row].sha256) for row in rows)
    write_record(folder, record)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let no other process train into a folder; the system takes the lock back from one that is killed."""
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        message = f"{folder} is being trained by another process: wait for it, or give another --output"
        raise RunError(message) from None


def _check_resumable(folder: Path, record: RunRecord) -> RunRecord:
    previous = read_record(folder)
    for what in ("recipe", "data", "split"):
        name = f"{what}_digest"
        if getattr(previous, name) != getattr(record, name):
            raise RunError(f"{folder} cannot be resumed: it was begun with another {what}; give another --output")
    if previous.split_part != record.split_part:
        raise RunError(f"{folder} cannot be resumed: it held back {previous.split_part!r}, not {record.split_part!r}")
    return previous


def _last_checkpoint(folder: Path) -> Path | None:
    """Find the newest checkpoint that is whole."""
    for path in sorted((folder / "checkpoints").glob("epoch-*.ckpt"), reverse=True):
        try:
            check_checkpoint(path)
            torch.load(path, map_location="cpu", weights_only=True)
        except RunError as error:
            print(f"giemsa: {error}; going on from the one before.", file=sys.stderr)
        except Exception:
            print(f"giemsa: {path.name} was not written to its end; going on from the one before.", file=sys.stderr)
        else:
            return path
    return None


class _quiet(warnings.catch_warnings):  # noqa: N801  used as a word
    """Keep Lightning's advice on workers, loggers and devices off the user's terminal."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        for name in ("lightning.pytorch", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.ERROR)
