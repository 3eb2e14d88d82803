"""The notebooks' networks: a sequence of convolutions and poolings, then dense layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from giemsa.lab.networks.scores import Normalise, Scores, single_logit

if TYPE_CHECKING:
    from giemsa.lab.recipes import SequentialCnnSettings


class SequentialCnn(nn.Module):
    """Blocks of convolutions, ReLU and 2 x 2 max pooling, then dense layers, which leave no map of evidence.

    Parameters
    ----------
    settings : SequentialCnnSettings
        Widths of blocks and dense layers, padding, outputs.
    input_size_px : int
        The dense layers' size depends on it.
    """

    def __init__(self, settings: SequentialCnnSettings, input_size_px: int) -> None:
        super().__init__()
        self.normalise = Normalise(settings.mean, settings.std)
        shrink = 0 if settings.padding == "same" else 2
        layers: list[nn.Module] = []
        width, side = 3, input_size_px
        for block_width in settings.widths:
            for _ in range(settings.convolutions):
                layers.append(nn.Conv2d(width, block_width, 3, padding=settings.padding))
                if settings.batch_norm:
                    layers.append(nn.BatchNorm2d(block_width))
                layers.append(nn.ReLU())
                width, side = block_width, side - shrink
            layers.append(nn.MaxPool2d(2))
            side //= 2
        self.features = nn.Sequential(*layers)
        dense: list[nn.Module] = [nn.Flatten()]
        width *= side * side
        for dense_width in settings.dense:
            dense += [nn.Linear(width, dense_width), nn.ReLU()]
            width = dense_width
        if settings.dropout:
            dense.append(nn.Dropout(settings.dropout))
        self.head = nn.Sequential(*dense, nn.Linear(width, settings.outputs))

    def forward(self, cells: Tensor) -> Scores:
        """Scores of cells, float [N, 3, S, S], RGB in 0..1."""
        return Scores(single_logit(self.head(self.features(self.normalise(cells)))), None)
