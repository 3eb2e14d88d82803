"""Photographs of fields through the API: the count of `giemsa smear`, and what is refused."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

import giemsa
from giemsa.smear.reading import SmearReader
from giemsa.smear.report import render_report
from giemsa.smear.store import summary_as_json

FIELDS = sorted((Path(__file__).parents[2] / "examples" / "fields").glob("*.jpg"))
PATH = "/api/v1/smears"
LINES = {"Accept": "application/x-ndjson"}
HEADERS = {"Content-Type": "multipart/form-data; boundary=x"}


def files(*paths):
    return [("files", (path.name, path.read_bytes())) for path in paths]


def problem(response, status):
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    return response.json()["detail"]


@pytest.fixture(scope="module")
def expected(tiny_model):
    """What the package itself says of the drawn fields, under the names under which they are sent."""
    return giemsa.read_smear(FIELDS, patient="P <1>", model=tiny_model, threads=1)


@pytest.fixture
def held(monkeypatch):
    """Fields after the first wait until this event is set; some 60 seconds at most."""
    event, real = threading.Event(), SmearReader.read_field
    begun = []

    def read_field(self, picture, name=None):
        begun.append(picture)
        if len(begun) > 1:
            event.wait(20)
        return real(self, picture, name)

    monkeypatch.setattr(SmearReader, "read_field", read_field)
    yield event
    event.set()


def test_the_count_is_that_of_the_command(client, expected):
    answer = client.post(PATH, files=files(*FIELDS), data={"patient": "P <1>", "cell_diameter_px": ""}).json()
    assert [one["field"] for one in answer["fields"]] == [path.name for path in FIELDS]
    told = json.loads(summary_as_json(expected.summary))
    # giemsa.read_smear names fields by their paths, and no command
    assert answer["summary"]["count"] == told["count"]
    assert answer["summary"] == {k: v for k, v in told.items() if k != "sentences"} | {"command": "giemsa serve"}
    assert answer["sentences"] == told["sentences"]
    assert [one["red_cells"] for one in answer["fields"]] == [len(one.cells) for one in expected.fields]
    assert "no diagnosis" in answer["disclaimer"]
    first = answer["suspicious"][0]
    worst = max(expected.cells, key=lambda cell: cell.relative_logit)
    assert (first["x0"], first["y0"]) == (worst.x0, worst.y0)
    assert first["relative_logit"] == pytest.approx(worst.relative_logit, abs=1e-6)
    order = [one["relative_logit"] for one in answer["suspicious"]]
    assert order == sorted(order, reverse=True)
    assert "picture" not in first
    assert "report" not in answer


def test_a_laboratorys_own_rates_are_used(serve, tiny_model, tmp_path):
    from giemsa.cli import main
    from giemsa.errors import DataError

    site = tmp_path / "site.json"
    made = ["smear", "calibrate", str(FIELDS[0].parent / "annotations.json"), "--output", str(site), "--threads", "1"]
    assert main([*made, "--model", str(tiny_model)]) == 0
    with serve(model=str(tiny_model), site=site) as client:
        answer = client.post(PATH, files=files(*FIELDS)).json()
    told = json.loads(summary_as_json(giemsa.read_smear(FIELDS, model=tiny_model, site=site, threads=1).summary))
    assert answer["summary"]["rates_measured"] is True
    assert (answer["summary"]["count"], answer["sentences"]) == (told["count"], told["sentences"])
    site.write_text("{}")
    with pytest.raises(DataError, match="site"), serve(model=str(tiny_model), site=site):
        pass


def test_pictures_and_the_report_come_where_they_are_asked_for(client, make_zip, expected):
    archive = make_zip({path.name: path.read_bytes() for path in FIELDS})
    answer = client.post(
        PATH, files={"files": ("f.zip", archive)}, data={"patient": "P <1>"}, params={"include": ["picture", "report"]}
    ).json()
    assert [one["field"] for one in answer["fields"]] == [f"f.zip/{path.name}" for path in FIELDS]
    assert all(one["picture"].startswith("data:image/jpeg;base64,") for one in answer["suspicious"])
    assert answer["report"].count("<details class='field'>") == 3
    assert "P &lt;1&gt;" in answer["report"]
    assert "P <1>" not in answer["report"]
    mine = render_report(expected)
    assert answer["report"].count('<figure class="cell"') == mine.count('<figure class="cell"')
    assert answer["sentences"][0] in answer["report"]
    assert "http" not in answer["report"].replace("http-equiv", "")


def test_the_report_alone(client):
    answer = client.post(PATH, files=files(FIELDS[0]), headers={"Accept": "text/html"})
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-disposition"] == 'attachment; filename="report.html"'
    assert answer.text.startswith("<!doctype html>")


def test_each_field_is_told_as_it_is_read_and_cells_are_judged_meanwhile(client, held, cell_png):
    with client.stream("POST", PATH, files=files(*FIELDS), headers=LINES) as answer:
        lines = answer.iter_lines()
        assert json.loads(next(lines)) == {"read": 0, "of": 3}
        first = json.loads(next(lines))
        assert (first["read"], first["of"], first["field"]) == (1, 3, FIELDS[0].name)
        assert first["red_cells"] > 40
        judged = client.post("/api/v1/cells", files={"files": ("a.png", cell_png())})  # the second field waits
        assert judged.status_code == 200
        held.set()
        rest = [json.loads(line) for line in lines]
    assert [one.get("read") for one in rest] == [2, 3, None]
    assert rest[-1]["smear"]["summary"]["fields_counted"] == 3


def test_who_comes_when_it_is_full_is_told_when_to_come_again(serve, tiny_model, held):
    with serve(model=str(tiny_model)) as client:
        with client.stream("POST", PATH, files=files(*FIELDS), headers=LINES) as one:
            lines = one.iter_lines()  # kept: a connection is closed with the last reference to its lines
            next(lines)
            with client.stream("POST", PATH, files=files(*FIELDS), headers=LINES) as two:
                assert two.status_code == 200
                refused = client.post(PATH, files=files(FIELDS[0]))
                assert "2 smears are being read" in problem(refused, 503)
                assert int(refused.headers["retry-after"]) >= 1
        held.set()  # both callers have left, so both places are free as soon as their fields under way are read
        for _ in range(600):
            if "giemsa_smears_under_way 0.0" in client.get("/metrics").text:
                break
            time.sleep(0.1)
        assert client.post(PATH, files=files(FIELDS[0])).status_code == 200
        assert "giemsa_held_bytes 0.0" in client.get("/metrics").text
        assert 'giemsa_fields_total{use="counted"} 1.0' in client.get("/metrics").text


def test_what_goes_wrong_on_the_way_is_the_last_line_and_frees_the_place(serve, tiny_model, monkeypatch):
    with serve(model=str(tiny_model)) as client:
        with monkeypatch.context() as patch:
            patch.setattr(SmearReader, "read_field", lambda *_: 1 / 0)
            lines = client.post(PATH, files=files(FIELDS[0]), headers=LINES).text.splitlines()
            assert json.loads(lines[-1])["problem"]["status"] == 500
            assert client.post(PATH, files=files(FIELDS[0])).status_code == 500
        assert client.post(PATH, files=files(FIELDS[0])).status_code == 200


def test_fields_that_cannot_be_judged_are_left_out_with_their_reasons(client, encode, make_zip):
    import numpy as np

    sent = [
        *files(FIELDS[0]),
        ("files", ("broken.jpg", FIELDS[1].read_bytes()[:3_000])),
        ("files", ("notes.txt", b"no picture")),
        ("files", ("empty.png", encode(np.full((900, 1200, 3), 230, np.uint8)))),
        ("files", ("none.zip", make_zip({"readme.txt": b"x"}))),
        *files(FIELDS[0]),
    ]
    answer = client.post(PATH, files=sent).json()
    assert answer["summary"]["fields_counted"] == 2
    refusals = {one["field"]: one["refusal"] for one in answer["fields"]}
    assert list(refusals.values()) == ["", *(reason for _, reason in answer["summary"]["refused"]), ""]
    assert all(refusals[name] for name in ("broken.jpg", "notes.txt", "empty.png", "none.zip"))
    assert list(refusals)[-1] == f"{FIELDS[0].name} (2)"
    assert "/tmp" not in str(refusals)


def test_where_nothing_can_be_counted_that_is_the_answer(client):
    answer = client.post(f"{PATH}?include=report", files={"files": ("a.png", b"no picture")})
    assert answer.status_code == 200
    assert answer.json()["summary"]["count"] is None
    assert "Nothing was counted" in answer.json()["sentences"][0]
    assert "Nothing was counted" in answer.json()["report"]


def test_numbers_that_are_given_are_used(client):
    def asked(**data):
        return client.post(PATH, files=files(FIELDS[0]), data=data).json()

    plain, other = asked(red_cells_per_ul=" "), asked(red_cells_per_ul="4e6", cell_diameter_px="70")
    assert plain["summary"]["count"]["red_cells_per_ul"] == 5e6
    assert other["summary"]["count"]["red_cells_per_ul"] == 4e6
    assert any("as given" in sentence for sentence in other["sentences"])
    assert plain["fields"][0]["cell_diameter_px"] != other["fields"][0]["cell_diameter_px"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"cell_diameter_px": "wide"}, "cell_diameter_px is 'wide'"),
        ({"cell_diameter_px": "nan"}, "8 to 2,000"),
        ({"cell_diameter_px": "7"}, "8 to 2,000"),
        ({"red_cells_per_ul": "5"}, "100,000 to 10,000,000"),
        ({"patient": "n" * 201}, "201 characters"),
        ({"patient": "n" * 5_000}, "bytes"),
        ({"patient": ["a", "b"]}, "twice"),
        ({"site": "x"}, "'site'"),
    ],
)
def test_texts_that_make_no_sense_are_refused(client, data, said):
    assert said in problem(client.post(PATH, files=files(FIELDS[0]), data=data), 422)


def test_texts_that_are_none_are_refused(client):
    assert "is a file" in problem(client.post(PATH, files={"patient": ("a.txt", b"x")}), 422)
    latin = b'--x\r\nContent-Disposition: form-data; name="patient"\r\n\r\n\xff\r\n--x--\r\n'
    assert "no file" in problem(client.post(PATH, content=latin, headers=HEADERS), 422)
    file = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\nx\r\n'
    assert "UTF-8" in problem(client.post(PATH, content=file + latin, headers=HEADERS), 422)


def test_limits_are_those_of_cells(serve, tiny_model, make_zip):
    with serve(model=str(tiny_model), max_upload_mb=1) as client:
        assert client.get("/api/v1/model").json()["limits"]["fields"] == 500
        assert "1 MB" in problem(client.post(PATH, files={"files": ("a.png", bytes(2**20))}), 413)
        archive = make_zip({f"{i}.png": b"" for i in range(501)})
        assert "at most 500" in problem(client.post(PATH, files={"files": ("a.zip", archive)}), 413)
        assert "multipart" in problem(client.post(PATH, json={}), 415)
        assert "include" in problem(client.post(f"{PATH}?include=diagnosis", files=files(FIELDS[0])), 422)
        assert "giemsa_held_bytes 0.0" in client.get("/metrics").text


def test_a_token_is_asked_for(serve, tiny_model):
    with serve(model=str(tiny_model), token="token-of-the-test") as client:
        assert client.post(PATH, files=files(FIELDS[0])).status_code == 401
