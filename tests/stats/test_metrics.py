"""Point values against scikit-learn, ties and weights included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference
from sklearn.calibration import calibration_curve

from giemsa.errors import DataError
from giemsa.stats import metrics

# Few distinct scores, so that most cells are tied with others; the edges of the ECE's bins are among them.
TIED_SCORES = [0.0, 0.2, 1 / 3, 0.4, 0.5, 0.6, 2 / 3, 0.8, 0.999, 1.0]


def cells(seed: int, n: int, *, kind: str, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Draw labels and probabilities of n cells, with at least one cell of each class."""
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < share
    positive[:2] = [True, False]
    if kind == "tied":
        return positive, rng.choice(TIED_SCORES, n)
    if kind == "constant":
        return positive, np.full(n, 0.3)
    if kind == "perfect":
        return positive, np.where(positive, 0.9, 0.1)
    if kind == "inverted":
        return positive, np.where(positive, 0.1, 0.9)
    logit = rng.normal(size=n) * 2 + np.where(positive, 1, -1)
    return positive, 1 / (1 + np.exp(-logit))


CASES = pytest.mark.parametrize("kind", ["smooth", "tied", "constant", "perfect", "inverted"])
SIZES = pytest.mark.parametrize(("seed", "n", "share"), [(0, 2, 0.5), (1, 7, 0.5), (2, 200, 0.03), (3, 3000, 0.5)])


@CASES
@SIZES
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.8, 1.1])
def test_figures_at_a_threshold_are_those_of_scikit_learn(
    kind: str, seed: int, n: int, share: float, threshold: float
) -> None:
    positive, p = cells(seed, n, kind=kind, share=share)
    called = p >= threshold
    counts = metrics.confusion(positive, called)
    nan = {"zero_division": np.nan}

    assert metrics.accuracy(counts) == pytest.approx(reference.accuracy_score(positive, called))
    assert metrics.balanced_accuracy(counts) == pytest.approx(reference.balanced_accuracy_score(positive, called))
    assert metrics.sensitivity(counts) == pytest.approx(reference.recall_score(positive, called))
    assert metrics.specificity(counts) == pytest.approx(reference.recall_score(~positive, ~called))
    assert metrics.precision(counts) == pytest.approx(reference.precision_score(positive, called, **nan), nan_ok=True)
    assert metrics.f1(counts) == pytest.approx(reference.f1_score(positive, called))
    assert metrics.mcc(counts) == pytest.approx(reference.matthews_corrcoef(positive, called), abs=1e-12)
    (tn, fp), (fn, tp) = reference.confusion_matrix(positive, called)
    assert (counts.true_negatives, counts.false_positives) == (tn, fp)
    assert (counts.false_negatives, counts.true_positives) == (fn, tp)


@CASES
@SIZES
@pytest.mark.parametrize("weighted", [False, True])
def test_figures_over_all_thresholds_are_those_of_scikit_learn(
    kind: str, seed: int, n: int, share: float, weighted: bool
) -> None:
    positive, p = cells(seed, n, kind=kind, share=share)
    weights = np.random.default_rng(seed).integers(0, 4, n) if weighted else None
    if weights is not None:
        weights[:2] = 1  # at least one cell of each class stays in

    assert metrics.roc_auc(positive, p, weights) == pytest.approx(
        reference.roc_auc_score(positive, p, sample_weight=weights)
    )
    assert metrics.average_precision(positive, p, weights) == pytest.approx(
        reference.average_precision_score(positive, p, sample_weight=weights)
    )
    assert metrics.brier(positive, p, weights) == pytest.approx(
        reference.brier_score_loss(positive, p, sample_weight=weights)
    )


@CASES
@SIZES
@pytest.mark.parametrize("bins", [1, 5, metrics.ECE_BINS])
def test_ece_uses_the_bins_of_scikit_learns_calibration_curve(
    kind: str, seed: int, n: int, share: float, bins: int
) -> None:
    positive, p = cells(seed, n, kind=kind, share=share)
    seen, said = calibration_curve(positive, p, n_bins=bins, strategy="uniform")

    curve = metrics.reliability_curve(positive, p, bins=bins)
    filled = curve.cells > 0
    assert curve.share[filled] == pytest.approx(seen)
    assert curve.mean_p[filled] == pytest.approx(said)
    assert np.isnan(curve.share[~filled]).all()
    assert curve.cells.sum() == n
    assert metrics.expected_calibration_error(positive, p, bins=bins) == pytest.approx(
        np.average(np.abs(seen - said), weights=curve.cells[filled])
    )


@CASES
@SIZES
def test_curves_are_those_of_scikit_learn(kind: str, seed: int, n: int, share: float) -> None:
    positive, p = cells(seed, n, kind=kind, share=share)

    fpr, tpr, thresholds = reference.roc_curve(positive, p, drop_intermediate=False)
    roc = metrics.roc_curve(positive, p)
    assert roc.false_positive_rate == pytest.approx(fpr)
    assert roc.true_positive_rate == pytest.approx(tpr)
    assert roc.thresholds == pytest.approx(thresholds)

    precision, recall, thresholds = reference.precision_recall_curve(positive, p)
    curve = metrics.precision_recall_curve(positive, p)
    assert curve.precision == pytest.approx(precision)
    assert curve.recall == pytest.approx(recall)
    assert curve.thresholds == pytest.approx(thresholds)


labels_scores_weights = st.lists(
    st.tuples(
        st.booleans(),
        st.one_of(st.sampled_from(TIED_SCORES), st.floats(0, 1)),
        st.one_of(st.integers(0, 5).map(float), st.floats(0.001, 10)),
    ),
    min_size=1,
    max_size=60,
)


@settings(deadline=None)
@given(labels_scores_weights)
def test_weighted_figures_agree_with_scikit_learn_on_any_cells(drawn: list[tuple[bool, float, float]]) -> None:
    positive, p, weights = (np.array(column) for column in zip(*drawn, strict=True))
    has_positive, has_negative = weights[positive].sum() > 0, weights[~positive].sum() > 0

    auc = metrics.roc_auc(positive, p, weights)
    if has_positive and has_negative:
        assert auc == pytest.approx(reference.roc_auc_score(positive, p, sample_weight=weights), abs=1e-9)
    else:
        assert np.isnan(auc)

    average_precision = metrics.average_precision(positive, p, weights)
    if has_positive:
        expected = reference.average_precision_score(positive, p, sample_weight=weights)
        assert average_precision == pytest.approx(expected, abs=1e-9)
    else:
        assert np.isnan(average_precision)

    counts = metrics.confusion(positive, p >= 0.5, weights)
    if has_positive or has_negative:
        expected = reference.accuracy_score(positive, p >= 0.5, sample_weight=weights)
        assert metrics.accuracy(counts) == pytest.approx(expected, abs=1e-9)
    else:
        assert np.isnan(metrics.accuracy(counts))


@settings(deadline=None)
@given(labels_scores_weights)
def test_whole_weights_are_the_same_as_repeated_cells(drawn: list[tuple[bool, float, float]]) -> None:
    positive, p, weights = (np.array(column) for column in zip(*drawn, strict=True))
    times = weights.astype(int)
    positive_again, p_again = np.repeat(positive, times), np.repeat(p, times)

    for figure in (metrics.roc_auc, metrics.average_precision, metrics.brier, metrics.expected_calibration_error):
        assert figure(positive, p, times) == pytest.approx(figure(positive_again, p_again), nan_ok=True)


@settings(deadline=None)
@given(labels_scores_weights)
def test_a_tally_gives_the_same_figures_as_the_functions(drawn: list[tuple[bool, float, float]]) -> None:
    positive, p, _ = (np.array(column) for column in zip(*drawn, strict=True))
    unit = np.arange(p.size) % 3
    multiplicity = np.array([[1, 1, 1], [2, 0, 1], [0, 0, 0]])

    tally = metrics.Tally(positive, p, 0.5, unit, 3)
    rows = tally.figures(multiplicity)
    assert list(rows) == list(metrics.METRICS)
    for row, times in enumerate(multiplicity):
        weights = times[unit].astype(float)
        counts = metrics.confusion(positive, p >= 0.5, weights)
        expected = {
            "accuracy": metrics.accuracy(counts),
            "balanced_accuracy": metrics.balanced_accuracy(counts),
            "sensitivity": metrics.sensitivity(counts),
            "specificity": metrics.specificity(counts),
            "precision": metrics.precision(counts),
            "f1": metrics.f1(counts),
            "mcc": metrics.mcc(counts),
            "roc_auc": metrics.roc_auc(positive, p, weights),
            "pr_auc": metrics.average_precision(positive, p, weights),
            "brier": metrics.brier(positive, p, weights),
            "ece": metrics.expected_calibration_error(positive, p, weights),
        }
        for name, value in expected.items():
            assert rows[name][row] == pytest.approx(float(value), nan_ok=True, abs=1e-12), name

        curve, of_tally = metrics.reliability_curve(positive, p, weights), tally.reliability(times)
        assert of_tally.cells == pytest.approx(curve.cells)
        assert of_tally.share == pytest.approx(curve.share, nan_ok=True)
        assert of_tally.mean_p == pytest.approx(curve.mean_p, nan_ok=True)


@settings(deadline=None)
@given(labels_scores_weights)
def test_what_is_undefined_has_a_reason_and_what_is_defined_has_none(drawn: list[tuple[bool, float, float]]) -> None:
    positive, p, _ = (np.array(column) for column in zip(*drawn, strict=True))
    for times in (np.ones(1), np.zeros(1)):
        tally = metrics.Tally(positive, p, 0.5, np.zeros(p.size, dtype=int), 1)
        for name, value in tally.figures(times).items():
            assert np.isnan(value) == bool(metrics.why_undefined(name, tally.confusion(times))), name


def test_no_cells_at_all_give_undefined_figures_and_empty_curves() -> None:
    tally = metrics.Tally([], [], 0.5)
    assert all(np.isnan(value) for value in tally.figures().values())
    assert metrics.why_undefined("accuracy", tally.confusion()) == "no cells"
    assert metrics.roc_curve([], []).thresholds.tolist() == [np.inf]
    assert metrics.precision_recall_curve([], []).precision.tolist() == [1.0]


def test_a_classifier_with_one_verdict_for_everything_has_an_mcc_of_zero() -> None:
    assert metrics.mcc(metrics.confusion([1, 0, 1], [1, 1, 1])) == 0
    assert np.isnan(metrics.mcc(metrics.confusion([1, 1, 1], [1, 0, 1])))


def test_a_score_equal_to_the_threshold_is_called_parasitized() -> None:
    counts = metrics.Tally([1, 0], [0.5, 0.49999], 0.5).confusion()
    assert (counts.true_positives, counts.false_positives) == (1, 0)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: metrics.roc_auc([0, 2], [0.1, 0.2]), "positive holds 2"),
        (lambda: metrics.roc_auc([[0, 1]], [0.1, 0.2]), r"positive has shape \(1, 2\)"),
        (lambda: metrics.roc_auc([0, 1], [0.1, np.nan]), "score holds nan"),
        (lambda: metrics.roc_auc([0, 1], [[0.1, 0.2]]), r"score has shape \(1, 2\)"),
        (lambda: metrics.roc_auc([0, 1], [0.1]), "do not belong together"),
        (lambda: metrics.roc_auc([0, 1], [0.1, 0.2], [1.0]), r"weights have shape \(1,\)"),
        (lambda: metrics.roc_auc([0, 1], [0.1, 0.2], [1.0, -1.0]), "weights hold -1.0"),
        (lambda: metrics.brier([0, 1], [0.1, 3.2]), r"p_parasitized holds 3.2.*not logits"),
        (lambda: metrics.brier([0, 1], [[0.1, 0.2]]), "p_parasitized has shape"),
        (lambda: metrics.brier([0, 1], [0.1, np.nan]), "p_parasitized holds nan"),
        (lambda: metrics.confusion([0, 1], [1]), r"positive \(2,\), called \(1,\)"),
        (lambda: metrics.reliability_curve([0, 1], [0.1, 0.2], bins=0), "bins is 0"),
        (lambda: metrics.Tally([0, 1], [0.1, 0.2], 0.5, [0, 1]).figures([1]), "2 units"),
    ],
)
def test_values_that_make_no_sense_are_refused_in_one_sentence(call, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        call()
