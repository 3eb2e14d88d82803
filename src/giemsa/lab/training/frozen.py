"""Training the head of a backbone whose base is frozen, on features that are computed once.

The mean features of a cell do not change while the base does not. They are computed once for all cells of a training,
kept in the user's cache under a name made of everything that they depend on, and the head trains on them in seconds.
Where cells are to be disturbed there is nothing to keep: their features are computed anew in each epoch.
"""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from giemsa.data.cache import hold_lock
from giemsa.data.folders import cache_folder
from giemsa.files import is_sealed, replace_file, seal
from giemsa.lab.recipes import BackboneSettings
from giemsa.lab.training.augment import Augment
from giemsa.lab.training.cells import SeededShuffle
from giemsa.lab.training.curves import write_metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from giemsa.lab.networks.backbones import Backbone
    from giemsa.lab.recipes import Recipe
    from giemsa.lab.training.cells import Targets

_BATCH = 64


@dataclass(frozen=True)
class FrozenCells:
    """What the frozen epochs are given.

    Attributes
    ----------
    pixels : (N, S, S, 3) ndarray of uint8
        Aligned with the index.
    targets : Targets
        Likewise.
    train, validation : (M,) ndarray of intp
        Rows; `validation` may be empty.
    digest : str
        Of the index, for the name of the cached features.
    """

    pixels: NDArray[np.uint8]
    targets: Targets
    train: NDArray[np.intp]
    validation: NDArray[np.intp]
    digest: str


def train_head(
    network: Backbone,
    recipe: Recipe,
    cells: FrozenCells,
    folder: Path,
    *,
    device: torch.device | None = None,
    say: Callable[[str], None] = print,
) -> list[float]:
    """Train the head for the recipe's frozen epochs, in place, and write `frozen_metrics.csv`.

    On a pretrained base the head sees features standardised by those of the undisturbed cells to be trained on. The
    learning rate is the recipe's; seeds, batches and disturbances depend on the seed and the epoch alone.

    Returns
    -------
    list of float
        Seconds of each epoch; the first one's include computing the features.
    """
    device = device or torch.device("cpu")
    network.to(device).eval()
    started = time.perf_counter()
    clean = _features(network, recipe, cells, device, say)
    if network.keeps_statistics:  # else the norms will change the features' range as soon as the base is trained
        network.standardise.measure(clean[: len(cells.train)])
    parameters = network.head_parameters()
    settings = recipe.optimiser
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}.get(settings.name)
    optimiser: torch.optim.Optimizer = (
        kind(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        if kind
        else torch.optim.SGD(parameters, lr=settings.learning_rate, momentum=0.9, nesterov=True)
    )
    rows: list[tuple[float, ...]] = []
    seconds = []
    for epoch in range(recipe.frozen_epochs):
        losses = [
            _step(network, recipe, features, targets, weights, optimiser)
            for features, targets, weights in _batches(network, recipe, cells, clean, epoch, device)
        ]
        train_loss, train_accuracy = (float(np.mean([loss[place] for loss in losses])) for place in (0, 1))
        rows.append((epoch, train_loss, train_accuracy, *_validate(network, cells, clean, device)))
        seconds.append(round(time.perf_counter() - started, 2))
        started = time.perf_counter()
    write_metrics(folder / "frozen_metrics.csv", rows)
    network.cpu()
    return seconds


def _step(
    network: Backbone,
    recipe: Recipe,
    features: Tensor,
    targets: Tensor,
    weights: Tensor,
    optimiser: torch.optim.Optimizer,
) -> tuple[float, float]:
    network.dropout.train()
    logit = network.judge(features)
    smoothing = recipe.labels.smoothing
    soft = targets * (1 - 2 * smoothing) + smoothing
    each = F.binary_cross_entropy_with_logits(logit, soft, reduction="none")
    loss = (each * weights).sum() / weights.sum()
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    if recipe.optimiser.gradient_clip:
        torch.nn.utils.clip_grad_norm_(network.head_parameters(), recipe.optimiser.gradient_clip)
    optimiser.step()
    return float(loss.detach()), float(((logit > 0) == (targets > 0.5)).float().mean())


def _batches(
    network: Backbone, recipe: Recipe, cells: FrozenCells, clean: Tensor, epoch: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    order = SeededShuffle(cells.train, recipe.training.seed)
    order.set_epoch(epoch)
    shuffled = np.fromiter(order, np.intp)
    augment = None if recipe.augmentation.is_off else Augment(recipe.augmentation)
    place = {int(row): index for index, row in enumerate(np.concatenate([cells.train, cells.validation]))}
    size = recipe.training.batch_size
    for number, start in enumerate(range(0, len(shuffled), size)):
        rows = shuffled[start : start + size]
        targets = torch.from_numpy(cells.targets.positive[rows].astype(np.float32)).to(device)
        weights = torch.from_numpy(cells.targets.weight[rows]).to(device)
        if augment is None:
            yield clean[[place[int(row)] for row in rows]], targets, weights
            continue
        seed = np.random.SeedSequence((recipe.training.seed, epoch, number)).generate_state(1, np.uint64)[0]
        generator = torch.Generator(device).manual_seed(int(seed >> 1))
        disturbed = augment(torch.from_numpy(cells.pixels[rows]).to(device), targets, generator)
        yield _mean_features(network, disturbed), targets, weights


def _validate(network: Backbone, cells: FrozenCells, clean: Tensor, device: torch.device) -> tuple[float, float]:
    if not len(cells.validation):
        return math.nan, math.nan
    network.dropout.eval()
    with torch.no_grad():
        logit = network.judge(clean[len(cells.train) :])
    targets = torch.from_numpy(cells.targets.positive[cells.validation].astype(np.float32)).to(device)
    weights = torch.from_numpy(cells.targets.weight[cells.validation]).to(device)
    each = F.binary_cross_entropy_with_logits(logit, targets, reduction="none")
    right = ((logit > 0) == (targets > 0.5)).float().mean()
    return float((each * weights).sum() / weights.sum()), float(right)


def _features(
    network: Backbone, recipe: Recipe, cells: FrozenCells, device: torch.device, say: Callable[[str], None]
) -> Tensor:
    """Compute the mean features of the cells to train and to validate on, in this order, or open them.

    They are kept in the order of the cells, so that another split of the same cells finds them.
    """
    wanted = np.concatenate([cells.train, cells.validation])
    rows = np.sort(wanted)
    folder = cache_folder() / "features"
    path = folder / f"{_key(network, recipe, cells, rows)}.npy"
    folder.mkdir(parents=True, exist_ok=True)
    with hold_lock(path.with_name(f"{path.name}.lock")):
        if is_sealed(path):
            return torch.from_numpy(np.load(path)[np.searchsorted(rows, wanted)]).to(device)
        say(f"Computing {network.width} features of {len(rows):,} cells, once.")
        found = np.empty((len(rows), network.width), np.float32)
        for start in range(0, len(rows), _BATCH):
            chosen = rows[start : start + _BATCH]
            rgb = torch.from_numpy(cells.pixels[chosen]).to(device).permute(0, 3, 1, 2).float().div(255)
            found[start : start + len(chosen)] = _mean_features(network, rgb).cpu().numpy()
        with replace_file(path) as partial:
            np.save(partial, found)
        seal(path)
    return torch.from_numpy(found[np.searchsorted(rows, wanted)]).to(device)


def _mean_features(network: Backbone, rgb: Tensor) -> Tensor:
    with torch.no_grad():
        return network.features(rgb).mean((2, 3)).float()


def _key(network: Backbone, recipe: Recipe, cells: FrozenCells, rows: NDArray[np.intp]) -> str:
    """Name features after everything that they depend on."""
    settings = recipe.network
    assert isinstance(settings, BackboneSettings)
    digest = hashlib.sha256(
        f"features 1, OpenCV {cv2.__version__}, torch {torch.__version__}, {settings.model} up to {settings.level}, "
        f"{network.normalise.mean.flatten().tolist()}, {network.normalise.std.flatten().tolist()}, "
        f"{recipe.input_size_px} px, {cells.digest}\n".encode()
    )
    digest.update(np.ascontiguousarray(rows, np.int64).tobytes())
    for name, tensor in network.base.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:40]
