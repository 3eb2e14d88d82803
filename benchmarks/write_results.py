"""Write docs/results.md from benchmarks/results/recipes/: every figure in it comes out of a run folder's JSON.

python benchmarks/write_results.py
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from statistics import mean, median
from typing import Any

from _common import RESULTS
from giemsa.lab.evaluation.error_analysis import describe_errors
from giemsa.lab.recipes import load_recipe, recipe_names

ROOT = Path(__file__).parents[1]
VARIANTS = {"compact-cnn-150": "compact-cnn-128"}
HUB = "not measured here: its ImageNet weights are on a hub that could not be reached"
WHY_NOT = {
    "default": "the embedded model's recipe, whose row is above",
    "resnet50": f"{HUB}; 25 million from scratch want a GPU",
    "vgg19": f"{HUB}; 20 million from scratch want a GPU",
    "mobilenet": f"{HUB}; tests run it with `--weights none`",
}
NO_TIME = "not measured here: it has not been trained to the end yet"
PARTS = ("official", "confirmed")


def main() -> None:
    place = RESULTS / "recipes"
    results = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(place.glob("*.json"))}
    text = "\n\n".join(filter(None, [
        INTRODUCTION,
        accuracy_tables(results),
        beside_the_published(results),
        what_the_gap_means(results),
        cost_table(results),
        compact(results),
        frozen(results),
        tuned(),
        errors(results),
        commands(results),
    ]))  # fmt: skip
    (ROOT / "docs" / "results.md").write_text(text + "\n", encoding="utf-8")
    print(f"docs/results.md: {len(results)} runs")


INTRODUCTION = """# What the recipes reach

<!-- written by benchmarks/write_results.py from benchmarks/results/recipes/; do not edit -->

Each recipe is trained twice on the same 15,617 cells of 120 patients: on four of five *cells* drawn at random, as the
notebooks do, and on four of five *patients*. What is held back is judged under three sets of labels: *official* (the
folder), *confirmed* (those on which a second reading agrees) and *donors* (people without malaria, in whom
every alarm is false). In brackets: 95 % intervals, bootstrap over patients. The published figures come from all 27,558
cells of 200 patients; the 120 here are the harder ones, so that a figure below the published one is no surprise.

For research and education: no diagnosis without a qualified professional."""


def accuracy_tables(results: dict[str, Any]) -> str:
    """Accuracy and false alarms on each of the two splits, beside what was published."""
    parts = ["## Accuracy", "", "### By patient, as it should be", "", *accuracy_table(results, "patient")]
    pooled = RESULTS / "crossval_pooled.json"
    if pooled.is_file():
        embedded = {"figures": json.loads(pooled.read_text(encoding="utf-8"))}
        parts.append(f"| the embedded model, cross-validated over all patients | none | {figures_of(embedded)} |")
    missing = [name for name in recipe_names() if f"{name}-image" not in results and f"{name}-patient" not in results]
    parts += [f"| `{name}` | {published(name)} | {WHY_NOT.get(name, NO_TIME)} | | | | |" for name in missing]
    parts += ["", "### Split at random, as published", "", *accuracy_table(results, "image")]
    parts.append("| the embedded model | none | not done: it would leak | | | | |")
    return "\n".join(parts)


def accuracy_table(results: dict[str, Any], by: str) -> list[str]:
    """One row a recipe."""
    lines = [
        "| recipe | published | accuracy, official | accuracy, confirmed | ROC AUC, official | ROC AUC, confirmed "
        "| donors' cells called infected |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in names(results):
        one = results.get(f"{name}-{by}")
        if one is not None:
            lines.append(f"| `{name}` | {published(name)} | {figures_of(one)} |")
        else:
            lines.append(f"| `{name}` | {published(name)} | {NO_TIME} | | | | |")
    return lines


def figures_of(one: dict[str, Any]) -> str:
    """Give the cells of a row behind its name."""
    accuracy = [share(one, part, "accuracy") for part in PARTS]
    return " | ".join([*accuracy, *(number(one, part, "roc_auc") for part in PARTS), alarms(one)])


def published(name: str) -> str:
    """Quote the figure of the text that a recipe comes from."""
    if name in VARIANTS:
        return f"none; `{VARIANTS[name]}` at 150 px for ten epochs"
    found = load_recipe(name).published
    return found.figure.partition(";")[0] if found else "none"


def beside_the_published(results: dict[str, Any]) -> str:
    """Say of each recipe with a published accuracy whether it was reached on a random split."""
    lines = []
    for name in names(results):
        found = None if name in VARIANTS else load_recipe(name).published
        one = results.get(f"{name}-image")
        if found is None or found.accuracy is None or one is None:
            continue
        official, confirmed = (one["figures"][part]["accuracy"] for part in PARTS)
        wanted = found.accuracy - found.tolerance
        if official["value"] >= wanted:
            said = "reached"
        else:
            within = "though within the interval" if official["high"] >= wanted else "beyond the interval"
            said = f"short by {100 * (wanted - official['value']):.2f} points, {within}"
            said += ", reached on confirmed labels" if confirmed["value"] >= wanted else ""
        lines.append(
            f"- `{name}`: {found.figure.partition(';')[0]}; here {100 * official['value']:.2f} % on official labels, "
            f"{100 * confirmed['value']:.2f} % on confirmed ones: {said}."
        )
    if not lines:
        return ""
    counts = next(one["counts"] for one in results.values() if one["by"] == "image")
    used = counts["parasitized"] + counts["uninfected"]
    head = f"""## Beside the published figures

On the random split, which is the published protocol or the nearest to it, with {used:,} cells to train on
instead of some {round(0.8 * PUBLISHED_CELLS, -3):,.0f}, and of the harder patients."""
    return "\n".join([head, "", *lines])


PUBLISHED_CELLS = 27_558
"""Of the official archive."""


def what_the_gap_means(results: dict[str, Any]) -> str:
    """Say in words, with figures, what the two splits and the sets of labels differ by."""
    pairs = [
        (results[f"{name}-image"], results[f"{name}-patient"])
        for name in names(results)
        if f"{name}-image" in results and f"{name}-patient" in results
    ]
    if not pairs:
        return ""
    gap = mean(value(one, "official", "accuracy") - value(other, "official", "accuracy") for one, other in pairs)
    label = mean(value(other, "confirmed", "accuracy") - value(other, "official", "accuracy") for _, other in pairs)
    most = max(pairs, key=lambda pair: value(pair[0], "official", "accuracy") - value(pair[1], "official", "accuracy"))
    worst = value(most[0], "official", "accuracy") - value(most[1], "official", "accuracy")
    order = mean(value(one, "official", "roc_auc") - value(other, "official", "roc_auc") for one, other in pairs)
    return f"""## What the gaps mean

On the mean of {len(pairs)} recipes the random split gives {100 * gap:+.1f} points against the split by patient, at \
most {100 * worst:+.1f} (`{most[0]["name"]}`). Cells of one patient share stain, light and camera: at random, each
held-back cell has brothers among those that were trained on. No new patient has any, so only the figures by patient say
what one may expect. The area under the ROC curve changes by {100 * order:+.1f} points: what a new patient upsets is less the
order of the cells than the place of the threshold among them, which another stain or light shifts for all at once.

Confirmed labels give {100 * label:+.1f} points against official ones. That is not the models' doing: cells that
the second reading disputes are mostly cut so that the parasite is outside of the picture, or carry a parasite under the
label uninfected, and no model can be right about them. But the confirmed set also leaves out the hard true negatives:
look-alikes in the blood of donors. Their share of false alarms stands in the last column, and decides about use."""


def cost_table(results: dict[str, Any]) -> str:
    """Parameters, sizes and times of the trainings by patient."""
    lines = [
        "## Size and time",
        "",
        "| recipe | input, px | parameters | ONNX fp32 | training | per epoch, median | precision | threads | peak memory |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in names(results):
        one = results.get(f"{name}-patient") or results[f"{name}-image"]
        recipe = load_recipe(VARIANTS.get(name, name))
        size = 150 if name == "compact-cnn-150" else recipe.input_size_px
        lines.append(
            f"| `{name}` | {size} | {one['parameters']:,} | {one['onnx_bytes'] / 1e6:.2f} MB "
            f"| {one['timings']['seconds']:,.0f} s | {epoch_times(one, recipe.frozen_epochs)} "
            f"| {one.get('precision', '32-true')} | {one['threads']} | {peak(one)} |"
        )
    machine = next(iter(results.values()))["machine"] if results else None
    if machine is None:
        return ""
    where = f"On {machine['processor']}, {machine['cores']} cores, shared with other work."
    return "\n".join([*lines, "", f"{where} {CACHED}", *step_table()])


CACHED = """A frozen base's features are computed once and kept: where another
training had done so, their time is not in the table. bf16-mixed computes in bfloat16, in about half the time.
All but the compact and the softmax CNN were trained before large cells came to be validated a few at a
time, which takes less memory, and some before freed memory was kept, which takes less time."""


def step_table() -> list[str]:
    """Give what a training step costs by itself, with and without keeping freed memory."""
    path = RESULTS / "freed_memory.json"
    if not path.is_file():
        return []
    found = json.loads(path.read_text(encoding="utf-8"))
    lines = [
        "",
        f"A step by itself, in fp32 on {found['threads']} thread, before and after Giemsa has malloc keep what is freed",
        "(`python benchmarks/freed_memory.py`):",
        "",
        "| recipe | cells | before | after | peak memory before | after |",
        "|---|---|---|---|---|---|",
    ]
    for name, ways in found["recipes"].items():
        times = [f"{ways[way]['seconds_per_step']['median']:.2f} s" for way in ("plain", "kept")]
        peaks = [peak(ways[way]) for way in ("plain", "kept")]
        cells = load_recipe(name).training.batch_size
        lines.append(f"| `{name}` | {cells} | {' | '.join(times)} | {' | '.join(peaks)} |")
    return lines


def peak(one: dict[str, Any]) -> str:
    """Write a peak of memory."""
    return "not measured" if one["peak_bytes"] is None else f"{one['peak_bytes'] / 2**20:,.0f} MiB"


def epoch_times(one: dict[str, Any], frozen_epochs: int) -> str:
    """Give the median time of an epoch, of frozen and of other ones apart."""
    seconds = one["timings"]["seconds_per_epoch"]
    parts = {"frozen": seconds[:frozen_epochs], "fine-tuning": seconds[frozen_epochs:]}
    if not frozen_epochs:
        return f"{median(seconds):,.1f} s"
    return ", ".join(f"{median(found):,.1f} s {kind}" for kind, found in parts.items() if found)


def compact(results: dict[str, Any]) -> str:
    """Say what quantising the compact CNN gives, and what its larger form costs."""
    found = [results[key] for key in ("compact-cnn-128-image", "compact-cnn-128-patient") if key in results]
    said = []
    for one in found:
        int8 = one["int8"] or {}
        if "bytes" in int8:
            said.append(
                f"- int8, split by {one['by']}: {int8['bytes'] / 1e6:.2f} MB (published: 2.5). {int8['agreement']}"
            )
        elif int8:
            said.append(f"- int8, split by {one['by']}: refused: {int8['refused']}")
    for by in ("image", "patient"):
        small, large = (results.get(f"compact-cnn-{size}-{by}") for size in (128, 150))
        if small is not None and large is not None:
            said.append(
                f"- 150 px and ten epochs, which the text gave up for their memory and time, split by {by}: "
                f"{epoch_times(large, 0)} an epoch and {peak(large)} instead of {epoch_times(small, 0)} and "
                f"{peak(small)}, for an accuracy of {share(large, 'official', 'accuracy')} instead of "
                f"{share(small, 'official', 'accuracy')}."
            )
    return "\n".join(["## The compact CNN: small, and larger", "", *said]) if said else ""


def frozen(results: dict[str, Any]) -> str:
    """Frozen against fine-tuned, where both are there, beside what the text says of them."""
    kinds = [f"resnet50v2-{kind}" for kind in ("frozen", "finetuned")]
    texts = [load_recipe(kind).published for kind in kinds]
    first, last = (text.accuracy if text and text.accuracy else float("nan") for text in texts)
    rows = [f"| published | {100 * first:.2f} % | {100 * last:.2f} % | {100 * (last - first):+.2f} |"]
    for by, labels in product(("image", "patient"), PARTS):
        pair = [results.get(f"{kind}-{by}") for kind in kinds]
        if pair[0] is not None and pair[1] is not None:
            gain = value(pair[1], labels, "accuracy") - value(pair[0], labels, "accuracy")
            shares = " | ".join(share(one, labels, "accuracy") for one in pair)
            rows.append(f"| by {by}, {labels} labels | {shares} | {100 * gain:+.2f} |")
    if len(rows) == 1:
        return ""
    recipe = load_recipe(kinds[1])
    head = f"""## Frozen against fine-tuned

ResNet50V2 as far as its third stage, the weights that were at hand: a head on its features, and the same with that
stage trained on for {recipe.training.epochs - recipe.frozen_epochs} epochs at a lower rate, which falls to nothing."""
    return "\n".join(
        [head, "", "| split and labels | frozen | fine-tuned | gain, points |", "|---|---|---|---|", *rows]
    )


def tuned() -> str:
    """Say how softmax-cnn's settings were found: its text says that they were tuned, and not to what."""
    path = RESULTS / "softmax_tuning.json"
    if not path.is_file():
        return ""
    found = json.loads(path.read_text(encoding="utf-8"))
    rows = [row for row in found["table"] if row["validation_loss"]]
    counts = " and ".join(f"{number} {state}" for state, number in found["trials"].items() if state != "running")
    lines = [
        "## How softmax-cnn was tuned",
        "",
        "The text says that batch size, rate and epochs were tuned, and not to what. `giemsa tune` searched them on the",
        f"patients trained on of the split by patient, a fifth of them held back: {counts} trials, the best number "
        f"{found['best']['number']}.",
        "The recipe has its settings, the rate rounded; the patients that the split by patient holds back were not read.",
        "(`python benchmarks/softmax_tuning.py`, space: `examples/softmax-space.toml`)",
        "",
        "| trial | batch size | rate | epochs | validation loss | ended |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        ended = row["state"] if row["state"] == "complete" else f"{row['state']} after epoch {row['epochs_trained']}"
        lines.append(
            f"| {row['trial']} | {row['batch_size']} | {float(row['learning_rate']):.2g} | {row['epochs']} "
            f"| {float(row['validation_loss']):.4f} | {ended} |"
        )
    if found["importance"]:
        shares = ", ".join(f"{name.replace('_', ' ')} {share:.0%}" for name, share in found["importance"].items())
        lines += ["", f"Of the variance of the loss among complete trials (fANOVA): {shares}."]
    return "\n".join(lines)


def errors(results: dict[str, Any]) -> str:
    """Say what wrong cells are like: one text blames purple, unfocused cells and small, hidden parasites."""
    one = results.get("two-block-cnn-64-patient") or results.get("two-block-cnn-64-image")
    if one is None or not one["errors"]:
        return ""
    head = f"""## What wrong cells are like

The text of `two-block-cnn-64` says that false positives are mostly "slightly purple or out-of-focus cells", and false
negatives "very small or partially hidden parasites". Of the run split by {one["by"]}, on official labels:"""
    return "\n".join([head, "", *describe_errors(one["errors"])])


def commands(results: dict[str, Any]) -> str:
    """Give the command behind each row."""
    lines = [
        "## Commands",
        "",
        "`python benchmarks/recipes.py` runs them all; splits by `giemsa data split CELLS --by ...`.",
    ]
    lines += [
        "",
        "```sh",
        *(one["command"] for one in results.values()),
        "```",
        "",
        "Each is evaluated by",
        "",
        "```sh",
    ]
    return "\n".join([*lines, *(one["evaluated"] for one in results.values()), "```"]) if results else ""


def names(results: dict[str, Any]) -> list[str]:
    """Recipes in the results, once each."""
    return sorted({one["name"] for one in results.values()})


def value(one: dict[str, Any], part: str, figure: str) -> float:
    """Take a figure's point."""
    return float(one["figures"][part][figure]["value"])


def share(one: dict[str, Any] | None, part: str, figure: str) -> str:
    """Write a share in per cent with its interval."""
    if one is None or part not in one["figures"]:
        return "not measured"
    found = one["figures"][part][figure]
    return f"{100 * found['value']:.2f} % [{100 * found['low']:.2f}, {100 * found['high']:.2f}]"


def number(one: dict[str, Any] | None, part: str, figure: str) -> str:
    """Write a figure with its interval."""
    if one is None or part not in one["figures"]:
        return "not measured"
    found = one["figures"][part][figure]
    return f"{found['value']:.4f} [{found['low']:.4f}, {found['high']:.4f}]"


def alarms(one: dict[str, Any] | None) -> str:
    """Write the donors' false alarms as a share with its interval."""
    if one is None or "donors" not in one["figures"]:
        return "not measured"
    donors = one["figures"]["donors"]
    found = donors["specificity"]
    return (
        f"{donors['false_positives']:,} of {donors['n']:,}: {100 * (1 - found['value']):.2f} % "
        f"[{100 * (1 - found['high']):.2f}, {100 * (1 - found['low']):.2f}]"
    )


if __name__ == "__main__":
    main()
