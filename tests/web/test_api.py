"""The API, asked by a client over a socket."""

from __future__ import annotations

import csv
import io
import json
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from giemsa.cli import main

PROBLEM = "application/problem+json"


def files(*pairs):
    return [("files", pair) for pair in pairs]


def problem(response, status):
    assert (response.status_code, response.headers["content-type"]) == (status, PROBLEM), response.text
    content = response.json()
    assert content["status"] == status
    assert set(content) == {"type", "title", "status", "detail"}
    return content["detail"]


def test_verdicts_come_in_the_order_in_which_cells_were_sent(client, cell_png):
    sent = files(*((f"{i}.png", cell_png(i % 3 == 0, seed=i)) for i in range(40)))
    answer = client.post("/api/v1/cells", files=sent).json()
    assert [cell["image"] for cell in answer["cells"]] == [f"{i}.png" for i in range(40)]
    assert [cell["verdict"] == "parasitized" for cell in answer["cells"]] == [i % 3 == 0 for i in range(40)]
    assert list(answer["cells"][0]) == ["image", "verdict", "p_parasitized", "novelty", "reason"]
    assert answer["model"]["name"] == "tiny"
    assert "no diagnosis" in answer["disclaimer"]


def test_a_zip_and_pictures_are_one_list(client, cell_png, make_zip):
    archive = make_zip({"in/b.png": cell_png(), "in/a.png": cell_png(True), "in/notes.txt": b"no picture"})
    answer = client.post(
        "/api/v1/cells", files=files(("x.png", cell_png()), ("cells.zip", archive), ("y.png", cell_png()))
    )
    names = [cell["image"] for cell in answer.json()["cells"]]
    assert names == ["x.png", "cells.zip/in/b.png", "cells.zip/in/a.png", "y.png"]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/csv", "text/csv"),
        ("application/json", "application/json"),
        ("*/*", "application/json"),
        ("text/csv;q=0.5, application/json", "application/json"),
        ("application/json;q=0.2, text/csv;q=0.9", "text/csv"),
    ],
)
def test_csv_or_json_as_the_caller_prefers(client, cell_png, accept, kind):
    answer = client.post("/api/v1/cells", files=files(("a.png", cell_png())), headers={"Accept": accept})
    assert answer.headers["content-type"].split(";")[0] == kind


def test_csv_holds_the_rows_of_the_json(client, cell_png):
    sent = files(('a "quoted", name.png', cell_png(True)), ("broken.png", b"\x89PNG\r\n\x1a\n"))
    rows = list(
        csv.DictReader(io.StringIO(client.post("/api/v1/cells", files=sent, headers={"Accept": "text/csv"}).text))
    )
    cells = client.post("/api/v1/cells", files=sent).json()["cells"]
    assert [row["image"] for row in rows] == [cell["image"] for cell in cells]
    assert float(rows[0]["p_parasitized"]) == cells[0]["p_parasitized"]
    assert rows[1]["verdict"] == "unreadable"
    assert rows[1]["reason"] == cells[1]["reason"]


def test_rows_come_as_they_are_judged(client, cell_png, make_zip):
    archive = make_zip({f"{i:03d}.png": cell_png(seed=i % 7) for i in range(150)} | {"broken.png": b"x"})
    sent, asked = files(("cells.zip", archive)), "/api/v1/cells?include=digest"
    whole = client.post(asked, files=sent).json()
    with client.stream("POST", asked, files=sent, headers={"Accept": "application/x-ndjson"}) as answer:
        assert answer.headers["content-type"] == "application/x-ndjson"
        first, *lines = map(json.loads, answer.iter_lines())
    assert first == {"judged": 0, "of": 151, "model": whole["model"], "disclaimer": whole["disclaimer"]}
    assert len(lines) > 1
    cells = []
    for line in lines:
        cells += line["cells"]
        assert (line["judged"], line["of"]) == (len(cells), 151)
    assert [cell.pop("p_parasitized") for cell in cells] == pytest.approx(
        [cell.pop("p_parasitized") for cell in whole["cells"]], abs=1e-6
    )
    assert cells == whole["cells"]
    assert "giemsa_held_bytes 0.0" in client.get("/metrics").text


def test_what_goes_wrong_among_rows_is_the_last_line(serve, tiny_model, cell_png, make_zip, monkeypatch):
    from giemsa.classifier import Classifier

    real, calls = Classifier.examine, []

    def examine(self, pictures, **options):
        calls.append(len(pictures))
        return real(self, pictures, **options) if len(calls) == 1 else 1 / 0

    monkeypatch.setattr(Classifier, "examine", examine)
    archive = make_zip({f"{i:03d}.png": cell_png() for i in range(150)})
    with serve(model=str(tiny_model)) as client:
        ask = {"files": files(("cells.zip", archive)), "headers": {"Accept": "application/x-ndjson"}}
        lines = list(map(json.loads, client.post("/api/v1/cells", **ask).text.splitlines()))
        assert lines[1]["judged"] == calls[0]
        assert lines[-1]["problem"]["status"] == 500
        assert problem(client.post("/api/v1/cells", **ask), 500)  # nothing was answered yet
        assert "giemsa_held_bytes 0.0" in client.get("/metrics").text


def test_the_same_verdicts_as_the_command_line(serve, tmp_path, make_cells):
    """500 cells of many sizes and kinds, with the embedded model, in one run here and in batches there."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    paths = make_cells(tmp_path / "cells", 100)
    kinds = (("png", {}), ("jpg", {"quality": 92}), ("tif", {}), ("bmp", {}), ("webp", {"quality": 95}))
    for i in range(400):
        kind, options = kinds[i % len(kinds)]
        picture = Image.open(paths[i % len(paths)]).resize(tuple(int(n) for n in rng.integers(40, 220, 2)))
        paths.append(tmp_path / "cells" / f"more_{i:03d}.{kind}")
        picture.save(paths[-1], **options)
    out = tmp_path / "verdicts.csv"
    assert main(["classify", *map(str, paths), "--output", str(out)]) == 0
    expected = list(csv.DictReader(out.open()))
    with serve(threads=2) as client, ThreadPoolExecutor(4) as pool:

        def ask(start):
            sent = files(*((path.name, path.read_bytes()) for path in paths[start : start + 37]))
            return client.post("/api/v1/cells", files=sent).json()["cells"]

        got = [cell for cells in pool.map(ask, range(0, 500, 37)) for cell in cells]
    assert len(got) == len(expected) == 500
    for cell, row in zip(got, expected, strict=True):
        assert cell["verdict"] == row["verdict"]
        assert cell["p_parasitized"] == pytest.approx(float(row["p_parasitized"]), abs=1e-6)


def test_more_is_told_of_a_cell_where_it_is_asked_for(client, cell_png):
    import base64
    import hashlib

    import numpy as np
    from PIL import Image

    sent = cell_png(True, size=(300, 400))
    query = {"include": ["digest", "picture", "evidence"]}
    cells = client.post("/api/v1/cells", params=query, files=files(("a.png", sent), ("b.png", b"no picture"))).json()[
        "cells"
    ]
    assert cells[0]["sha256"] == hashlib.sha256(sent).hexdigest()
    shown = Image.open(io.BytesIO(base64.b64decode(cells[0]["picture"].partition(",")[2])))
    assert shown.size == (160, 120)
    assert np.asarray(cells[0]["evidence"]).shape == (8, 8)
    assert (cells[1]["picture"], cells[1]["evidence"]) == (None, None)
    assert cells[1]["sha256"] == hashlib.sha256(b"no picture").hexdigest()


def test_the_mean_of_the_evidence_is_the_logit(client, tiny_model, cell_png):
    import numpy as np

    import giemsa

    sent = cell_png(True)
    cell = client.post("/api/v1/cells?include=evidence", files=files(("a.png", sent))).json()["cells"][0]
    assert np.mean(cell["evidence"]) == pytest.approx(giemsa.load(tiny_model).classify(sent).logit, abs=1e-3)


def test_requests_that_arrive_together_run_together(serve, tiny_model, cell_png):
    """While one request occupies the only worker, others gather, and share the next runs."""
    with serve(model=str(tiny_model), threads=1) as client:
        one = cell_png()
        many = files(*((f"{i}.png", one) for i in range(300)))
        with ThreadPoolExecutor(17) as pool:
            long = pool.submit(client.post, "/api/v1/cells", files=many)
            short = [pool.submit(client.post, "/api/v1/cells", files=files((f"{i}.png", one))) for i in range(16)]
            assert len(long.result().json()["cells"]) == 300
            assert [len(future.result().json()["cells"]) for future in short] == [1] * 16
        runs = metric(client, "giemsa_batch_cells_count")
        assert metric(client, "giemsa_batch_cells_sum") == 316
        assert runs < 300 / 32 + 16


def metric(client, name):
    return next(
        float(line.split()[-1]) for line in client.get("/metrics").text.splitlines() if line.startswith(f"{name} ")
    )


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
def test_a_full_queue_says_when_to_come_again(serve, tiny_model, cell_png, accept):
    with serve(model=str(tiny_model), queue_cells=10) as client:
        client.headers["Accept"] = accept
        refused = client.post("/api/v1/cells", files=files(*((f"{i}.png", cell_png()) for i in range(11))))
        assert "at most 10" in problem(refused, 503)
        assert int(refused.headers["retry-after"]) >= 1
        assert client.post("/api/v1/cells", files=files(("a.png", cell_png()))).status_code == 200


def test_bodies_that_do_not_fit_memory_are_refused(serve, tiny_model):
    """A few bodies are held at a time; while they are under way, more are not taken in."""
    hold = threading.Event()

    def slow():
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n' + bytes(900_000)
        hold.wait(20)
        yield b"\r\n--x--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    with serve(model=str(tiny_model), max_upload_mb=1) as client, ThreadPoolExecutor(4) as pool:
        held = [pool.submit(client.post, "/api/v1/cells", content=slow(), headers=headers) for _ in range(4)]
        for _ in range(200):
            if metric(client, "giemsa_held_bytes") > 3_500_000:
                break
        refused = client.post("/api/v1/cells", files=files(("a.png", bytes(900_000))))
        hold.set()
        assert "room" in problem(refused, 503)
        assert [future.result().status_code for future in held] == [200] * 4
        assert metric(client, "giemsa_held_bytes") == 0


def test_the_card_is_the_models_own(client, tiny_model):
    import giemsa

    card = client.get("/api/v1/model").json()
    assert card["sha256"] == giemsa.load(tiny_model).model.digest
    assert card["class_names"] == ["uninfected", "parasitized"]
    assert card["limits"]["body_bytes"] == 50 * 2**20


def test_health_readiness_and_figures(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ok", "reviews": "ok"}
    text = client.get("/metrics").text
    assert 'giemsa_requests_total{method="GET",route="/healthz",status="200"}' in text


def test_the_api_describes_itself_with_examples_and_without_other_servers(client):
    schema = client.get("/openapi.json").json()
    assert set(schema["paths"]) >= {"/api/v1/cells", "/api/v1/model", "/healthz", "/readyz", "/metrics"}
    described = schema["paths"]["/api/v1/cells"]["post"]
    assert described["responses"]["200"]["content"]["application/json"]["example"]["cells"]
    assert "multipart/form-data" in described["requestBody"]["content"]
    page = client.get("/docs").text
    assert "http" not in page.replace("http-equiv", "")
    for address in ("/docs-assets/swagger-ui-bundle.js", "/docs-assets/swagger-ui.css", "/static/docs.mjs"):
        assert address in page
        assert client.get(address).status_code == 200


class TestRefusals:
    """What is wrong with a request is said in one sentence, as a problem."""

    def test_no_multipart(self, client):
        assert "multipart/form-data" in problem(client.post("/api/v1/cells", json={}), 415)

    def test_no_file(self, client):
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        assert "no file" in problem(client.post("/api/v1/cells", content=b"--x--\r\n", headers=headers), 422)

    def test_a_part_that_is_no_file(self, client):
        body = b'--x\r\nContent-Disposition: form-data; name="files"\r\n\r\n1\r\n--x--\r\n'
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        assert "no file name" in problem(client.post("/api/v1/cells", content=body, headers=headers), 422)

    def test_a_part_of_another_name(self, client):
        assert "'pictures'" in problem(client.post("/api/v1/cells", files={"pictures": b"x"}), 422)

    def test_an_unknown_wish(self, client, cell_png):
        refused = client.post("/api/v1/cells?include=diagnosis", files=files(("a.png", cell_png())))
        assert "include" in problem(refused, 422)

    def test_a_body_that_breaks_off(self, client):
        body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\nabc'
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        assert "breaks off" in problem(client.post("/api/v1/cells", content=body, headers=headers), 400)

    def test_a_body_that_is_too_large(self, serve, tiny_model):
        with serve(model=str(tiny_model), max_upload_mb=1) as client:
            assert "1 MB" in problem(client.post("/api/v1/cells", files=files(("a.png", bytes(2**20)))), 413)

            def unannounced():
                yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
                for _ in range(40):
                    yield bytes(2**16)

            headers = {"Content-Type": "multipart/form-data; boundary=x"}
            assert "1 MB" in problem(client.post("/api/v1/cells", content=unannounced(), headers=headers), 413)

    def test_too_many_pictures(self, client, make_zip):
        archive = make_zip({f"{i}.png": b"" for i in range(5_001)})
        assert "5,000" in problem(client.post("/api/v1/cells", files=files(("many.zip", archive))), 413)

    def test_an_archive_of_countless_entries(self, client):
        assert "100,001 entries" in problem(client.post("/api/v1/cells", files=files(("many.zip", countless()))), 413)

    def test_a_browser_is_shown_a_page_and_a_program_a_problem(self, client):
        browser = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
        page = client.get("/<nothing>", headers=browser)
        assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
        assert "There is nothing at /&lt;nothing&gt;" in page.text
        for headers in ({}, {"Accept": "application/json"}, {"Accept": "*/*"}):
            assert "/nothing" in problem(client.get("/nothing", headers=headers), 404)
        assert "/api/v1/nothing" in problem(client.get("/api/v1/nothing", headers=browser), 404)

    def test_an_unknown_address_and_a_wrong_method(self, client):
        assert "/nothing" in problem(client.get("/nothing"), 404)
        assert "DELETE" in problem(client.delete("/api/v1/cells"), 405)


def countless(entries=100_001):
    """An archive of that many empty files, all of them the same, which zipfile would take long to write."""
    import struct

    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 0, 0, 0, 0, 5, 0) + b"a.png"
    entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0) + b"a.png"
    directory = entry * entries
    end = len(local) + len(directory)
    end_64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, entries, entries, len(directory), len(local))
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, end, 1)
    last = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return local + directory + end_64 + locator + last


HOSTILE = {
    "a name of HTML": "<img src=x onerror=alert(1)>.png",
    "quotes": "a\"b'c.png",
    "a newline": "a\nb.png",
    "a long name": "n" * 3_996 + ".png",
    "a way out": "../../etc/passwd.png",
}


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_odd_names_are_shown_as_they_are_or_escaped(client, cell_png, name):
    answer = client.post("/api/v1/cells", files=files((name, cell_png())))
    assert answer.headers["content-type"] == "application/json"
    shown = answer.json()["cells"][0]["image"]
    assert "\n" not in shown
    assert shown.replace("\\x0a", "\n").replace("%0A", "\n").replace("%22", '"') == name


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n", "breaks off"),
        (b"GIF89a", "no picture of a known kind"),
        (b"PK\3\4 this is no archive", "no zip archive"),
    ],
)
def test_what_is_no_picture_is_a_row(client, content, reason):
    cell = client.post("/api/v1/cells", files=files(("a.png", content))).json()["cells"][0]
    assert cell["verdict"] == "unreadable"
    assert reason in cell["reason"]
    assert "/proc" not in cell["reason"]
    assert "/tmp" not in cell["reason"]


def bomb_png():
    """A PNG of 30,000 x 30,000 black pixels in a few kilobytes."""

    def chunk(kind, body):
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = (30_000).to_bytes(4, "big") * 2 + b"\x08\x00\x00\x00\x00"
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10_000)))
        + chunk(b"IEND", b"")
    )


def test_a_bomb_is_a_row(client, make_zip):
    archive = make_zip({"../out.png": b"x", "/abs.png": b"x", "bomb.png": bomb_png()})
    cells = client.post("/api/v1/cells", files=files(("bomb.png", bomb_png()), ("evil.zip", archive))).json()["cells"]
    assert [cell["verdict"] for cell in cells] == ["unreadable"] * 4
    assert "pixels" in cells[0]["reason"]
    assert "leads out" in cells[1]["reason"]
    assert "leads out" in cells[2]["reason"]


def test_an_empty_archive_is_a_row(client, make_zip):
    cells = client.post("/api/v1/cells", files=files(("none.zip", make_zip({"readme.txt": b"x"})))).json()["cells"]
    assert [(cell["image"], cell["verdict"]) for cell in cells] == [("none.zip", "unreadable")]
    assert "no pictures" in cells[0]["reason"]


def test_every_answer_is_described_with_an_example_that_is_one(client):
    from giemsa.web import schemas
    from giemsa.web.routes import cells, model, reviews, server, smears

    modules = (schemas, cells, model, reviews, server, smears)
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    seen = 0
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                for kind, content in response.get("content", {}).items():
                    schema = content["schema"]
                    reference = schema.get("$ref") or schema.get("items", {}).get("$ref")
                    described = schemas[reference.rpartition("/")[2]] if reference else {}
                    example = content.get("example", described.get("example"))
                    if kind == "application/octet-stream":
                        continue
                    assert example, (path, status, kind)
                    if reference:
                        title = described["title"]
                        model_of = next(getattr(part, title) for part in modules if hasattr(part, title))
                        model_of.model_validate(example)
                    seen += 1
    assert seen > 50
