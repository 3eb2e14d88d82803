"""From photographs to a smear: results, sentences, the folder and the report."""

from __future__ import annotations

import json
import re
from dataclasses import FrozenInstanceError, replace

import cv2
import numpy as np
import pytest

import giemsa
from giemsa.errors import DataError, OutputError, UsageError
from giemsa.formats.boxed_fields import read_annotations
from giemsa.smear import counting, sentences
from giemsa.smear.output import SmearFolder, draw_overlay
from giemsa.smear.reading import SmearReader, Tally
from giemsa.smear.report import render_report
from giemsa.smear.reviewed import labelled, read_reviewed
from giemsa.smear.site import calibrate


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


def summary_with(smear, **counted):
    count = counting.count(**counted)
    return replace(smear.summary, count=count)


def test_no_parasite_is_never_called_negative(smear):
    none = summary_with(smear, red_cells=4812, called=0, rates=counting.assumed_rates())
    text = " ".join(sentences.sentences(none))
    assert text.startswith(
        "No parasite found in 4,812 red cells of 3 fields; this rules out a parasitaemia of more than"
    )
    assert "negative" not in text.lower()
    assert "the interval is wide for that reason" in text
    assert "assumed, since it was not given" in text


def test_a_count_comes_with_its_interval(smear):
    some = summary_with(smear, red_cells=4812, called=900, rates=counting.assumed_rates(), red_cells_per_ul=4.1e6)
    said = sentences.sentences(some)
    assert re.match(r"Parasitaemia \d+ % \(95 % interval [\d.]+ % to \d+ %\): 900 cells called", said[0])
    assert any("4,100,000 red cells per microlitre, as given" in s for s in said)


@pytest.mark.parametrize(("share", "said"), [(0, "0.0 %"), (0.000123, "0.012 %"), (0.0456, "4.6 %"), (0.2, "20 %")])
def test_shares_have_two_digits_that_count(share, said):
    assert sentences.percent(share) == said


# ---------------------------------------------------------------------------------------------------- the folder


@pytest.fixture
def reader(tiny_model):
    return SmearReader(tiny_model, threads=1)


@pytest.fixture
def reads(smear):
    return [field.read for field in smear.fields]


def test_what_is_written_comes_back(tmp_path, reader, reads):
    folder = SmearFolder(tmp_path / "out")
    assert folder.begin(reader) == 0
    for read in reads:
        folder.add(read)
    assert list(folder.read_fields(pictures=True)) == reads


def test_a_torn_last_line_is_read_again(tmp_path, reader, reads):
    folder = SmearFolder(tmp_path / "out")
    folder.begin(reader)
    for read in reads[:2]:
        folder.add(read)
    with folder.state.open("ab") as file:
        file.write(b'{"field": "half')
    again = SmearFolder(tmp_path / "out")
    assert again.begin(reader, resume=True) == 2
    again.add(reads[2])
    assert list(again.names()) == [read.field for read in reads]


def test_another_model_cannot_resume(tmp_path, reader, write_model):
    SmearFolder(tmp_path / "out").begin(reader)
    other = SmearReader(write_model(tmp_path / "other.onnx", scale=900.0))
    with pytest.raises(OutputError, match="cannot resume"):
        SmearFolder(tmp_path / "out").begin(other, resume=True)


def test_a_folder_with_other_things_is_never_emptied(tmp_path, reader):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        SmearFolder(tmp_path / "out").begin(reader)
    with pytest.raises(OutputError, match="other things"):
        SmearFolder(tmp_path / "out").begin(reader, force=True)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


def test_overlays_show_what_was_found(smear):
    judged = smear.fields[0]
    drawn = cv2.imdecode(np.frombuffer(draw_overlay(judged), np.uint8), cv2.IMREAD_COLOR).astype(int)
    plain = cv2.imdecode(np.frombuffer(judged.read.picture, np.uint8), cv2.IMREAD_COLOR).astype(int)
    assert drawn.shape == plain.shape
    cell = judged.cells[10]
    assert np.abs(drawn - plain)[cell.y0 : cell.y0 + 2, cell.x0 + 5 : cell.x1 - 5].max() > 40


# ---------------------------------------------------------------------------------------------------- the report


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
    rates = counting.assumed_rates()
    assert data["red_cells"] == smear.summary.count.red_cells
    assert data["sensitivity"] == rates.sensitivity.tolist()
    called = sum(c["relative_logit"] >= data["cut"] for c in data["cells"])
    assert called + data["called_elsewhere"] == smear.summary.count.called
    logits = [c["relative_logit"] for c in data["cells"]]
    assert logits == sorted(logits, reverse=True)


def test_a_fields_name_cannot_break_out_of_the_report(drawn_field, tiny_model):
    name = "</script><img src=x onerror=alert(1)>.jpg"
    reader = SmearReader(tiny_model, threads=1)
    from giemsa.smear.reading import judge_field, slide_of
    from giemsa.smear.results import Smear

    read = reader.read_field(drawn_field, name)
    slide = slide_of([read])
    tally = Tally(reader.model, slide)
    judged = judge_field(read, slide, tally.cut, {})
    tally.add(judged)
    page = render_report(Smear(tally.summary(), (judged,)))
    assert "<img src=x" not in page
    assert page.count("</script>") == 2
