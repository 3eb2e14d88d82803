"""Search for a recipe's best settings: trials, pruned early where hopeless, in a study that outlives its process.

The study is kept in a database (SQLite in the output folder, or any that Optuna can reach). Several processes and
machines can share it, and a killed one loses no more than its own trial: the next call queues that trial's settings
again. Trials train on the training cells and are evaluated on the validation cells; the test cells are never read.
"""

from __future__ import annotations

import giemsa.lab.networks.torchvision_fix  # noqa: F401 Lightning imports torchvision

# isort: split
import json
import os
import shutil
import socket
import sys
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
import numpy as np
import optuna
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator
from optuna.trial import TrialState

from giemsa.errors import OutputError, RecipeError, RunError, UsageError
from giemsa.files import replace_file, write_file
from giemsa.lab.training.curves import read_run_metrics
from giemsa.lab.training.loop import train
from giemsa.lab.tuning.search_space import TABLE_COLUMNS
from giemsa.render import palette
from giemsa.spreadsheets import GuardedWriter
from giemsa.verdicts import DISCLAIMER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import lightning
    from matplotlib.axes import Axes

    from giemsa.lab.recipes import Recipe
    from giemsa.lab.training.loop import TrainingData
    from giemsa.lab.tuning.search_space import SearchSpace

FILES: Final = ("trials.csv", "best.toml", "study.json", "history.png", "importance.png", "parallel.png")
HEARTBEAT_S: Final = 60
"""Interval at which a process reports that it is alive; after twice as long without a report its trial is given up (on
storages for which Optuna supports it)."""
STARTUP_TRIALS: Final = 5
"""Number of trials that are sampled at random and never pruned, since there is nothing yet to compare with."""
_FINISHED: Final = (TrialState.COMPLETE, TrialState.PRUNED)
_BLUE, _VERMILLION, _GREY = palette.BLUE.hex, palette.VERMILLION.hex, palette.GREY.hex


@dataclass(frozen=True, slots=True)
class StudyPlace:
    """Where a study is kept: an Optuna storage URL, and the study's name in it."""

    storage: str
    name: str


def open_study(
    place: StudyPlace, space: SearchSpace, begun_with: dict[str, str], *, seed: int, resume: bool
) -> optuna.Study:
    """A study, opened or begun.

    Parameters
    ----------
    place : StudyPlace
        Where it is kept.
    space : SearchSpace
        For its metric.
    begun_with : dict of str to str
        Digests of recipe, space, data and split; a study continues only with the same ones.
    seed : int
        Of the sampler.
    resume : bool
        Whether a study that has trials already may be continued or joined.

    Raises
    ------
    RunError
        If there is a study already and `resume` is not set, or it was begun with something else.
    OutputError
        If the storage cannot be reached.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with _without_advice():
            storage = optuna.storages.RDBStorage(
                place.storage,
                heartbeat_interval=HEARTBEAT_S,
                heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=3),
            )
        study = optuna.create_study(
            study_name=place.name,
            storage=storage,
            direction="minimize" if space.minimise else "maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=1),
        )
    except Exception as error:  # SQLAlchemy's and its drivers' own
        said = " ".join(str(error).split()).partition(" (Background")[0] or type(error).__name__
        raise OutputError(
            f"the study's storage {_without_password(place.storage)} cannot be used: {said}; expected a URL such as "
            "sqlite:///study.db or postgresql://user@host/base, and the driver of that database installed"
        ) from None
    _check_begun(study, place, begun_with, resume=resume)
    # Another process, and a later call, draw other trials than the first one.
    drawn = len(study.trials)
    shared = os.getpid() if not place.storage.startswith("sqlite") else 0
    study.sampler = optuna.samplers.TPESampler(
        seed=int(np.random.SeedSequence((seed, drawn, shared)).generate_state(1)[0]),
        n_startup_trials=STARTUP_TRIALS,
        constant_liar=True,
    )
    return study


def tune(
    study: optuna.Study,
    recipe: Recipe,
    space: SearchSpace,
    data_of: Callable[[Recipe], TrainingData],
    folder: Path,
    *,
    trials: int,
    threads: int | None = None,
    command: str = "",
    report: Callable[[str], None] = print,
) -> None:
    """Run trials until the study holds the given number of finished ones.

    Parameters
    ----------
    study : Study
        From `open_study`.
    recipe, space
        The recipe and how it is varied.
    data_of : callable
        Training and validation cells for a recipe, in its input size.
    folder : Path
        Where trials are trained; a trial's run is removed once its figure is in the study.
    trials : int
        Number of finished trials, including pruned ones, with which the study ends.
    threads : int, optional
        Threads of PyTorch.
    command : str
        Command line, for the trials' records.
    report : callable
        Called with a sentence on each trial.

    Raises
    ------
    UsageError
        If there is nothing to validate on.
    """
    _give_up_dead(study, report)

    def objective(trial: optuna.Trial) -> float:
        trial.set_user_attr("host", socket.gethostname())
        trial.set_user_attr("process", _process())
        try:
            drawn = space.suggest(trial, recipe)
        except RecipeError as error:  # each setting is possible, together they are not
            report(f"Trial {trial.number} has settings that exclude each other: {error}")
            raise optuna.TrialPruned from error
        data = data_of(drawn)
        if not len(data.validation):
            raise UsageError("there are no validation cells to evaluate trials on; give a split with a validation part")
        place = folder / f"trial-{trial.number}"
        shutil.rmtree(place, ignore_errors=True)
        watch = _Watch(trial, space.metric, minimise=space.minimise)
        try:
            run = train(drawn, data, place, command=command, threads=threads, callbacks=(watch,))
            # A backbone's head is trained alone in another way, which is not watched.
            value = watch.value if watch.value is not None else read_run_metrics(place)[space.metric][-1][1]
        finally:
            shutil.rmtree(place, ignore_errors=True)
        trial.set_user_attr("seconds", run.record.timings["seconds"])
        trial.set_user_attr("parameters", run.record.parameters)
        return value

    def said(_study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        value = f"{space.metric} {trial.value:.5f}" if trial.value is not None else "no figure"
        state = {TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}.get(trial.state, "complete")
        report(f"Trial {trial.number} {state}: {value}, {_settings(trial.params)}")

    if _count_finished(study) >= trials:
        return
    with _without_advice():
        study.optimize(objective, callbacks=[said, optuna.study.MaxTrialsCallback(trials, states=_FINISHED)])


def best_recipe(study: optuna.Study, recipe: Recipe, space: SearchSpace) -> Recipe:
    """Recipe of the best trial.

    Raises
    ------
    RunError
        If no trial is complete.
    """
    try:
        best = study.best_trial
    except ValueError:
        raise RunError(f"the study {study.study_name} has no complete trial yet; give more --trials") from None
    drawn = space.suggest(optuna.trial.FixedTrial(best.params, number=best.number), recipe)  # type: ignore[arg-type]
    content = drawn.model_dump(mode="json", exclude_none=True)
    content["name"] = f"{recipe.name.removesuffix('-tuned')}-tuned"
    content["description"] = (
        f"{recipe.name}, tuned: the best of {_count_finished(study)} trials by {space.metric} on validation cells "
        f"({study.best_value:.5f}, an optimistic figure, since the trial was chosen by it)."
    )
    return type(recipe).model_validate(content)


def write_results(
    folder: Path, study: optuna.Study, recipe: Recipe, space: SearchSpace, provenance: dict[str, Any]
) -> dict[str, Any]:
    """Content of study.json, which is written with the table, the figures and the best recipe."""
    best = best_recipe(study, recipe, space)
    names = list(space.parameters)
    importance = _importance(study)
    states = [trial.state for trial in study.trials]
    content = {
        "format": 1,
        "disclaimer": DISCLAIMER,
        "study": study.study_name,
        "metric": space.metric,
        "direction": "minimise" if space.minimise else "maximise",
        "judged_on": "validation cells; the test cells were not read",
        "trials": {state.name.lower(): states.count(state) for state in sorted(set(states))},
        "best": {"number": study.best_trial.number, "value": study.best_value, "parameters": study.best_params},
        "importance": importance,
        "recipe": recipe.name,
        "best_recipe_digest": best.digest,
        **provenance,
    }
    write_file(folder / "best.toml", best.to_toml())
    write_file(folder / "study.json", json.dumps(content, indent=2, allow_nan=False) + "\n")
    with replace_file(folder / "trials.csv") as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = GuardedWriter(file)
        writer.writerow((*TABLE_COLUMNS, space.metric, *names))
        for trial in study.trials:
            writer.writerow(
                (
                    trial.number,
                    trial.state.name.lower(),
                    len(trial.intermediate_values),
                    trial.user_attrs.get("seconds", ""),
                    "" if trial.value is None else repr(trial.value),
                    *(trial.params.get(name, "") for name in names),
                )
            )
    _draw_all(folder, study, space, importance)
    return content


class _Watch(Callback):
    """Reports a trial's metric after each epoch, and stops the trial where the study prunes it."""

    def __init__(self, trial: optuna.Trial, metric: str, *, minimise: bool) -> None:
        self.value: float | None = None
        """Metric of the weights that are kept: those of the last epoch or, with patience, of the best one."""
        self._trial = trial
        self._metric = metric
        self._better = min if minimise else max

    def on_validation_epoch_end(self, trainer: lightning.Trainer, _module: lightning.LightningModule) -> None:
        """Report the epoch's metric."""
        value = float(trainer.callback_metrics[self._metric])
        if not np.isfinite(value):
            raise optuna.TrialPruned  # training does not recover from NaN
        keeps_best = trainer.early_stopping_callback is not None
        self.value = value if self.value is None or not keeps_best else self._better(self.value, value)
        self._trial.report(value, trainer.current_epoch)
        if self._trial.should_prune():
            raise optuna.TrialPruned


def _check_begun(study: optuna.Study, place: StudyPlace, begun_with: dict[str, str], *, resume: bool) -> None:
    known = study.user_attrs
    if not known:
        for what, digest in begun_with.items():
            study.set_user_attr(what, digest)
        return
    for what, digest in begun_with.items():
        if known.get(what) != digest:
            raise RunError(
                f"the study {place.name} was begun with another {what}; give another --study or another --output"
            )
    if not resume and study.trials:
        raise RunError(
            f"the study {place.name} has {len(study.trials)} trials already; continue or join it with --resume"
        )


def _give_up_dead(study: optuna.Study, report: Callable[[str], None]) -> None:
    """Queue trials of dead processes of this machine again; Optuna does so for other machines."""
    with _without_advice():
        optuna.storages.fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        same_machine = trial.user_attrs.get("host") == socket.gethostname()
        if same_machine and not _lives(str(trial.user_attrs.get("process", ""))):
            with suppress(RuntimeError):  # another process has just done the same
                study.tell(trial.number, state=TrialState.FAIL)
                study.enqueue_trial(trial.params)
                report(f"Trial {trial.number} was interrupted; its settings are tried again.")


@contextmanager
def _without_advice() -> Iterator[None]:
    """Suppress Optuna's remark that heartbeats may change, which our lower bound and tests take care of."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        yield


def _process() -> str:
    """Identity of this process: its number and start, so that no later process of that number is taken for it."""
    return f"{os.getpid()} {_started(os.getpid())}"


def _lives(process: str) -> bool:
    number, _, started = process.partition(" ")
    if not number.isdigit():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return _started(int(number)) == started


def _started(number: int) -> str:
    """Start of a process, in clock ticks since the machine started; empty where it is not known."""
    try:
        with open(f"/proc/{number}/stat", encoding="utf-8") as file:  # noqa: PTH123  no path of ours
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _count_finished(study: optuna.Study) -> int:
    return len(study.get_trials(deepcopy=False, states=_FINISHED))


def _settings(parameters: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in parameters.items()
    )


def _without_password(url: str) -> str:
    scheme, slashes, rest = url.partition("://")
    user, at, host = rest.rpartition("@")
    return f"{scheme}{slashes}{user.partition(':')[0]}{at}{host}"


def _importance(study: optuna.Study) -> dict[str, float] | None:
    """Share of the metric's variance that each parameter explains (fANOVA; Hutter et al. 2014)."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < STARTUP_TRIALS or len({trial.value for trial in complete}) < 2:
        return None
    try:
        found = optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
        )
    except (ValueError, RuntimeError) as error:
        print(f"giemsa: the parameters' importance cannot be computed: {error}", file=sys.stderr)
        return None
    return {name: float(value) for name, value in found.items()}


def _draw_all(folder: Path, study: optuna.Study, space: SearchSpace, importance: dict[str, float] | None) -> None:
    settings: Any = {"axes.spines.top": False, "axes.spines.right": False, "font.size": 10, "text.parse_math": False}
    with mpl.rc_context(settings):
        for name, size in (("history", (7.5, 4.4)), ("importance", (7.5, 4.4)), ("parallel", (10.5, 5.2))):
            canvas = Canvas(figsize=size, layout="constrained")
            canvas.supxlabel(DISCLAIMER, fontsize=7.5, color=_GREY)
            axis = canvas.subplots()
            if name == "history":
                _draw_history(axis, study, space)
            elif name == "importance":
                _draw_importance(axis, importance, space)
            else:
                _draw_parallel(canvas, axis, study, space)
            with replace_file(folder / f"{name}.png") as partial:
                canvas.savefig(partial, dpi=130, format="png")


def _draw_history(axis: Axes, study: optuna.Study, space: SearchSpace) -> None:
    """Draw each trial's metric and the best so far."""
    complete = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    pruned = [trial for trial in study.trials if trial.state == TrialState.PRUNED and trial.value is not None]
    numbers = [trial.number for trial in complete]
    values = np.array([float(trial.value or 0) for trial in complete])
    axis.scatter(numbers, values, color=_BLUE, label="complete", zorder=3)
    axis.scatter(
        [trial.number for trial in pruned],
        [float(trial.value or 0) for trial in pruned],
        color=_VERMILLION,
        marker="x",
        label="pruned, at its last epoch",
        zorder=3,
    )
    best = np.minimum.accumulate(values) if space.minimise else np.maximum.accumulate(values)
    axis.plot(numbers, best, color="black", drawstyle="steps-post", label="best so far")
    axis.set_xlabel("trial")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_ylabel(f"{space.metric.replace('_', ' ')} ({'lower' if space.minimise else 'higher'} is better)")
    axis.set_title(f"Trials of {study.study_name}")
    axis.legend(frameon=False)
    axis.grid(alpha=0.25)


def _draw_importance(axis: Axes, importance: dict[str, float] | None, space: SearchSpace) -> None:
    if importance is None:
        axis.set_axis_off()
        axis.text(
            0.5, 0.5, f"fewer than {STARTUP_TRIALS} different complete trials:\nimportance is not defined", ha="center"
        )
        return
    names = list(importance)[::-1]
    bars = axis.barh(names, [importance[name] for name in names], color=_BLUE)
    axis.bar_label(bars, fmt="%.2f", padding=3)
    axis.set_xlim(0, 1.08)
    axis.set_xlabel(f"share of the variance of {space.metric.replace('_', ' ')} (fANOVA)")
    axis.set_title("Importance of the parameters")


def _draw_parallel(canvas: Canvas, axis: Axes, study: optuna.Study, space: SearchSpace) -> None:
    """Draw a line for each complete trial through its settings, coloured by its metric."""
    names = list(space.parameters)
    trials = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    values = np.array([float(trial.value or 0) for trial in trials])
    colours = mpl.colormaps["viridis_r" if space.minimise else "viridis"]
    low, high = float(values.min()), float(values.max())
    columns = [_positions(space, name, [trial.params[name] for trial in trials]) for name in names]
    order = np.argsort(values)
    for row in order[::-1] if space.minimise else order:  # the best ones on top
        shade = 0.5 if high == low else (values[row] - low) / (high - low)
        axis.plot(range(len(names)), [column[0][row] for column in columns], color=colours(shade), alpha=0.8)
    for place, (_, ticks) in enumerate(columns):
        axis.axvline(place, color=_GREY, linewidth=0.8)
        for height, text in ticks:
            axis.annotate(text, (place, height), xytext=(4, 0), textcoords="offset points", fontsize=8, va="center")
    axis.set_xticks(range(len(names)), names)
    axis.set_xlim(-0.2, len(names) - 0.5)
    axis.set_ylim(-0.05, 1.05)
    axis.set_yticks([])
    axis.spines["left"].set_visible(False)
    axis.set_title(f"Settings of the {len(trials)} complete trials")
    scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(low, high if high > low else low + 1e-9), colours)
    canvas.colorbar(scale, ax=axis, label=space.metric.replace("_", " "))


def _positions(space: SearchSpace, name: str, values: list[Any]) -> tuple[list[float], list[tuple[float, str]]]:
    """Positions of values on an axis from 0 to 1, and its ticks with their texts."""
    parameter = space.parameters[name]
    if parameter.kind == "choice":
        known = [json.dumps(value) for value in parameter.values]
        step = 1 / max(1, len(known) - 1)
        return [known.index(value) * step for value in values], [
            (place * step, str(value)) for place, value in enumerate(known)
        ]
    low, high = float(parameter.low), float(parameter.high)
    turn = np.log if parameter.log else np.asarray
    width = float(turn(high) - turn(low)) or 1.0
    heights = [float(turn(float(value)) - turn(low)) / width for value in values]
    return heights, [(0.0, f"{low:g}"), (1.0, f"{high:g}")]
