"""Run the benchmarks in their order, each with what it needs, and write the pages that show their figures.

    python benchmarks/run.py --list
    python benchmarks/run.py                                  # writes the pages from the kept results
    python benchmarks/run.py --cells CELLS --reviewed REVIEWED --fields FIELDS --weights WEIGHTS --work runs/benchmarks
    python benchmarks/run.py --only smear_judging count_fields --fields FIELDS

CELLS holds labelled cells, REVIEWED is their second reading, FIELDS holds annotated photographs (`iml/`, `bbbc041/`,
each with `annotations.json`) and WEIGHTS the partial ImageNet weights of `recipes.py`. What one script leaves for
another lies in WORK, by a name that stands here and nowhere else. A script whose inputs are not given is left out, and
said; one that fails ends the run, since others may need what it makes. Everything together takes days on two cores,
and writes the shipped models anew.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
INPUTS = ("cells", "reviewed", "fields", "weights")


@dataclass(frozen=True)
class Target:
    """One script, or one more call of a script.

    Attributes
    ----------
    script : str
        Its file, without the ending.
    arguments : str
        With {cells}, {reviewed}, {fields}, {weights} and {work} where a person's data or the work folder stand.
    makes : tuple of str
        What it writes that a later script or a page needs; {work} is the work folder, all else is in the repository.
    takes : tuple of str
        What others make and it needs.
    name : str
        Its own, where one script is called several times.
    """

    script: str
    arguments: str = ""
    makes: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    name: str = ""

    @property
    def title(self) -> str:
        """By what `--only` knows it."""
        return self.name or self.script

    @property
    def is_page(self) -> bool:
        """Whether it only writes a page from results that are kept."""
        return self.script.startswith("write_")

    def inputs(self) -> list[str]:
        """Which of a person's data it needs."""
        return [name for name in INPUTS if "{" + name + "}" in self.arguments]


def result(name: str) -> str:
    return f"benchmarks/results/{name}.json"


EMBEDDED = "{work}/embedded"
FINAL, FP32 = f"{EMBEDDED}/final", f"{EMBEDDED}/final/fp32.onnx"
CROSSVAL, OUT_OF_FOLD = f"{EMBEDDED}/crossval", f"{EMBEDDED}/crossval/out_of_fold.csv"
FINDERS = ("{work}/finders/fold-0.onnx", "{work}/finders/fold-1.onnx")
PATIENT_SPLIT = "{work}/recipes/patient.json"
LABELLED = "--data {cells} --reviewed {reviewed}"

TARGETS = (
    # The models that are shipped.
    Target(
        "embedded_model",
        f"{LABELLED} --work {EMBEDDED}",
        (CROSSVAL, OUT_OF_FOLD, FINAL, FP32, *map(result, ("crossval_folds", "crossval_pooled", "final_run"))),
    ),
    Target("embedded_curves", CROSSVAL, ("src/giemsa/model/embedded/curves.json",), (CROSSVAL,)),
    Target("smear_finder", "{fields} --output src/giemsa/model/embedded/finder.onnx"),
    *(
        Target("smear_finder", f"{{fields}} --output {path} --fold {fold}", (path,), name=f"smear_finder_fold_{fold}")
        for fold, path in enumerate(FINDERS)
    ),
    Target("digests", "", ("src/giemsa/model/embedded/digests.json",)),
    # Cells.
    Target("other_laboratories", "{fields}", (result("other_laboratories"),)),
    Target("background", "{cells}", (result("background"),)),
    Target("quantisation", f"{{cells}} --fp32 {FP32}", (result("quantisation"),), (FP32,)),
    Target("training_time", f"{CROSSVAL}/fold-1", (result("training_time"),), (CROSSVAL,)),
    Target("phone", f"{FINAL} {LABELLED}", (result("phone"),), (FINAL,)),
    Target("classify_speed", "{cells}", (result("classify_speed"),)),
    Target("startup", "examples/cells/drawn_parasitized_ring_01.png", (result("startup"),)),
    # Recipes.
    Target("freed_memory", "", (result("freed_memory"),)),
    Target(
        "recipes",
        f"{LABELLED} --weights {{weights}} --work {{work}}/recipes",
        (PATIENT_SPLIT, "benchmarks/results/recipes"),
    ),
    Target(
        "softmax_tuning",
        f"{LABELLED} --split {PATIENT_SPLIT} --work {{work}}/softmax-tuning --trials 16",
        (result("softmax_tuning"),),
        (PATIENT_SPLIT,),
    ),
    # Another laboratory.
    Target(
        "adaptation",
        f"--fields {{fields}}/iml {LABELLED} --work {{work}}/adaptation --fold {CROSSVAL}/fold-0",
        (result("adaptation"),),
        (CROSSVAL,),
    ),
    # Smears.
    Target("smear_default_cut", OUT_OF_FOLD, (result("smear_default_cut"),), (OUT_OF_FOLD,)),
    Target("smear_finding", f"{{fields}} --finders {' '.join(FINDERS)}", (result("smear_finding"),), FINDERS),
    Target("smear_judging", "{fields}", (result("smear_judging"),)),
    Target("count_coverage", "", (result("count_coverage"),)),
    Target("count_fields", "{fields}", (result("count_fields"),)),
    Target("smear_speed", "{fields}", (result("smear_speed"),)),
    Target("smear_robustness", "{fields}", (result("smear_robustness"),)),
    # The server.
    Target("serve_load", "{cells}", (result("serve_load"),)),
    Target("serve_page", "{cells}", (result("serve_page"),)),
    Target("serve_fuzz", "", (result("serve_fuzz"),)),
    # The pages that show all this.
    Target(
        "write_card",
        "",
        ("docs/model-card.md", "README.md"),
        tuple(
            map(
                result,
                (
                    "crossval_folds",
                    "crossval_pooled",
                    "final_run",
                    "other_laboratories",
                    "background",
                    "quantisation",
                    "training_time",
                    "classify_speed",
                    "startup",
                ),
            )
        ),
    ),
    Target(
        "write_results",
        "",
        ("docs/results.md",),
        ("benchmarks/results/recipes", *map(result, ("crossval_pooled", "freed_memory", "softmax_tuning"))),
    ),
    Target("write_adapting", "", ("docs/adapting.md",), tuple(map(result, ("adaptation", "phone")))),
    Target(
        "write_smears",
        "",
        ("docs/smears.md",),
        (
            *(result(f"smear_{part}") for part in ("finding", "judging", "speed", "robustness")),
            *map(result, ("count_coverage", "count_fields")),
        ),
    ),
    Target("write_serving", "", ("docs/web.md",), tuple(result(f"serve_{part}") for part in ("load", "page", "fuzz"))),
)
"""In an order in which everything is made before it is needed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in INPUTS:
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "benchmarks", help="default: runs/benchmarks")
    parser.add_argument("--only", nargs="+", choices=[target.title for target in TARGETS], metavar="NAME")
    parser.add_argument("--list", action="store_true", help="print the plan and run nothing")
    args = parser.parse_args()
    given = {name: getattr(args, name).resolve() for name in INPUTS if getattr(args, name) is not None}
    for name, path in given.items():
        if not path.exists():
            parser.error(f"--{name} {path} does not exist")
    chosen = choose(args.only, anything_given=bool(given))
    if args.list:
        print(plan(chosen if args.only else TARGETS))
        return
    run_all(chosen, given, args.work.resolve(), forced=args.only is not None)


def choose(only: list[str] | None, *, anything_given: bool) -> list[Target]:
    """Targets to run, in their order: those that are named, else all; without any data, the pages alone."""
    if only is not None:
        return [target for target in TARGETS if target.title in only]
    return [target for target in TARGETS if anything_given or target.is_page]


def plan(targets: list[Target] | tuple[Target, ...]) -> str:
    """Every target's command, what it needs of a person and of other targets, and what it makes."""
    makers = {path: target.title for target in TARGETS for path in target.makes}
    lines = []
    for target in targets:
        before = list(dict.fromkeys(makers[path] for path in target.takes))
        lines.append(f"{target.title}: {' '.join(['python', f'benchmarks/{target.script}.py', shown(target)]).strip()}")
        if before:
            lines.append(f"    after {', '.join(before)}")
        if target.makes:
            lines.append(f"    makes {', '.join(path.format(work='WORK') for path in target.makes)}")
    return "\n".join(lines)


def shown(target: Target) -> str:
    return target.arguments.format(work="WORK", **{name: name.upper() for name in INPUTS})


def run_all(targets: list[Target], given: dict[str, Path], work: Path, *, forced: bool) -> None:
    """Run targets one after the other; those without their inputs are left out, or refused if `forced`."""
    for target in targets:
        why_not = missing(target, given, work)
        if why_not and forced:
            sys.exit(f"run.py: {target.title} {why_not}")
        if why_not:
            print(f"Left out: {target.title} {why_not}.", flush=True)
            continue
        for path in target.makes:
            (ROOT / path.format(work=work)).parent.mkdir(parents=True, exist_ok=True)
        places = {name: shlex.quote(str(path)) for name, path in given.items()}
        words = shlex.split(target.arguments.format(work=shlex.quote(str(work)), **places))
        print(f"==> {target.title}: python benchmarks/{target.script}.py {shlex.join(words)}", flush=True)
        done = subprocess.run([sys.executable, str(HERE / f"{target.script}.py"), *words], cwd=ROOT, check=False)
        if done.returncode:
            sys.exit(f"run.py: {target.title} ended with status {done.returncode}")


def missing(target: Target, given: dict[str, Path], work: Path) -> str:
    """Why a target cannot be run; empty where it can."""
    options = [f"--{name}" for name in target.inputs() if name not in given]
    if options:
        return f"needs {' and '.join(options)}"
    makers = {path: one.title for one in TARGETS for path in one.makes}
    for path in target.takes:
        if not (ROOT / path.format(work=work)).exists():
            return f"needs {path.format(work=work)}, which {makers[path]} makes"
    return ""


if __name__ == "__main__":
    main()
