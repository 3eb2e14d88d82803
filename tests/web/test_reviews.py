"""The review's routes, asked by a client over a socket."""

from __future__ import annotations

import pytest

from giemsa.web.database import Review
from giemsa.web.readers import compare_readers


@pytest.fixture
def client(serve, tiny_model):
    with serve(model=str(tiny_model)) as client:
        yield client


def sent(key="key-00001", **changes):
    return {"key": key, "reviewer": "Ana", "image": "ring.png", "image_sha256": "a" * 64, "model_sha256": "b" * 64,
            "verdict": "parasitized", "p_parasitized": 0.9, "answer": "uninfected"} | changes  # fmt: skip


def test_an_answer_is_acknowledged_and_read_again(client):
    kept = client.post("/api/v1/reviews", json=sent())
    assert kept.status_code == 201
    assert kept.json()["new"] is True
    again = client.post("/api/v1/reviews", json=sent())
    assert (again.status_code, again.json()["new"]) == (200, False)
    other = client.post("/api/v1/reviews", json=sent(answer="parasitized"))
    assert (other.status_code, other.headers["content-type"]) == (409, "application/problem+json")
    assert [one["answer"] for one in client.get("/api/v1/reviews?reviewer=Ana").json()] == ["uninfected"]
    assert client.get("/api/v1/reviews?reviewer=Bo").json() == []


@pytest.mark.parametrize(
    "change",
    [{"answer": "malaria"}, {"reviewer": ""}, {"reviewer": "a\nb"}, {"image_sha256": "A" * 64}, {"p_parasitized": 1.5},
     {"p_parasitized": True},
     {"verdict": "maybe"}, {"key": "short"}, {"more": 1}, {"image": "x" * 5_000}, {"image": "\x00"}],
)  # fmt: skip
def test_what_is_no_answer_is_refused(client, change):
    refused = client.post("/api/v1/reviews", json=sent(**change))
    assert (refused.status_code, refused.headers["content-type"]) == (422, "application/problem+json")
    assert next(iter(change)) in refused.json()["detail"]
    assert client.get("/api/v1/reviews").json() == []


def test_what_is_no_json_is_refused(client):
    refused = client.post("/api/v1/reviews", content=b"\x12Q\xff", headers={"Content-Type": "application/json"})
    assert (refused.status_code, refused.json()["detail"]) == (400, "the body cannot be read; expected JSON in UTF-8")


def test_pictures_are_kept_when_somebody_says_so_and_only_then(client, cell_png, make_zip):
    picture = cell_png(True)
    client.post("/api/v1/cells", files={"files": ("a.png", picture)})
    assert client.get("/api/v1/pictures").json() == []
    archive = make_zip({"b.png": cell_png(seed=5)})
    files = [("files", ("a.png", picture)), ("files", ("b.zip", archive)), ("files", ("c.png", b"no picture"))]
    kept = client.post("/api/v1/pictures", files=files)
    assert kept.status_code == 201
    listed = client.get("/api/v1/pictures").json()
    assert [one["image"] for one in listed] == ["a.png", "b.zip/b.png"]
    digest = listed[0]["sha256"]
    read = client.get(f"/api/v1/pictures/{digest}")
    assert read.content == picture
    assert read.headers["content-disposition"] == "attachment"  # a browser does not show it as what it may be
    assert read.headers["content-type"] == "application/octet-stream"
    assert client.get(f"/api/v1/pictures/{'0' * 64}").status_code == 404
    assert client.get("/api/v1/pictures/nonsense").status_code == 422


def test_a_kept_picture_is_removed_and_what_was_answered_stays(client, cell_png):
    kept = client.post("/api/v1/pictures", files={"files": ("a.png", cell_png())}).json()[0]["sha256"]
    client.post("/api/v1/reviews", json=sent(image_sha256=kept))
    removed = client.delete(f"/api/v1/pictures/{kept}")
    assert (removed.status_code, removed.content) == (204, b"")
    for again in (client.delete(f"/api/v1/pictures/{kept}"), client.get(f"/api/v1/pictures/{kept}")):
        assert (again.status_code, again.headers["content-type"]) == (404, "application/problem+json")
    assert client.get("/api/v1/pictures").json() == []
    assert len(client.get("/api/v1/reviews").json()) == 1
    other = client.delete(f"/api/v1/pictures/{kept}", headers={"Origin": "https://elsewhere.example"})
    assert other.status_code == 403


def test_readers_are_compared_with_each_other_and_with_the_model(client):
    for number in range(20):
        digest = f"{number:064d}"
        verdict = "parasitized" if number < 10 else "uninfected"
        flipped = "uninfected" if number < 12 else "parasitized"
        common = {"image_sha256": digest, "verdict": verdict}
        client.post("/api/v1/reviews", json=sent(f"key-a-{number:03d}", answer=verdict, **common))
        client.post("/api/v1/reviews", json=sent(f"key-b-{number:03d}", reviewer="Bo", answer=flipped, **common))
    pairs = {(one["first"], one["second"]): one for one in client.get("/api/v1/agreement").json()}
    assert set(pairs) == {("Ana", "the model"), ("Bo", "the model"), ("Ana", "Bo")}
    assert pairs["Ana", "the model"]["kappa"] == 1
    assert pairs["Ana", "the model"]["low"] < 1
    assert pairs["Bo", "the model"]["kappa"] < 0
    assert pairs["Ana", "Bo"]["n"] == 20


def test_patients_are_the_unit_where_names_tell_them():
    def review(number, image):
        return Review(
            "k",
            "Ana",
            image,
            f"{number:064d}",
            "b" * 64,
            "parasitized",
            0.9,
            "parasitized" if number % 2 else "uninfected",
        )

    official = [review(i, f"Parasitized/C{i % 3}P1thin_IMG_20150622_105102_cell_{i}.png") for i in range(12)]
    assert compare_readers(official)[0]["kind"] == "patients"
    assert compare_readers(official)[0]["units"] == 3
    assert compare_readers([*official, review(99, "other.png")])[0]["kind"] == "pictures"


def test_names_without_number_cost_little():
    """Pairs are as many as the square of the reviewers."""
    current = [
        Review(f"key-{i:05d}", f"R{i}", "a.png", f"{i % 7:064d}", "b" * 64, "parasitized", 0.9, "parasitized")
        for i in range(5_000)
    ]
    busy = [
        Review(f"busy-{i:05d}", "Busy", "a.png", f"{i:064d}", "b" * 64, "parasitized", 0.9, "uninfected")
        for i in range(20)
    ]
    compared = compare_readers([*current, *busy])
    assert len(compared) < 300
    assert "Busy" in {one["first"] for one in compared}  # who answered most is not left out
