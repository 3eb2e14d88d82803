"""A laboratory's own rates, and the files of decisions."""

from __future__ import annotations

import json

import numpy as np
import pytest

from giemsa.errors import DataError
from giemsa.smear.decisions import Decisions, read_decisions
from giemsa.smear.site import LabelledField, calibrate, read_site, write_site


def labelled(name, seed, n=200, sick=10, shift=8.0):
    rng = np.random.default_rng(seed)
    logits = np.concatenate([rng.normal(0, 1.3, n), rng.normal(shift, 2.5, sick)])
    return LabelledField(name, logits, np.arange(n + sick) >= n)


@pytest.fixture
def fields():
    return [labelled(f"f{i}", i) for i in range(12)]


def test_the_cut_lies_between_the_kinds(fields):
    site = calibrate(fields, model_sha256="a" * 64)
    assert 3 <= site.cut <= 6
    rates = site.rates()
    assert rates.sensitivity_interval[0] > 0.75
    assert rates.false_alarms_interval[0] < 0.01
    assert rates.measured


def test_counts_are_those_of_the_fields(fields):
    site = calibrate(fields, model_sha256="a" * 64)
    assert [f.field for f in site.fields] == [f.field for f in fields]
    for counts in site.fields:
        assert counts.true_positives + counts.false_negatives == 10
        assert counts.false_positives + counts.true_negatives == 200


def test_a_field_does_not_choose_the_cut_that_it_is_counted_at(fields):
    odd = LabelledField("odd", np.full(3000, 9.0), np.zeros(3000, bool))
    site = calibrate([*fields, odd], model_sha256="a" * 64)
    assert site.cut > 9
    assert site.fields[-1].false_positives == 3000


@pytest.mark.parametrize("kept", [1, 0])
def test_too_few_fields_are_refused(fields, kept):
    with pytest.raises(DataError, match="expected two fields"):
        calibrate(fields[:kept], model_sha256="a" * 64)


def test_fields_without_parasites_are_refused():
    with pytest.raises(DataError, match="0 infected"):
        calibrate([labelled("a", 0, sick=0), labelled("b", 1, sick=0)], model_sha256="a" * 64)


def test_a_site_file_comes_back_as_it_was(tmp_path, fields):
    site = calibrate(fields, model_sha256="a" * 64, command="giemsa smear calibrate x")
    write_site(tmp_path / "site.json", site)
    assert read_site(tmp_path / "site.json", model_sha256="a" * 64) == site


def test_a_slide_does_not_choose_the_cut_that_it_is_counted_at(fields):
    odd = [LabelledField(f"odd{i}", np.full(1500, 9.0), np.zeros(1500, bool), slide="odd") for i in range(2)]
    named = [LabelledField(f.field, f.relative_logit, f.infected, slide=f"s{i % 3}") for i, f in enumerate(fields)]
    site = calibrate([*named, *odd], model_sha256="a" * 64)
    assert [f.false_positives for f in site.fields[-2:]] == [1500, 1500]
    assert site.rates().slides == 4


def test_cells_that_were_not_found_are_kept_by_field(tmp_path, fields):
    fields = [LabelledField(f.field, f.relative_logit, f.infected, i, 2, "s", "P") for i, f in enumerate(fields)]
    write_site(tmp_path / "site.json", calibrate(fields, model_sha256="a" * 64))
    site = read_site(tmp_path / "site.json")
    assert [f.infected_not_found for f in site.fields] == list(range(12))
    assert sum(f.false_negatives for f in site.fields) >= sum(range(12))
    assert {(f.slide, f.patient, f.healthy_not_found) for f in site.fields} == {("s", "P", 2)}


def test_a_file_of_version_1_opens_and_says_what_it_lacks(tmp_path):
    counts = {"true_positives": 8, "false_negatives": 2, "false_positives": 1, "true_negatives": 200}
    old = {"giemsa_site": 1, "cut": 4.5, "model_sha256": "a" * 64, "missed_infected": 5, "missed_healthy": 3,
           "fields": [{"field": f"f{i}", **counts} for i in range(12)]}  # fmt: skip
    (tmp_path / "site.json").write_text(json.dumps(old))
    site = read_site(tmp_path / "site.json", model_sha256="a" * 64)
    assert "does not tell slides apart" in site.lacks
    rates = site.rates()
    assert rates.slides == 1
    assert "96 of 125 infected cells called, 12 of 2,412 healthy ones" in rates.source
    _, low, high = rates.false_alarms_interval
    assert high / low > 20


def test_another_models_rates_are_refused(tmp_path, fields):
    write_site(tmp_path / "site.json", calibrate(fields, model_sha256="a" * 64))
    with pytest.raises(DataError, match="calibrate again"):
        read_site(tmp_path / "site.json", model_sha256="b" * 64)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"giemsa_site": 2}', '{"giemsa_site": 1, "fields": [{"field": "a"}]}', '{"giemsa_site": 1}']
)
def test_what_is_no_site_file_is_refused(tmp_path, text):
    (tmp_path / "site.json").write_text(text)
    with pytest.raises(DataError, match="no site file"):
        read_site(tmp_path / "site.json")
    with pytest.raises(DataError, match="cannot be read"):
        read_site(tmp_path / "missing.json")


def entry(decision="confirmed", **changes):
    return {"field": "a.jpg", "x0": 1, "y0": 2, "x1": 30, "y1": 40, "decision": decision} | changes


def test_decisions_find_their_fields_wherever_these_lie():
    cells = {("a.jpg", 1, 2, 3, 4): "confirmed", ("up.zip/b.jpg", 1, 2, 3, 4): "rejected"}
    here = ["P1/a.jpg", "P1/b.jpg", "P1/c.jpg", "P1/more/c.jpg"]
    named = Decisions(cells, frozenset({"b.jpg", "c.jpg"})).named_as(here)
    assert named.cells == {("P1/a.jpg", 1, 2, 3, 4): "confirmed", ("P1/b.jpg", 1, 2, 3, 4): "rejected"}
    assert named.complete_fields == {"P1/b.jpg", "c.jpg"}  # two are called c.jpg, so neither is meant
    assert Decisions(cells).named_as(["a.jpg", "P1/a.jpg", "up.zip/b.jpg"]).cells == cells
    both = {("a.jpg", 1, 2, 3, 4): "confirmed", ("P0/a.jpg", 1, 2, 3, 4): "rejected"}
    with pytest.raises(DataError, match="two names"):
        Decisions(both).named_as(["P1/a.jpg"])


def test_decisions_are_read(tmp_path):
    path = tmp_path / "decisions.json"
    path.write_text(
        json.dumps({"giemsa_decisions": 1, "cells": [entry(), entry("rejected", x0=5)], "complete_fields": ["a.jpg"]})
    )
    decisions = read_decisions(path)
    assert decisions.cells == {("a.jpg", 1, 2, 30, 40): "confirmed", ("a.jpg", 5, 2, 30, 40): "rejected"}
    assert decisions.complete_fields == {"a.jpg"}


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"giemsa_decisions": 2, "cells": []},
        {"giemsa_decisions": 1},
        {"giemsa_decisions": 1, "cells": [entry("perhaps")]},
        {"giemsa_decisions": 1, "cells": [entry("confirmed"), entry("rejected")]},
        {"giemsa_decisions": 1, "cells": [{"field": "a"}]},
    ],
)
def test_what_is_no_file_of_decisions_is_refused(tmp_path, content):
    (tmp_path / "decisions.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"decisions\.json"):
        read_decisions(tmp_path / "decisions.json")
