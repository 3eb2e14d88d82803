"""What an evaluation leaves: the real writer's files through the real reader."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from giemsa.errors import DataError
from giemsa.formats.evaluations import (
    PREDICTION_COLUMNS,
    Predictions,
    is_evaluation,
    read_evaluation,
    read_labelled_predictions,
    write_evaluation_files,
    write_out_of_fold,
)


@st.composite
def drawn_predictions(draw):
    """Predictions of a few cells of which anything may be unknown."""
    n = draw(st.integers(1, 6))

    def column(values):
        return draw(st.lists(values, min_size=n, max_size=n))

    names = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\r\n\x00"), min_size=1)
    p = np.array(column(st.floats(0, 1) | st.just(np.nan)))
    labels = st.sampled_from([1, 0, -1])
    return Predictions(
        images=column(names),
        p_parasitized=p,
        logit=np.where(np.isnan(p), np.nan, np.array(column(st.floats(-50, 50)))),
        official=np.array(column(labels), np.int8),
        reviewed=draw(st.none() | st.just(np.array(column(labels), np.int8))),
        donor=draw(st.none() | st.just(np.array(column(st.booleans())))),
        patients=draw(st.none() | st.just(column(st.none() | names))),
        fields=draw(st.none() | st.just(column(st.none() | names))),
        reasons=column(st.just("") | names),
    )


@settings(deadline=None, max_examples=60)
@given(drawn_predictions())
def test_what_is_written_is_read_again(tmp_path_factory, predictions):
    folder = tmp_path_factory.mktemp("evaluation")
    write_evaluation_files(folder, predictions, {"threshold": 0.25}, threshold=0.25)
    assert is_evaluation(folder)
    for read in (read_evaluation(folder).predictions, read_labelled_predictions(folder).predictions):
        assert read.images == predictions.images
        np.testing.assert_array_equal(read.p_parasitized, predictions.p_parasitized)
        np.testing.assert_allclose(read.logit, predictions.logit, rtol=1e-8)
        np.testing.assert_array_equal(read.official, predictions.official)
        known = predictions.reviewed is not None and (predictions.reviewed >= 0).any()
        assert (read.reviewed is not None) == bool(known)
        if known:
            np.testing.assert_array_equal(read.reviewed, predictions.reviewed)
        if predictions.donor is not None:
            np.testing.assert_array_equal(read.donor, predictions.donor)
        for name in ("patients", "fields"):
            assert getattr(read, name) == (getattr(predictions, name) or [None] * len(predictions.images))
        assert read.reasons == predictions.reasons
        called = [
            "unreadable" if np.isnan(p) else "parasitized" if p >= 0.25 else "uninfected" for p in read.p_parasitized
        ]
        assert read.verdicts == called


def predictions_of(n=4, **more):
    return Predictions(
        [f"{i}.png" for i in range(n)], np.linspace(0, 1, n), np.linspace(-3, 3, n), np.arange(n) % 2, **more
    )


def test_an_evaluation_names_its_model_and_its_data(tmp_path):
    metrics = {"threshold": 0.5, "model": {"name": "tiny", "digest": "ab" * 32}, "data": {"digest": "cd"}}
    write_evaluation_files(tmp_path, predictions_of(), metrics, threshold=0.5)
    found = read_evaluation(tmp_path)
    assert (found.model_sha256, found.data_digest, found.model["name"]) == ("ab" * 32, "cd", "tiny")
    write_evaluation_files(tmp_path, predictions_of(), {"threshold": 0.5, "data_digest": "ef"}, threshold=0.5)
    pooled = read_evaluation(tmp_path)
    assert (pooled.model_sha256, pooled.data_digest) == (None, "ef")


def test_a_cross_validations_rows_are_found_wherever_they_lie(tmp_path):
    fold = np.array([0, 1, 0, 1])
    write_out_of_fold(tmp_path / "out_of_fold.csv", predictions_of(donor=np.arange(4) == 0), fold)
    found = read_labelled_predictions(tmp_path)
    assert found.folder == tmp_path
    np.testing.assert_array_equal(found.predictions.official, [0, 1, 0, 1])
    (tmp_path / "pooled").mkdir()
    write_evaluation_files(tmp_path / "pooled", predictions_of(3), {"threshold": 0.5}, threshold=0.5)
    assert read_labelled_predictions(tmp_path).folder == tmp_path / "pooled"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metrics.json", "{"),
        ("metrics.json", "[" * 100_000),
        ("metrics.json", "[]"),
        ("metrics.json", '{"threshold": null}'),
        ("predictions.csv", ",".join(PREDICTION_COLUMNS) + "\n"),
        ("predictions.csv", "image,official,p_parasitized,logit\na.png,maybe,0.5,1\n"),
        ("predictions.csv", "image,official,p_parasitized,logit\na.png,parasitized,high,1\n"),
    ],
)
def test_what_is_damaged_is_refused_in_a_sentence(tmp_path, name, text):
    write_evaluation_files(tmp_path, predictions_of(), {"threshold": 0.5}, threshold=0.5)
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=r"is (no evaluation|an evaluation of no cell)") as refused:
        read_evaluation(tmp_path)
    assert "\n" not in str(refused.value)


def test_metrics_may_be_missing_where_only_rows_are_asked_for(tmp_path):
    write_evaluation_files(tmp_path, predictions_of(), {"threshold": 0.5}, threshold=0.5)
    (tmp_path / "metrics.json").write_text(json.dumps([1]))
    assert read_labelled_predictions(tmp_path).metrics == {}
    with pytest.raises(DataError, match=r"has no predictions\.csv"):
        read_labelled_predictions(tmp_path / "nowhere")
