"""Answers of reviewers, in SQLite and in a real PostgreSQL."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from giemsa.cli import main
from giemsa.errors import GiemsaError, OutputError, UsageError
from giemsa.web.database import Conflict, Review, Reviews

_POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))


def _programs():
    found = shutil.which("postgres")
    return Path(found).parent if found else _POSTGRES[-1].parent if _POSTGRES else None


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory):
    """The URL of a server that these tests start, from Debian's package, as a user without rights."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: on Debian, apt-get install postgresql")
    folder = Path("/tmp") / f"giemsa-pg-{os.getpid()}"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    as_user = {"user": "nobody"} if os.geteuid() == 0 else {}
    data = folder / "data"
    run = lambda *command: subprocess.run(command, check=True, capture_output=True, cwd=folder, **as_user)  # noqa: E731
    try:
        run(programs / "initdb", "-D", data, "-U", "giemsa", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c shared_buffers=16MB"
        run(programs / "pg_ctl", "-D", data, "-l", folder / "log", "-o", options, "-w", "-t", "60", "start")
        yield f"postgresql://giemsa@/postgres?host={folder}"
    finally:
        subprocess.run([programs / "pg_ctl", "-D", data, "-m", "immediate", "stop"], check=False, capture_output=True,
                       cwd=folder, **as_user)  # fmt: skip
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'reviews.sqlite'}"
    address = request.getfixturevalue("postgresql")
    name = f"test_{os.urandom(6).hex()}"
    engine = sa.create_engine(address.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return address.replace("/postgres?", f"/{name}?")


@pytest.fixture
def reviews(url):
    opened = Reviews(url)
    yield opened
    opened.close()


def review(key="key-00001", **changes):
    return replace(Review(key, "Ana", "ring.png", "a" * 64, "b" * 64, "parasitized", 0.9, "uninfected"), **changes)


def test_an_answer_is_kept_with_all_that_belongs_to_it(reviews):
    kept, new = reviews.add(review(reviewer="Zoë 'quoted' \"名\"", p_parasitized=0.1 + 0.2))
    assert new
    assert list(reviews.all()) == [kept]
    assert (kept.reviewer, kept.p_parasitized) == ("Zoë 'quoted' \"名\"", 0.1 + 0.2)
    assert kept.at.endswith("+00:00")


def test_an_answer_sent_twice_is_kept_once(reviews):
    first, _ = reviews.add(review())
    second, new = reviews.add(review())
    assert (second, new) == (first, False)
    assert len(list(reviews.all())) == 1


def test_a_key_used_for_another_answer_is_refused(reviews):
    reviews.add(review())
    with pytest.raises(Conflict):
        reviews.add(review(answer="parasitized"))
    assert [one.answer for one in reviews.all()] == ["uninfected"]


def test_the_last_answer_counts_and_the_first_stays(reviews):
    reviews.add(review("key-00001", answer="parasitized"))
    reviews.add(review("key-00002", answer="uninfected"))
    reviews.add(review("key-00003", reviewer="Bo", answer="unsure"))
    assert [(one.reviewer, one.answer) for one in reviews.current()] == [("Ana", "uninfected"), ("Bo", "unsure")]
    assert [one.answer for one in reviews.all()] == ["parasitized", "uninfected", "unsure"]
    reviews.add(review("key-00004", answer="withdrawn"))
    assert [one.reviewer for one in reviews.current()] == ["Bo"]
    assert reviews.current(reviewer="Ana") == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE giemsa_reviews SET image = 'x'",
        "DELETE FROM giemsa_reviews",
        "UPDATE giemsa_pictures SET image = 'x'",
    ],
)
def test_the_database_refuses_to_change_what_is_kept(reviews, url, statement):
    reviews.add(review())
    reviews.keep_picture("c" * 64, "a.png", b"x")
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with pytest.raises(sa.exc.DBAPIError, match="kept as they came"), engine.begin() as connection:
        connection.execute(sa.text(statement))
    engine.dispose()
    assert len(list(reviews.all())) == 1


def test_a_kept_picture_can_be_removed_and_answers_stay(reviews):
    reviews.add(review(image_sha256="c" * 64))
    reviews.keep_picture("c" * 64, "a.png", b"x")
    reviews.keep_picture("d" * 64, "b.png", b"y")
    assert reviews.remove_picture("c" * 64)
    assert not reviews.remove_picture("c" * 64)
    assert reviews.picture("c" * 64) is None
    assert [digest for digest, _, _ in reviews.kept_pictures()] == ["d" * 64]
    assert len(reviews.current()) == 1
    reviews.keep_picture("c" * 64, "a.png", b"x")
    assert reviews.picture("c" * 64) == b"x"


def test_a_removed_picture_leaves_the_disk(tmp_path):
    opened = Reviews(f"sqlite:///{tmp_path / 'reviews.sqlite'}")
    content = b"a picture that should not have been kept" * 500
    opened.keep_picture("c" * 64, "a.png", content)
    on_disk = lambda: b"".join(path.read_bytes() for path in tmp_path.iterdir())  # noqa: E731
    assert content[:40] in on_disk()
    opened.remove_picture("c" * 64)
    assert content[:40] not in on_disk()
    opened.close()


def test_pictures_of_an_older_database_can_be_removed(tmp_path):
    url = f"sqlite:///{tmp_path / 'reviews.sqlite'}"
    first = Reviews(url)
    first.keep_picture("c" * 64, "a.png", b"x")
    first.close()
    engine = sa.create_engine(url)
    with engine.begin() as connection:  # as version 0.1 began
        connection.execute(sa.text("CREATE TRIGGER giemsa_pictures_no_DELETE BEFORE DELETE ON giemsa_pictures "
                                   "BEGIN SELECT RAISE(ABORT, 'no'); END"))  # fmt: skip
    engine.dispose()
    again = Reviews(url)
    assert again.remove_picture("c" * 64)
    again.close()


def test_two_people_and_two_servers_do_not_trip_over_each_other(url):
    servers = [Reviews(url), Reviews(url)]

    def answer(person):
        for i in range(20):
            servers[person % 2].add(review(f"key-{person}-{i:04d}", reviewer=f"P{person}", image_sha256=f"{i:064d}"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(answer, range(4)))
    assert len(servers[0].current()) == len(list(servers[1].all())) == 80
    for server in servers:
        server.close()


def test_the_same_answer_from_many_at_once_is_kept_once(url):
    servers = [Reviews(url) for _ in range(4)]
    gate = threading.Barrier(4)

    def answer(server):
        gate.wait()
        return server.add(review())[1]

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(answer, servers)) == [False, False, False, True]
    for server in servers:
        server.close()


def test_pictures_are_kept_as_they_came_and_least_reviewed_first(reviews):
    for name, sha256 in (("a", "a" * 64), ("b", "b" * 64)):
        reviews.keep_picture(sha256, f"{name}.png", name.encode())
    reviews.keep_picture("a" * 64, "again.png", b"other")
    reviews.add(review(image_sha256="a" * 64))
    assert reviews.picture("a" * 64) == b"a"
    assert reviews.picture("d" * 64) is None
    assert reviews.kept_pictures() == [("b" * 64, "b.png", 0), ("a" * 64, "a.png", 1)]


WRITER = textwrap.dedent(
    """
    import sys
    from giemsa.web.database import Review, Reviews
    reviews = Reviews(sys.argv[1])
    for i in range(100_000):
        reviews.add(Review(f"key-{i:06d}", "Ana", "x.png", "a" * 64, "b" * 64, "uninfected", None, "unsure"))
        print(f"key-{i:06d}", flush=True)
    """
)


def test_a_kill_while_writing_loses_nothing_acknowledged(url):
    for round_ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", WRITER.replace("key-", f"key{round_}-"), url],
                                  stdout=subprocess.PIPE, text=True)  # fmt: skip
        acknowledged = [writer.stdout.readline().strip() for _ in range(25)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += [line.strip() for line in writer.stdout if line.endswith("\n")]
        writer.wait()
        reviews = Reviews(url)
        kept = [one.key for one in reviews.all()]
        reviews.close()
        assert set(acknowledged) <= set(kept)
        assert len(kept) == len(set(kept))


@pytest.mark.parametrize("url", ["nonsense", "mysql://localhost/x", "sqlite://", "sqlite:///:memory:"])
def test_an_impossible_database_is_refused_in_one_sentence(url):
    with pytest.raises(UsageError, match="--database"):
        Reviews(url)


def test_a_database_that_is_not_there_is_said_without_its_password():
    with pytest.raises(OutputError, match="cannot be used") as caught:
        Reviews("postgresql://giemsa:secret-word@127.0.0.1:1/none")
    assert "secret-word" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("password", ["tail@end", "a@b@c"])
def test_an_at_sign_in_a_password_does_not_show_its_rest(password):
    with pytest.raises(UsageError, match="%40") as caught:
        Reviews(f"postgresql://giemsa:{password}@127.0.0.1:1/none")
    assert password.split("@")[-1] not in str(caught.value)


def test_an_at_sign_that_is_escaped_is_taken():
    with pytest.raises(OutputError, match="cannot be used") as caught:
        Reviews("postgresql://giemsa:tail%40end@127.0.0.1:1/none")
    assert "end@" not in str(caught.value)


class TestTrouble:
    """A database that is gone, replaced, locked or does not answer: nothing is acknowledged, and cells are judged."""

    @pytest.fixture
    def path(self, tmp_path):
        return tmp_path / "reviews.sqlite"

    @pytest.fixture
    def client(self, serve, tiny_model, path, monkeypatch):
        monkeypatch.setattr("giemsa.web.database._PATIENCE_S", 1)
        monkeypatch.setattr("giemsa.web.calls.SECONDS", 2.0)
        with serve(model=str(tiny_model), database=f"sqlite:///{path}") as client:
            yield client

    def send(self, client, key="key-00001"):
        sent = {name: value for name, value in asdict(review(key)).items() if name != "at"}
        return client.post("/api/v1/reviews", json=sent)

    def refused(self, answer):
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert int(answer.headers["retry-after"]) >= 1
        return True

    def judged(self, client, cell_png):
        return client.post("/api/v1/cells", files={"files": ("a.png", cell_png())}).status_code == 200

    def test_a_file_that_was_removed_takes_no_answers(self, client, path, cell_png):
        assert self.send(client).status_code == 201
        aside = path.with_name("aside")
        for _ in range(2):
            path.rename(aside)
            assert self.refused(self.send(client, "key-00002"))
            assert self.refused(client.get("/api/v1/reviews"))
            assert client.get("/readyz").json() == {"status": "ok", "reviews": "unavailable"}
            assert self.judged(client, cell_png)
            assert not path.exists()  # nothing empty takes its place
            aside.rename(path)
        assert self.send(client, "key-00002").status_code == 201
        assert client.get("/readyz").json()["reviews"] == "ok"
        assert [one["reviewer"] for one in client.get("/api/v1/reviews").json()] == ["Ana"]

    def test_a_file_that_was_replaced_is_used_from_then_on(self, client, path):
        assert self.send(client).status_code == 201
        path.unlink()
        path.touch()
        assert self.refused(self.send(client, "key-00002"))  # it may have gone into the old one
        assert self.send(client, "key-00002").status_code == 201
        assert len(client.get("/api/v1/reviews").json()) == 1

    def test_a_locked_one_holds_up_no_cells(self, client, path, cell_png):
        import sqlite3

        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(8) as pool:
            waiting = [pool.submit(self.send, client, f"key-{i:05d}") for i in range(8)]
            assert all(self.judged(client, cell_png) for _ in range(5))
            assert all(self.refused(one.result()) for one in waiting)
        other.execute("ROLLBACK")
        other.close()
        assert self.send(client).status_code == 201

    def test_one_that_does_not_answer_holds_up_no_cells(self, client, monkeypatch, cell_png):
        hold = threading.Event()
        monkeypatch.setattr(Reviews, "current", lambda *_, **__: hold.wait(60) and [])
        with ThreadPoolExecutor(40) as pool:
            waiting = [pool.submit(client.get, "/api/v1/reviews") for _ in range(40)]
            assert all(self.judged(client, cell_png) for _ in range(5))
            assert all(self.refused(one.result()) for one in waiting)
        hold.set()


def test_a_file_that_is_no_database_is_said(tmp_path):
    path = tmp_path / "reviews.sqlite"
    path.write_text("this is a text and no database, long enough to have a header of a hundred bytes" * 3)
    with pytest.raises(OutputError, match="not a database"):
        Reviews(f"sqlite:///{path}")


class TestExport:
    """`giemsa review export`: a second reading that training and evaluation take."""

    @pytest.fixture
    def data(self, tmp_path, make_cells):
        make_cells(tmp_path / "cells" / "Uninfected", 6)
        make_cells(tmp_path / "cells" / "Parasitized", 6, size=(90, 80))
        return tmp_path / "cells"

    def answer(self, reviews, data, answers):
        import hashlib

        for number, (person, file, word) in enumerate(answers):
            digest = hashlib.sha256((data / file).read_bytes()).hexdigest()
            reviews.add(review(f"key-{number:05d}", reviewer=person, image=f"other/{number}.png", image_sha256=digest,
                               answer=word))  # fmt: skip

    def test_the_majority_becomes_the_second_reading(self, url, reviews, data, tmp_path, capsys):
        self.answer(reviews, data, [
            ("Ana", "Uninfected/cell_0001.png", "parasitized"), ("Bo", "Uninfected/cell_0001.png", "parasitized"),
            ("Cy", "Uninfected/cell_0001.png", "uninfected"), ("Ana", "Parasitized/cell_0002.png", "parasitized"),
            ("Ana", "Uninfected/cell_0003.png", "parasitized"), ("Bo", "Uninfected/cell_0003.png", "uninfected"),
            ("Ana", "Uninfected/cell_0004.png", "unsure"), ("Bo", "Uninfected/cell_0004.png", "not_a_cell"),
        ])  # fmt: skip
        out = tmp_path / "reviewed.csv"
        assert main(["review", "export", "--data", str(data), "--database", url, "--output", str(out)]) == 0
        assert out.read_text().splitlines() == [
            "file,official,reviewed",
            "Parasitized/cell_0002.png,parasitized,parasitized",
            "Uninfected/cell_0001.png,uninfected,parasitized",
        ]
        said = capsys.readouterr().err
        assert "1 of them are disputed" in said
        assert "1 cells are left out, since as many" in said
        assert "1 cells are left out, since nobody" in said
        from giemsa.data.index import read_index
        from giemsa.data.labels import read_label_sets

        labels = read_label_sets(read_index(data), reviewed=out)
        assert (int(labels.confirmed.sum()), int(labels.disputed.sum())) == (1, 1)

    def test_one_persons_answers_and_all_as_they_were_given(self, url, reviews, data, tmp_path):
        self.answer(reviews, data, [("Ana", "Uninfected/cell_0001.png", "parasitized"),
                                    ("Bo", "Uninfected/cell_0001.png", "uninfected")])  # fmt: skip
        out, raw = tmp_path / "reviewed.csv", tmp_path / "raw.csv"
        common = ["--database", url, "--output"]
        assert main(["review", "export", "--data", str(data), "--reviewer", "Bo", *common, str(out)]) == 0
        assert out.read_text().splitlines()[1:] == ["Uninfected/cell_0001.png,uninfected,uninfected"]
        assert main(["review", "export", "--raw", *common, str(raw)]) == 0
        assert [row["reviewer"] for row in csv.DictReader(raw.open())] == ["Ana", "Bo"]

    def test_a_reviewer_is_no_formula_in_a_spreadsheet(self, url, reviews, tmp_path):
        from giemsa.spreadsheets import read_guarded

        reviews.add(review(reviewer="=HYPERLINK(1)", image="+1.png"))
        raw = tmp_path / "raw.csv"
        assert main(["review", "export", "--raw", "--database", url, "--output", str(raw)]) == 0
        text = raw.read_text()
        assert ",'=HYPERLINK(1),'+1.png," in text
        assert [row["reviewer"] for row in read_guarded(text.splitlines())] == ["=HYPERLINK(1)"]

    def test_wrong_use_is_said_in_one_sentence(self, url, reviews, data, tmp_path, capsys):
        out = tmp_path / "out.csv"
        for arguments, said in (
            (["--data", str(data), "--database", url], "there is no answer"),
            (["--raw", "--database", f"sqlite:///{tmp_path / 'none.sqlite'}"], "there is no database"),
            (["--raw", "--database", url, "--output", str(tmp_path)], "is a folder"),
        ):
            assert main(["review", "export", "--output", str(out), *arguments]) == 2
            error = capsys.readouterr().err
            assert said in error
            assert error.count("\n") == 1
        assert not out.exists()
        assert not (tmp_path / "none.sqlite").exists()

    def test_answers_to_other_pictures_are_said(self, url, reviews, data, tmp_path):
        from giemsa.web.export import write_reviewed

        reviews.add(review())
        with pytest.raises(GiemsaError, match="expected the same files"):
            write_reviewed(reviews, data, tmp_path / "out.csv")
