"""Make the embedded finder of red cells: a small network that sees densities, not colours.

Trained on the boxes of `iml` only (never on `bbbc041`, whose licence and purpose forbid it), and to tell
infected from healthy: they are one class, and infected ones are only shown more often. Since it sees only how densely stained each pixel is
(`giemsa.smear.light`), at a scale at which a red cell measures 20 px, it carries over to other stains and cameras.

    python benchmarks/smear_finder.py FIELDS --output src/giemsa/model/embedded/finder.onnx [--fold 0 --folds 2]

With `--fold` it trains on the fields of the other folds, to measure what it finds in fields that it has not seen.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from giemsa.images import decode
from giemsa.smear.light import burnt_in_marks, measure_stain, seen_area, without_marks

CELL_PX = 20  # what a red cell measures in the network's input
STORED_PX = 28  # and in the densities that training crops from
CROP_PX = 160
ODD_SHARE = 0.3  # of the crops lie around an infected cell: large and pale ones are rare, and must be found too
SIGMA = 0.11  # of the spot that marks a cell's middle, in diameters


@dataclass
class Field:
    name: str
    density: np.ndarray  # float32 [H, W]
    boxes: np.ndarray  # float32 [N, 4]
    odd: np.ndarray  # int [M]: boxes of infected cells, whose shape and stain are their own


class Finder(nn.Module):
    """Three scales; out come, at half the resolution, how likely a cell's middle is here and how far its sides are."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = block(1, 10, 5, 2)
        self.fine = block(10, 20)
        self.down1 = nn.Sequential(block(20, 32, stride=2), block(32, 32))
        self.down2 = nn.Sequential(block(32, 48, stride=2), block(48, 48))
        self.lateral1, self.up1 = nn.Conv2d(48, 32, 1), block(32, 32)
        self.lateral0, self.up0 = nn.Conv2d(32, 20, 1), block(20, 20)
        self.middle, self.sides = nn.Conv2d(20, 1, 1), nn.Conv2d(20, 4, 1)
        nn.init.constant_(self.middle.bias, -3.0)

    def forward(self, density: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        fine = self.fine(self.stem(density))
        mid = self.down1(fine)
        coarse = self.down2(mid)
        mid = self.up1(mid + F.interpolate(self.lateral1(coarse), scale_factor=2.0, mode="nearest"))
        fine = self.up0(fine + F.interpolate(self.lateral0(mid), scale_factor=2.0, mode="nearest"))
        return self.middle(fine), F.softplus(self.sides(fine))


class Exported(nn.Module):
    def __init__(self, finder: Finder) -> None:
        super().__init__()
        self.finder = finder

    def forward(self, density: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        middle, sides = self.finder(density)
        return torch.sigmoid(middle[:, 0]), sides


def block(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fields", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--fold", type=int)
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5000)
    args = parser.parse_args()
    torch.manual_seed(0)
    annotations = json.loads((args.fields / "iml" / "annotations.json").read_text(encoding="utf-8"))
    annotations.sort(key=lambda field: field["image"])
    chosen = [a for i, a in enumerate(annotations) if args.fold is None or i % args.folds != args.fold]
    fields = [prepared(args.fields / "iml", annotation) for annotation in chosen]
    finder = train(fields, args.steps)
    export(finder, args.output, [field.name for field in fields])


def prepared(folder: Path, annotation: dict[str, Any]) -> Field:
    """Measure the densities of a field at the stored scale, and draw its boxes tight around the cells."""
    rgb = decode((folder / annotation["image"]).read_bytes())
    objects = [o for o in annotation["objects"] if o["category"] not in ("white blood cell", "difficult")]
    boxes = np.array([[o["x0"], o["y0"], o["x1"], o["y1"]] for o in objects], np.float32)
    scale = STORED_PX / (0.86 * float(np.median(np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1)))))
    small = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    seen = seen_area(small)
    marks = cv2.resize(burnt_in_marks(rgb, seen_area(rgb)).astype(np.uint8), small.shape[1::-1]) > 0
    stain = measure_stain(without_marks(small, marks), seen)
    assert stain is not None
    odd = np.flatnonzero([o["category"] != "red blood cell" for o in objects])
    return Field(annotation["image"], stain.density, tightened(boxes * scale, stain.density, stain.threshold), odd)


def tightened(boxes: np.ndarray, density: np.ndarray, threshold: float) -> np.ndarray:
    """Take off the margin that the annotators left, which is measured on cells that stand alone."""
    count, _, stats, _ = cv2.connectedComponentsWithStats((density > threshold).astype(np.uint8))
    tight = boxes.copy()
    alone = np.zeros(len(boxes), bool)
    margins = []
    for index in range(1, count):
        x, y, w, h, area = stats[index]
        if not 0.4 < area / (np.pi / 4 * STORED_PX**2) < 1.6:
            continue
        part = np.array([x, y, x + w, y + h], np.float32)
        off = np.abs(boxes - part).max(axis=1)
        nearest = int(off.argmin())
        if off[nearest] < 0.25 * STORED_PX:
            tight[nearest], alone[nearest] = part, True
            margins.append((part - boxes[nearest]) * (1, 1, -1, -1))
    margin = np.median(np.array(margins), axis=0) if len(margins) > 5 else np.full(4, 2.0)
    tight[~alone] += (margin * (1, 1, -1, -1)).astype(np.float32)
    return tight


def train(fields: list[Field], steps: int) -> Finder:
    rng = np.random.default_rng(0)
    finder = Finder()
    optimiser = torch.optim.AdamW(finder.parameters(), 3e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps, pct_start=0.1)
    started, mean_spot, mean_side = time.time(), 0.0, 0.0
    for step in range(steps):
        crops = [crop(fields[rng.integers(len(fields))], rng) for _ in range(4)]
        density, spots, sides, there, sure = (torch.from_numpy(np.stack(part)) for part in zip(*crops, strict=True))
        middle, predicted = finder(density[:, None])
        spot_loss = focal(middle[:, 0], spots, sure)
        side_loss = ((predicted - sides).abs().sum(dim=1) * there).sum() / there.sum().clamp(min=1)
        loss = spot_loss + side_loss
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(finder.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        mean_spot, mean_side = 0.98 * mean_spot + 0.02 * spot_loss.item(), 0.98 * mean_side + 0.02 * side_loss.item()
        if step % 50 == 49:
            print(f"{step + 1} {mean_spot:.3f} {mean_side:.4f} {time.time() - started:.0f} s", flush=True)
    return finder.eval()


def focal(middle: torch.Tensor, spots: torch.Tensor, sure: torch.Tensor) -> torch.Tensor:
    """Compute the focal loss of CornerNet and CenterNet (Zhou et al. 2019, arXiv 1904.07850)."""
    p = torch.sigmoid(middle).clamp(1e-4, 1 - 1e-4)
    peak = (spots >= 0.999).float()
    found = peak * (1 - p) ** 2 * p.log()
    none = (1 - peak) * (1 - spots) ** 4 * p**2 * (1 - p).log()
    return -((found + none) * sure).sum() / peak.sum().clamp(min=1)


def crop(field: Field, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Cut a piece out, turned, scaled, and stained otherwise; with what is no red cell strewn in."""
    scale = np.exp(rng.uniform(np.log(0.72), np.log(1.35))) * CELL_PX / STORED_PX
    stretch = np.exp(rng.uniform(-0.08, 0.08))
    sx, sy = scale * stretch, scale / stretch
    height, width = field.density.shape
    x0 = rng.uniform(-0.1, max(0.0, width - CROP_PX / sx) / width + 0.1) * width
    y0 = rng.uniform(-0.1, max(0.0, height - CROP_PX / sy) / height + 0.1) * height
    if len(field.odd) and rng.random() < ODD_SHARE:
        left, top, right, bottom = field.boxes[rng.choice(field.odd)]
        x0 = (left + right) / 2 - rng.uniform(0.2, 0.8) * CROP_PX / sx
        y0 = (top + bottom) / 2 - rng.uniform(0.2, 0.8) * CROP_PX / sy
    move = np.array([[sx, 0, -x0 * sx], [0, sy, -y0 * sy]])
    size = (CROP_PX, CROP_PX)
    piece = cv2.warpAffine(field.density, move, size, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_CONSTANT)
    inside = cv2.warpAffine(np.ones_like(field.density), move, size, flags=cv2.INTER_NEAREST)
    boxes = (field.boxes - (x0, y0, x0, y0)) * (sx, sy, sx, sy)
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    boxes = boxes[((middles > 0) & (middles < CROP_PX)).all(axis=1)]
    for _ in range(rng.integers(4)):
        piece, inside = np.rot90(piece), np.rot90(inside)
        boxes = np.stack([boxes[:, 1], CROP_PX - boxes[:, 2], boxes[:, 3], CROP_PX - boxes[:, 0]], axis=1)
    if rng.random() < 0.5:
        piece, inside = piece[:, ::-1], inside[:, ::-1]
        boxes = np.stack([CROP_PX - boxes[:, 2], boxes[:, 1], CROP_PX - boxes[:, 0], boxes[:, 3]], axis=1)
    piece = np.ascontiguousarray(piece, np.float32)
    cell_px = CELL_PX / STORED_PX * scale / (CELL_PX / STORED_PX) * STORED_PX
    piece, boxes = stained_otherwise(piece, boxes, cell_px, rng)
    return piece, *targets(boxes), np.ascontiguousarray(inside[::2, ::2], np.float32)


def stained_otherwise(
    piece: np.ndarray, boxes: np.ndarray, cell_px: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    body = np.clip(piece, 0, 1)
    pallor = rng.uniform(-0.2, 1.0) if rng.random() < 0.5 else 0.0
    for x0, y0, x1, y1 in boxes:
        at = ((x0 + x1) / 2 + rng.normal(0, 0.04 * cell_px), (y0 + y1) / 2 + rng.normal(0, 0.04 * cell_px))
        if pallor:
            window, spot = spot_at(at, rng.uniform(0.15, 0.3) * cell_px, 0.15)
            piece[window] *= 1 - pallor * rng.uniform(0.6, 1) * spot
        if rng.random() < 0.1:  # a parasite, or a cell that is stained more or less deeply as a whole
            window, spot = spot_at(at, 0.5 * cell_px, 0.15)
            piece[window] += spot * body[window] * rng.uniform(-0.4, 1.0)
        if rng.random() < 0.12:
            place = (at[0] + rng.normal(0, 0.15 * cell_px), at[1] + rng.normal(0, 0.15 * cell_px))
            window, spot = spot_at(place, rng.uniform(0.05, 0.25) * cell_px, 0.15)
            piece[window] += spot * rng.uniform(0.2, 2.0)
    for _ in range(rng.poisson(1.2)):  # platelets and dirt
        at = tuple(rng.uniform(0, CROP_PX, 2))
        if body[int(at[1]), int(at[0])] < 0.3:
            window, spot = spot_at(at, rng.uniform(0.06, 0.24) * cell_px, 0.15)
            piece[window] = np.maximum(piece[window], spot * rng.uniform(0.4, 2.2))
    if rng.random() < 0.25:  # a white cell
        at, radius = tuple(rng.uniform(0, CROP_PX, 2)), rng.uniform(0.75, 1.15) * cell_px
        middles = (boxes[:, :2] + boxes[:, 2:]) / 2
        far = np.hypot(*(middles - at).T) > radius + 0.25 * cell_px
        if not len(far) or far.mean() > 0.7:
            boxes = boxes[far]
            window, spot = spot_at(at, radius, 0.05)
            piece[window] = piece[window] * (1 - spot) + spot * rng.uniform(0.3, 1.2)
            for _ in range(rng.integers(1, 5)):
                lobe = (at[0] + rng.normal(0, 0.3 * radius), at[1] + rng.normal(0, 0.3 * radius))
                window, spot = spot_at(lobe, rng.uniform(0.3, 0.7) * radius, 0.08)
                piece[window] = np.maximum(piece[window], spot * rng.uniform(1.6, 3.2))
    y, x = np.mgrid[:CROP_PX, :CROP_PX].astype(np.float32)
    piece = np.sign(piece) * np.abs(piece) ** rng.uniform(0.75, 1.35) * rng.uniform(0.75, 1.3)
    if rng.random() < 0.5:
        piece = cv2.GaussianBlur(piece, (0, 0), rng.uniform(0.3, 1.6))
    slope = rng.normal(0, 0.05, 2)
    piece = piece + ((x / CROP_PX - 0.5) * slope[0] + (y / CROP_PX - 0.5) * slope[1]) + rng.normal(0, 0.02)
    piece = piece + rng.normal(0, rng.uniform(0, 0.06), piece.shape)
    return np.clip(piece, -0.25, 2.5).astype(np.float32), boxes


def spot_at(at: tuple[float, float], radius: float, soft: float) -> tuple[tuple[slice, slice], np.ndarray]:
    """Give a soft disc, and the window of the crop where it lies."""
    reach = int(1.6 * radius + 4)
    left, top = (int(np.clip(c - reach, 0, CROP_PX - 1)) for c in at)
    right, bottom = (int(np.clip(c + reach, 1, CROP_PX)) for c in at)
    window = np.s_[top : max(bottom, top + 1), left : max(right, left + 1)]
    y, x = np.mgrid[window].astype(np.float32)
    away = (np.hypot(x - at[0], y - at[1]) - radius) / (soft * radius + 0.3)
    return window, (1 / (1 + np.exp(np.clip(away, -30, 30)))).astype(np.float32)


def targets(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    side = CROP_PX // 2
    spots, there = np.zeros((side, side), np.float32), np.zeros((side, side), np.float32)
    sides = np.zeros((4, side, side), np.float32)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    for x0, y0, x1, y1 in boxes / 2:
        at_x, at_y = (x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2
        sigma = SIGMA * np.sqrt(max(1.0, (x1 - x0) * (y1 - y0)))
        near = np.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / (2 * sigma**2))
        row, column = int(np.clip(round(at_y), 0, side - 1)), int(np.clip(round(at_x), 0, side - 1))
        near[row, column] = 1
        owned = (near > 0.4) & (near > spots)
        there[owned] = 1
        values = np.stack([x + 0.5 - x0, y + 0.5 - y0, x1 - x - 0.5, y1 - y - 0.5]) * 2 / CELL_PX
        sides[:, owned] = values[:, owned]
        spots = np.maximum(spots, near)
    return spots, sides, there


def export(finder: Finder, path: Path, trained_on: list[str]) -> None:
    import onnx

    example = torch.zeros(1, 1, 160, 192)
    shape = {"density": {0: "N", 2: "H", 3: "W"}}
    torch.onnx.export(
        Exported(finder).eval(), (example,), str(path), input_names=["density"], output_names=["middle", "sides"],
        dynamic_axes=shape, opset_version=17, dynamo=False,
    )  # fmt: skip
    model = onnx.load(str(path))
    card = {"finder_version": 1, "cell_px": CELL_PX, "stride": 2, "trained_on": "IML_Malaria (arXiv 2102.08708)",
            "fields": len(trained_on), "licence": "Apache-2.0"}  # fmt: skip
    onnx.helper.set_model_props(model, {"giemsa_finder": json.dumps(card)})
    onnx.save(model, str(path))
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
