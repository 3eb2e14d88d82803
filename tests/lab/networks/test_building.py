from __future__ import annotations

import pytest
import torch

from giemsa.errors import RunError
from giemsa.lab.networks.building import RelativeColour, build_network, count_parameters
from giemsa.lab.recipes import ResidualCnnSettings
from giemsa.lab.training.runs import load_weights, save_weights


def test_the_default_network_has_the_parameters_that_its_card_says():
    # Counted by hand: convolutions k*k*in*out, norms 2 a channel, head 80 + 1.
    stem = 9 * 3 * 16 + 32
    stage1 = 2 * (9 * 16 * 16 + 32)
    stage2 = (9 * 16 * 40 + 80) + (9 * 40 * 40 + 80) + (16 * 40 + 80) + 2 * (9 * 40 * 40 + 80)
    stage3 = (9 * 40 * 80 + 160) + (9 * 80 * 80 + 160) + (40 * 80 + 160) + 2 * (9 * 80 * 80 + 160)
    assert count_parameters(build_network(ResidualCnnSettings(), 64)) == stem + stage1 + stage2 + stage3 + 81


def test_the_mean_of_the_evidence_is_the_logit():
    network = build_network(ResidualCnnSettings(), 64).eval()
    with torch.inference_mode():
        scores = network(torch.rand(3, 3, 64, 64))
    assert scores.logit.shape == (3,)
    assert scores.evidence.shape == (3, 8, 8)
    torch.testing.assert_close(scores.evidence.mean((1, 2)), scores.logit)


def _cell(colour, spot=None, size=64):
    cell = torch.zeros(1, 3, size, size)
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    inside = (y - size / 2) ** 2 + (x - size / 2) ** 2 < (size * 0.45) ** 2
    cell[:, :, inside] = torch.tensor(colour)[None, :, None]
    if spot is not None:
        cell[:, :, 20:28, 20:28] = torch.tensor(spot)[None, :, None, None]
    return cell


@pytest.mark.parametrize("colour", [(0.9, 0.6, 0.6), (0.5, 0.5, 0.7), (0.8, 0.2, 0.5), (0.25, 0.2, 0.25)])
def test_the_reference_colour_is_the_cells_own_and_neither_the_blacks_nor_the_parasites(colour):
    reference = RelativeColour().reference(_cell(colour, spot=(0.4, 0.1, 0.5)))
    assert torch.allclose(reference[0, :, 0, 0], torch.tensor(colour), atol=0.03)


def test_relative_colours_of_the_same_cell_in_another_light_are_nearly_the_same():
    relative = RelativeColour()
    cell = _cell((0.8, 0.6, 0.6), spot=(0.4, 0.2, 0.5))
    difference = (relative(cell) - relative(cell * 0.8)).abs()
    unchanged = (cell - cell * 0.8).abs()
    assert difference.max() < unchanged.max() / 2


def test_an_all_black_picture_gives_finite_scores():
    network = build_network(ResidualCnnSettings(), 64).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 64, 64)).logit.isfinite().all()


def test_weights_survive_being_saved_and_loaded(tmp_path):
    first, second = (build_network(ResidualCnnSettings(), 64) for _ in range(2))
    save_weights(first, tmp_path / "weights.safetensors")
    load_weights(second, tmp_path / "weights.safetensors")
    for one, other in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"widths": (16, 40), "blocks": (1, 2)}, "have besides"),
        ({"widths": (16, 40, 80, 80), "blocks": (1, 2, 2, 1)}, "lack"),
        ({"widths": (16, 40, 96)}, "in another shape"),
    ],
)
def test_weights_of_another_architecture_are_refused(tmp_path, settings, said):
    save_weights(build_network(ResidualCnnSettings(), 64), tmp_path / "weights.safetensors")
    with pytest.raises(RunError, match=said):
        load_weights(build_network(ResidualCnnSettings(**settings), 64), tmp_path / "weights.safetensors")


def test_what_is_not_safetensors_is_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    network = build_network(ResidualCnnSettings(), 64)
    with pytest.raises(RunError, match="no weights at"):
        load_weights(network, path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(RunError, match="not a safetensors file"):
        load_weights(network, path)


def test_colours_can_be_taken_as_they_are():
    network = build_network(ResidualCnnSettings(relative_colour=False), 64)
    assert torch.equal(network.colour(torch.ones(1, 3, 8, 8)), torch.ones(1, 3, 8, 8))
