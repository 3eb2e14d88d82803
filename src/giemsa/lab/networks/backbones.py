"""Networks for natural pictures with a new head on them: timm's, and torchvision's SqueezeNet.

A backbone can be cut off after any of its feature levels. For these cells inner levels can be the better ones
(Rajaraman et al. 2018, PeerJ 6:e4568): a red cell's details are finer than what the last level of a network
for photographs resolves.

Behind the cut stands the mean over the map of features, standardised, and then, without hidden layers, a linear head.
Taking the mean and judging is the same as judging each place and taking the mean, so such a network has exact evidence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import giemsa.lab.networks.torchvision_fix  # noqa: F401  timm imports torchvision
from giemsa.errors import RecipeError
from giemsa.lab.networks.scores import Normalise, Scores, single_logit

if TYPE_CHECKING:
    from giemsa.lab.recipes import BackboneSettings

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
SQUEEZENET: Final = "squeezenet1_1"
_SQUEEZENET_LEVELS: Final = ("1", "4", "7", "12")
"""Last module of `features` at each resolution: 1/2, 1/4, 1/8 and 1/16 of the input's."""
_SQUEEZENET_WIDTHS: Final = (64, 128, 256, 512)
_NORMS: Final = (nn.modules.batchnorm._BatchNorm,)


class Backbone(nn.Module):
    """A backbone, cut off after a feature level, and a head.

    Parameters
    ----------
    settings : BackboneSettings
        Model, level, head. Weights are random: `giemsa.lab.networks.pretrained` loads others.

    Attributes
    ----------
    base : Module
        The model under its own library's names.
    levels : tuple of str
        The module of `base` with which each level ends, up to the cut.
    width : int
        Number of features.
    keeps_statistics : bool
        Whether the base's norms stay as they are while it is trained, as those of pretrained weights do.
    """

    def __init__(self, settings: BackboneSettings) -> None:
        super().__init__()
        self.base, self.levels, self.width, mean, std = _build_base(settings)
        self.normalise = Normalise(
            mean if settings.mean == "weights" else settings.mean, std if settings.std == "weights" else settings.std
        )
        # A pre-activation network that is cut off has not had its last ReLU.
        cut_off = settings.level != "last" and settings.model.startswith("resnetv2")
        self.activation = nn.ReLU() if cut_off else nn.Identity()
        self.standardise = Standardise(self.width)
        hidden: list[nn.Module] = []
        width = self.width
        for hidden_width in settings.hidden:
            hidden += [nn.Linear(width, hidden_width), nn.ReLU()]
            width = hidden_width
        self.hidden = nn.Sequential(*hidden)
        self.dropout = nn.Dropout(settings.dropout)
        self.head = nn.Linear(width, settings.outputs)
        self.keeps_statistics = settings.weights != "none"

    def forward(self, cells: Tensor) -> Scores:
        """Scores of cells, float [N, 3, S, S], RGB in 0..1."""
        features = self.features(cells)
        if self.training or len(self.hidden):
            return Scores(self.judge(features.mean((2, 3))), None)
        each = F.conv2d(self.standardise(features), self.head.weight[:, :, None, None], self.head.bias)
        evidence = (each[:, 0] if each.shape[1] == 1 else each[:, 1] - each[:, 0]).float()
        return Scores(evidence.mean((1, 2)), evidence)

    def features(self, cells: Tensor) -> Tensor:
        """Features, [N, width, h, w], of cells, float [N, 3, S, S]."""
        features: Tensor = self.activation(self.base.forward_features(self.normalise(cells)))  # type: ignore[operator]
        return features

    def judge(self, pooled: Tensor) -> Tensor:
        """Logits, [N], of mean features, [N, width]."""
        return single_logit(self.head(self.dropout(self.hidden(self.standardise(pooled)))))

    def head_parameters(self) -> list[nn.Parameter]:
        """Modules that are new, not pretrained."""
        return [*self.hidden.parameters(), *self.head.parameters()]

    def freeze(self, trained_levels: int | str) -> None:
        """Make only the head and the given number of levels before it trainable; `all` makes everything so."""
        names = [name for name, _ in self.base.named_parameters()]
        first = 0
        if trained_levels != "all":
            kept = len(self.levels) - int(trained_levels)
            first = _end_of(self.levels[kept - 1], names) if kept > 0 else 0
            first = len(names) if trained_levels == 0 else first
        for place, parameter in enumerate(self.base.parameters()):
            parameter.requires_grad_(place >= first)

    def train(self, mode: bool = True) -> Backbone:
        """Switch to training mode; pretrained norms keep their statistics, as in Keras' guide to fine-tuning."""
        super().train(mode)
        if self.keeps_statistics:
            for module in self.base.modules():
                if isinstance(module, _NORMS):
                    module.eval()
        return self


class Standardise(nn.Module):
    """Features standardised by the mean and standard deviation measured once on the training cells.

    What a network holds where it is cut off may lie in any range, in a hundredth as well as in hundreds, and a head on
    features of a hundredth needs a hundred times as many steps. Until it is measured it changes nothing.
    """

    DEAD = 0.1
    """Share of the common deviation below which a feature is not scaled up to it."""

    mean: Tensor
    std: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))

    def measure(self, pooled: Tensor) -> None:
        """Set mean and standard deviation from mean features, [N, width]."""
        variance = pooled.double().var(0, correction=0)
        common = variance.mean()
        if common > 0:
            self.mean.copy_(pooled.double().mean(0))
            self.std.copy_((variance + self.DEAD**2 * common).sqrt())

    def forward(self, features: Tensor) -> Tensor:
        """Standardised features of the same shape, [N, width] or [N, width, h, w]."""
        shape = (1, -1) if features.ndim == 2 else (1, -1, 1, 1)
        return (features - self.mean.view(shape)) / self.std.view(shape)


def whole_model(settings: BackboneSettings) -> nn.Module:
    """Model as its library defines it, with its ImageNet head and random weights.

    Raises
    ------
    RecipeError
        If there is no such model.
    """
    if settings.model == SQUEEZENET:
        from torchvision.models import squeezenet1_1

        model: nn.Module = squeezenet1_1()
        return model
    return _timm_model(settings.model)


def count_levels(settings: BackboneSettings) -> int:
    """Number of feature levels of the whole model."""
    if settings.model == SQUEEZENET:
        return len(_SQUEEZENET_LEVELS)
    with torch.device("meta"):
        model: Any = _timm_model(settings.model)
    return len(model.feature_info)


class _SqueezeNet(nn.Module):
    """torchvision's SqueezeNet 1.1 under its own names, cut off after a level."""

    def __init__(self, level: int) -> None:
        super().__init__()
        from torchvision.models import squeezenet1_1

        self.features = squeezenet1_1().features[: int(_SQUEEZENET_LEVELS[level]) + 1]

    def forward_features(self, cells: Tensor) -> Tensor:
        """Features of normalised cells."""
        features: Tensor = self.features(cells)
        return features


def _build_base(
    settings: BackboneSettings,
) -> tuple[nn.Module, tuple[str, ...], int, tuple[float, ...], tuple[float, ...]]:
    if settings.model == SQUEEZENET:
        level = _chosen_level(settings, len(_SQUEEZENET_LEVELS))
        names = tuple(f"features.{name}" for name in _SQUEEZENET_LEVELS[: level + 1])
        return _SqueezeNet(level), names, _SQUEEZENET_WIDTHS[level], IMAGENET_MEAN, IMAGENET_STD
    model: Any = _timm_model(settings.model)
    info = list(model.feature_info)
    level = _chosen_level(settings, len(info))
    width = model.num_features if level == len(info) - 1 else info[level]["num_chs"]
    mean, std = tuple(model.pretrained_cfg["mean"]), tuple(model.pretrained_cfg["std"])
    model.prune_intermediate_layers([level], prune_norm=False, prune_head=True)
    if settings.stem_norm:
        _insert_stem_norm(model, settings.model)
    return model, tuple(str(one["module"]) for one in info[: level + 1]), width, mean, std


def _timm_model(name: str) -> nn.Module:
    import difflib

    import timm

    if not timm.is_model(name):
        nearest = difflib.get_close_matches(name, [*timm.list_models(), SQUEEZENET], n=3)
        which = f"the nearest names are {', '.join(nearest)}" if nearest else "see timm.list_models()"
        raise RecipeError(f"network.model = {name!r} is not known to timm: {which}")
    model: nn.Module = timm.create_model(name, pretrained=False)
    if not hasattr(model, "prune_intermediate_layers") or not getattr(model, "feature_info", None):
        raise RecipeError(f"network.model = {name!r} has no feature levels in timm: take another, such as resnet18")
    return model


def _chosen_level(settings: BackboneSettings, levels: int) -> int:
    if settings.level == "last":
        return levels - 1
    if settings.level >= levels:
        raise RecipeError(f"network.level = {settings.level} is impossible: {settings.model} has 0 to {levels - 1}")
    return settings.level


def _insert_stem_norm(model: Any, name: str) -> None:  # noqa: ANN401
    from timm.layers.norm_act import BatchNormAct2d

    stem: Any = getattr(model, "stem", None)
    if not hasattr(stem, "conv"):
        raise RecipeError(f"network.stem_norm is for resnetv2 models, and {name} has no such stem: leave it out")
    model.stem = nn.Sequential()
    for part, module in stem.named_children():
        model.stem.add_module(part, module)
        if part == "conv":
            model.stem.add_module("norm", BatchNormAct2d(module.out_channels))


def _end_of(module: str, names: list[str]) -> int:
    """Position after the last parameter that belongs to a module, or to one before it."""
    own = [place for place, name in enumerate(names) if name.startswith(f"{module}.")]
    if own:
        return own[-1] + 1
    # An activation or a pooling has no parameters: the level ends with the module before it.
    stem, _, number = module.rpartition(".")
    if number.isdecimal():
        before = [
            place
            for place, name in enumerate(names)
            if name.startswith(f"{stem}.") and int(name[len(stem) + 1 :].partition(".")[0]) <= int(number)
        ]
        return before[-1] + 1 if before else 0
    return sum(name.partition(".")[0] in {"conv1", "bn1", "conv_stem", "stem"} for name in names)
