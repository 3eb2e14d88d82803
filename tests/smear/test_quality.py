"""Fields that should not be judged: each is refused with its own reason, and nothing of it is counted."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from giemsa.smear.pipeline import read_smear
from giemsa.smear.reading import SmearReader


@pytest.fixture(scope="module")
def reader(tiny_model):
    return SmearReader(tiny_model, threads=1)


def text_page():
    page = Image.new("RGB", (1000, 1300), "white")
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(22)
    for row in range(40):
        draw.text((60, 40 + 30 * row), "The slide is its own control, and so on and so forth. " * 2, (10, 10, 10), font)
    return np.array(page)


def portrait():
    picture = Image.new("RGB", (900, 1200), (90, 120, 150))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((200, 150, 700, 850), fill=(220, 180, 150))
    draw.rectangle((100, 820, 800, 1200), fill=(40, 60, 120))
    draw.ellipse((320, 400, 400, 450), fill=(250, 250, 250))
    draw.ellipse((500, 400, 580, 450), fill=(250, 250, 250))
    draw.pieslice((180, 100, 720, 600), 180, 360, fill=(60, 35, 20))
    return np.array(picture.resize((900, 1200)))


def thick_film():
    """Lysed blood: a mottled violet ground, debris, and nuclei of white cells."""
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.normal(0, 1, (900, 1200)).astype(np.float32), (0, 0), 9)
    picture = np.array([190.0, 165, 195]) + 22 * (noise / noise.std())[..., np.newaxis]
    for number, radii, colour in ((25, (20, 34), (90, 50, 130)), (400, (2, 9), (130, 80, 150))):
        for _ in range(number):
            x, y, r = rng.integers(60, 1140), rng.integers(60, 840), rng.integers(*radii)
            cv2.circle(picture, (int(x), int(y)), int(r), colour, -1)
    return np.clip(picture, 0, 255).astype(np.uint8)


def crowded():
    rng = np.random.default_rng(0)
    light = np.ones((900, 1200), np.float32)
    for _ in range(2500):
        disc = np.zeros_like(light)
        cv2.circle(disc, (int(rng.integers(1200)), int(rng.integers(900))), 33, 1.0, -1)
        light *= 1 - 0.12 * disc
    return (light[..., np.newaxis] * np.array([225, 190, 215])).astype(np.uint8)


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (np.full((700, 900, 3), 205, np.uint8), "no cells at all"),
        (np.full((120, 130, 3), 205, np.uint8), "too small: it has 130 x 120"),
        (np.full((200, 300, 3), 205, np.uint8), "too small: it has 300 x 200"),
        (text_page(), "as ink, print and grey pictures do"),
        (portrait(), "; expected "),
        (thick_film(), "; expected "),
        (crowded(), "; expected "),
        (np.random.default_rng(0).integers(0, 255, (600, 800, 3), np.uint8), "as ink, print and grey"),
    ],
    ids=["blank", "cut-out", "300 x 200", "text page", "portrait", "thick film", "crowded", "noise"],
)
def test_what_is_no_field_is_refused(reader, picture, reason):
    read = reader.read_field(picture, "odd")
    assert read.refusal
    assert reason in read.refusal


def test_a_good_field_is_counted(reader, drawn_field):
    read = reader.read_field(drawn_field, "good")
    assert read.refusal == ""
    assert len(read.cells) > 60


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda rgb: cv2.GaussianBlur(rgb, (0, 0), 14), "focus"),
        (lambda rgb: (rgb * 0.2).astype(np.uint8), "under-exposed"),
        (lambda rgb: np.clip(rgb.astype(float) * 1.0 + 115, 0, 255).astype(np.uint8), "over-exposed"),
        (lambda rgb: np.repeat(rgb.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8), "not a Giemsa-stained"),
    ],
    ids=["blurred", "dark", "bright", "grey"],
)
def test_a_spoilt_field_is_refused_with_its_reason(reader, drawn_field, spoil, reason):
    assert reason in reader.read_field(spoil(drawn_field), "spoilt").refusal


def test_a_field_of_few_cells_is_refused(reader, drawn_field):
    few = np.full((600, 800, 3), np.median(drawn_field, axis=(0, 1)), np.uint8)
    few[100:400, 100:400] = drawn_field[100:400, 100:400]
    assert "cells" in reader.read_field(few, "few").refusal


def test_an_unreadable_file_is_refused_in_one_sentence(reader):
    assert "breaks off" in reader.read_field(b"\x89PNG\r\n\x1a\n", "torn.png").refusal


def test_a_smear_of_refused_fields_counts_nothing_and_says_so(tiny_model):
    smear = read_smear([np.full((700, 900, 3), 205, np.uint8)] * 2, model=tiny_model, threads=1)
    assert smear.summary.count is None
    assert smear.summary.fields_counted == 0
    assert len(smear.summary.refused) == 2
    assert smear.cells == ()
