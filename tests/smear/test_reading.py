"""From photographs to a smear: results, sentences, the folder and the report."""

from __future__ import annotations

import json
import re
from dataclasses import FrozenInstanceError, replace

import cv2
import numpy as np
import pytest

import giemsa
from giemsa.errors import DataError, UsageError
from giemsa.formats.boxed_fields import read_annotations
from giemsa.smear import counting, sentences
from giemsa.smear.overlays import draw_overlay
from giemsa.smear.pipeline import count_fields
from giemsa.smear.reading import SmearReader
from giemsa.smear.report import basis_of, render_report
from giemsa.smear.results import Smear
from giemsa.smear.reviewed import labelled, read_reviewed
from giemsa.smear.site import calibrate
from giemsa.smear.tally import Basis


@pytest.fixture(scope="module")
def smear(fields_folder, tiny_model):
    return giemsa.read_smear(sorted(fields_folder.glob("*.jpg")), model=tiny_model, patient="P1", threads=2)


def test_a_smear_is_read_into_frozen_types(smear):
    assert smear.summary.fields == smear.summary.fields_counted == 3
    assert smear.summary.count.red_cells == len(smear.cells) > 180
    assert smear.summary.patient == "P1"
    with pytest.raises(FrozenInstanceError):
        smear.summary.patient = "P2"
    with pytest.raises(FrozenInstanceError):
        smear.cells[0].verdict = "parasitized"


def test_fields_come_in_order_whatever_the_threads(smear, fields_folder, tiny_model):
    alone = giemsa.read_smear(fields_folder, model=tiny_model, patient="P1", threads=1)
    assert [f.read.field.rpartition("/")[2] for f in smear.fields] == [f"drawn_field_0{i}.jpg" for i in (1, 2, 3)]
    assert alone.cells == smear.cells
    assert alone.summary == smear.summary


def test_references_are_counted_and_named(smear):
    assert smear.summary.reference_cells == len(smear.cells)
    for field in smear.fields:
        assert field.reference.cells == len(field.cells)
        for cell in field.cells:
            expected = (cell.logit - field.reference.centre) / field.reference.spread
            assert cell.relative_logit == pytest.approx(expected)
            assert (cell.verdict == "parasitized") == (cell.relative_logit >= smear.summary.cut)


def test_the_embedded_model_finds_the_drawn_parasites(fields_folder):
    smear = giemsa.read_smear(fields_folder, threads=1)
    objects = {field.image: field.objects for field in read_annotations(fields_folder)}
    fields = [labelled(f, objects[f.read.field.rpartition("/")[2]]) for f in smear.fields]
    sick = np.concatenate([f.relative_logit[f.infected] for f in fields])
    healthy = np.concatenate([f.relative_logit[~f.infected] for f in fields])
    assert len(sick) == 6
    assert sick.min() > np.quantile(healthy, 0.97)


def test_annotated_fields_calibrate_a_site(fields_folder, tiny_model, smear):
    reader = SmearReader(tiny_model, threads=1)
    fields = read_reviewed([fields_folder], reader)
    assert [len(f.infected) for f in fields] == [len(f.cells) for f in smear.fields]
    assert sum(f.infected.sum() for f in fields) == 6
    site = calibrate(fields, model_sha256=reader.model.digest)
    again = giemsa.read_smear(fields_folder, model=tiny_model, site=site, threads=1)
    assert again.summary.rates_measured
    assert again.summary.cut == site.cut
    assert "3 reviewed fields" in again.summary.rates
    assert "no slide or patient is named" in again.summary.rates_lack


def test_slides_are_judged_and_counted_apart(tmp_path, fields_folder, tiny_model):
    annotations = json.loads((fields_folder / "annotations.json").read_text(encoding="utf-8"))
    for number, entry in enumerate(annotations):
        (tmp_path / entry["image"]).write_bytes((fields_folder / entry["image"]).read_bytes())
        entry |= {"patient": "7", "slide": "ab"[number % 2]}
    (tmp_path / "annotations.json").write_text(json.dumps(annotations))
    reader = SmearReader(tiny_model, threads=1)
    fields = read_reviewed([tmp_path], reader)
    assert {(f.patient, f.slide) for f in fields} == {("7", "a"), ("7", "b")}
    site = calibrate(fields, model_sha256=reader.model.digest)
    assert site.rates().slides == 2
    assert site.lacks == ""


def test_fields_of_two_laboratories_are_not_calibrated_together(tmp_path, fields_folder, tiny_model):
    annotations = json.loads((fields_folder / "annotations.json").read_text(encoding="utf-8"))
    for number, entry in enumerate(annotations):
        (tmp_path / entry["image"]).write_bytes((fields_folder / entry["image"]).read_bytes())
        entry["laboratory"] = f"L{number}"
    (tmp_path / "annotations.json").write_text(json.dumps(annotations))
    with pytest.raises(DataError, match="fields of 3 laboratories"):
        read_reviewed([tmp_path], SmearReader(tiny_model, threads=1))


def test_only_infected_red_cells_are_infected_however_they_are_spelt(smear, tmp_path):
    words = ("rbc", "Red_Blood_Cell", "platelet", "WBC", "artefact", "difficult", "Ring")
    boxes = [
        {"category": word, "x0": cell.x0, "y0": cell.y0, "x1": cell.x1, "y1": cell.y1}
        for word, cell in zip(words, smear.fields[0].cells, strict=False)
    ]
    (tmp_path / "annotations.json").write_text(json.dumps([{"image": "a.jpg", "objects": boxes}]))
    (field,) = read_annotations(tmp_path)
    found = labelled(smear.fields[0], field.objects)
    assert list(np.flatnonzero(found.infected)) == [6]
    assert (found.missed_infected, found.missed_healthy) == (0, 0)


def test_annotations_with_an_unknown_word_calibrate_nothing(tmp_path, fields_folder, tiny_model):
    fields = json.loads((fields_folder / "annotations.json").read_text(encoding="utf-8"))
    fields[0]["objects"][0]["category"] = "erythrocite"
    (tmp_path / "annotations.json").write_text(json.dumps(fields))
    with pytest.raises(DataError, match="the category 'erythrocite' is not known"):
        read_reviewed([tmp_path], SmearReader(tiny_model, threads=1))


def test_reviewed_fields_that_are_none_are_refused(tmp_path, tiny_model):
    reader = SmearReader(tiny_model, threads=1)
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "b.json").write_text('[{"image": "missing.jpg", "objects": []}]')
    (tmp_path / "sample.json").write_text('[{"image": "missing.jpg", "points": []}]')
    for wrong, said in (
        ("a.json", "expected a list with an entry for each field, found dict"),
        ("b.json", r"names the photograph missing\.jpg, which is not beside it"),
        ("c.json", "there is no file or folder"),
        ("sample.json", "labels only some of the cells"),
    ):
        with pytest.raises(DataError, match=said):
            calibrate(read_reviewed([tmp_path / wrong], reader), model_sha256="")


def test_decisions_replace_verdicts(fields_folder, tiny_model, smear):
    healthy = min(smear.cells, key=lambda c: c.relative_logit)
    worst = max(smear.cells, key=lambda c: c.relative_logit)
    decided = giemsa.read_smear(
        fields_folder, model=tiny_model, decisions={healthy.key: "confirmed", worst.key: "rejected"}, threads=1
    )
    verdicts = {c.key: c for c in decided.cells}
    assert verdicts[healthy.key].verdict == "parasitized"
    assert verdicts[worst.key].verdict == "uninfected"
    assert decided.summary.count.confirmed == 1


def test_arrays_and_bytes_are_fields_too(drawn_field, encode, tiny_model):
    smear = giemsa.read_smear([drawn_field, encode(drawn_field)], model=tiny_model, threads=1)
    first, second = smear.fields
    assert [c.logit for c in first.cells] == [c.logit for c in second.cells]


@pytest.mark.parametrize("threads", [1, 2])
def test_arrays_are_named_by_their_place(drawn_field, tiny_model, threads):
    """So that the same call names the same cells, and no two fields share a name in a long stream."""
    reader = SmearReader(tiny_model, threads=threads)
    stream = [np.array(drawn_field), np.array(drawn_field), np.full((600, 800, 3), 220, np.uint8)]
    assert [read.field for read in reader.read_fields(iter(stream))] == ["#1", "#2", "#3"]
    assert reader.read_field(stream[0]).field == "#1"
    assert reader.read_field(stream[0], "left eye-piece").field == "left eye-piece"


def test_another_magnification_in_a_smear_is_named(drawn_field, tiny_model):
    small = cv2.resize(drawn_field, (768, 576), interpolation=cv2.INTER_AREA)
    smear = giemsa.read_smear([drawn_field, drawn_field, small], model=tiny_model, threads=1)
    assert len(smear.summary.other_scale) == 1
    assert any("another magnification" in s for s in sentences.sentences(smear.summary))


@pytest.mark.parametrize("wrong", [{"threads": 0}, {"cell_diameter_px": 3}])
def test_wrong_numbers_are_refused_at_once(tiny_model, wrong):
    with pytest.raises(UsageError):
        SmearReader(tiny_model, **wrong)


def test_a_field_of_another_kind_is_refused(tiny_model):
    with pytest.raises(UsageError, match="a field is given as int"):
        SmearReader(tiny_model).read_field(3)


# ---------------------------------------------------------------------------------------------------- what is said


@pytest.fixture
def site():
    reviewed = [
        counting.FieldCounts(f"{s}-{f}", str(s), "", (92, 4, 2, 1, 0, 0, 0), (0, 0, 0, 0, 1, 1, 0))
        for s in range(6)
        for f in range(5)
    ]
    return counting.measured_rates(reviewed)


def summary_with(smear, cells, confirmed=(0,) * 7, rejected=(0,) * 7, rates=None, **counted):
    rates = rates or counting.assumed_rates()
    count = counting.count(counting.Evidence(3, cells, confirmed, rejected), rates, **counted)
    return replace(smear.summary, count=count, rates=rates.source, rates_measured=rates.measured,
                   slides_reviewed=rates.slides)  # fmt: skip


CALLED = (900, 66, 10, 5, 3, 3, 2)


def test_what_was_seen_comes_first(smear):
    said = sentences.sentences(summary_with(smear, CALLED))
    assert said[0] == "23 suspicious cells in 989 red cells of 3 fields: look at them."
    assert sentences.sentences(summary_with(smear, (60, 3, 1, 0, 0, 0, 0)))[0].endswith("of 3 fields: look at it.")


@pytest.mark.parametrize("cells", [(960, 29, 0, 0, 0, 0, 0), CALLED, (300, 30, 100, 100, 200, 200, 70)])
def test_without_a_site_and_a_review_nothing_is_told_and_nothing_estimated(smear, cells):
    said = sentences.sentences(summary_with(smear, cells))
    assert not any("about" in s or "interval)" in s or "told from none" in s for s in said[:3])
    assert said[1].startswith("Calls alone tell next to nothing here")
    assert "by calls" not in said[3]


def test_no_sentence_is_an_all_clear(smear, site):
    rejected = (0, 0, 10, 5, 3, 3, 2)
    for summary in (
        summary_with(smear, (960, 29, 0, 0, 0, 0, 0)),
        summary_with(smear, CALLED, rejected=rejected),
        summary_with(smear, CALLED, rejected=rejected, rates=site),
        summary_with(smear, (960, 29, 0, 0, 0, 0, 0), rates=site),
    ):
        said = sentences.sentences(summary)
        assert said[0].endswith("This is no all-clear.")
        assert not re.search("negative|healthy smear|no malaria|uninfected", " ".join(said).lower())
        assert "not more than" in said[1].lower() or "up to" in said[1]


def test_all_that_was_looked_at_has_its_own_sentence(smear, site):
    said = sentences.sentences(summary_with(smear, CALLED, (0, 0, 0, 0, 1, 3, 2), (0, 0, 10, 5, 2, 0, 0), rates=site))
    assert said[0] == (
        "All 23 suspicious cells were looked at: 6 parasitized cells confirmed in 989 red cells of 3 fields."
    )
    assert re.match(r"The parasitaemia is [\d.]+ % to [\d.]+ % \(95 % interval\), about [\d.]+ %", said[1])


def test_one_confirmed_cell_of_many_is_for_a_second_reader(smear, site):
    said = sentences.sentences(summary_with(smear, CALLED, (0, 0, 0, 0, 0, 0, 1), (0, 0, 10, 5, 3, 3, 1), rates=site))
    assert "1 confirmed cell may be a reader's error, so let a second person look" in said[1]


def test_cells_left_to_look_at_are_named(smear):
    said = sentences.sentences(summary_with(smear, CALLED, (0, 0, 0, 0, 0, 2, 2), (0, 0, 0, 0, 0, 1, 0)))
    assert (
        said[0]
        == "4 parasitized cells confirmed so far in 989 red cells of 3 fields; 18 suspicious cells left to look at."
    )


def test_the_limit_of_detection_has_its_floor_and_what_review_would_do(smear, site):
    limits = next(s for s in sentences.sentences(summary_with(smear, CALLED, rates=site)) if s.startswith("Limit of"))
    shares = [float(share) for share in re.findall(r"([\d.]+) %", limits.partition("by calls")[2])]
    calls, calls_floor, review, review_floor = shares
    assert calls >= calls_floor > review > review_floor


def test_fields_missing_to_two_thousand_cells_are_named(smear):
    said = " ".join(sentences.sentences(summary_with(smear, CALLED)))
    assert "At least 2,000 red cells" in said or "at least 2,000 red cells" in said
    assert "some 4 fields like these are missing" in said
    enough = " ".join(sentences.sentences(summary_with(smear, (2900, 66, 10, 5, 3, 3, 2))))
    assert "2,000 red cells" not in enough


def test_a_red_cell_count_says_where_it_comes_from(smear):
    said = sentences.sentences(summary_with(smear, CALLED, red_cells_per_ul=4.1e6))
    assert "4,100,000 red cells per microlitre, as given" in said[2]
    assert "assumed" in sentences.sentences(summary_with(smear, CALLED))[2]


def test_few_reviewed_slides_are_said_to_be_few(smear, site):
    few = summary_with(smear, CALLED, rates=replace(site, slides=2))
    assert any(
        "with 2 slides reviewed it is hardly known how much slides differ" in s for s in sentences.sentences(few)
    )
    many = summary_with(smear, CALLED, rates=site)
    assert not any("hardly known" in s for s in sentences.sentences(many))


@pytest.mark.parametrize(("share", "said"), [(0, "0.0 %"), (0.000123, "0.012 %"), (0.0456, "4.6 %"), (0.2, "20 %")])
def test_shares_have_two_digits_that_count(share, said):
    assert sentences.percent(share) == said


# ---------------------------------------------------------------------------------------------------- the report


def test_overlays_show_what_was_found(smear):
    judged = smear.fields[0]
    drawn = cv2.imdecode(np.frombuffer(draw_overlay(judged), np.uint8), cv2.IMREAD_COLOR).astype(int)
    plain = cv2.imdecode(np.frombuffer(judged.read.picture, np.uint8), cv2.IMREAD_COLOR).astype(int)
    assert drawn.shape == plain.shape
    cell = judged.cells[10]
    assert np.abs(drawn - plain)[cell.y0 : cell.y0 + 2, cell.x0 + 5 : cell.x1 - 5].max() > 40


def test_the_report_is_one_file_that_fetches_nothing(smear):
    page = render_report(smear)
    assert "default-src 'none'" in page
    assert re.findall(r"""(?:src|href)=["'](?!data:image/jpeg;base64,)""", page) == []
    assert (
        page.index('id="headline"') < page.index('id="suspicious"') < page.index('id="fields"') < page.index('id="how"')
    )
    assert giemsa.DISCLAIMER in page


def test_the_report_carries_what_its_count_needs(smear):
    data = json.loads(re.search(r'id="data">(.*?)</script>', render_report(smear), re.DOTALL)[1])
    count = smear.summary.count
    assert np.sum(list(data["fields"].values())) == count.red_cells
    assert np.sum([strata[2:] for strata in data["fields"].values()]) == count.called
    assert data["edges"][1] == data["cut"] == smear.summary.cut
    assert data["basis"] == json.loads(json.dumps(basis_of(count, counting.assumed_rates())))
    logits = [c["relative_logit"] for c in data["cells"]]
    assert logits == sorted(logits, reverse=True)


def test_a_fields_name_cannot_break_out_of_the_report(drawn_field, tiny_model):
    name = "</script><img src=x onerror=alert(1)>.jpg"
    reader = SmearReader(tiny_model, threads=1)
    judged = []
    summary = count_fields([reader.read_field(drawn_field, name)], Basis(reader.model), judged.append)
    page = render_report(Smear(summary, tuple(judged)))
    assert "<img src=x" not in page
    assert page.count("</script>") == 2
