"""What one client cannot do to the others: bodies, headers, connections, the log. The same for every route."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest

from giemsa.sources import Source
from giemsa.web.batching import Batcher
from giemsa.web.guard import Guard
from giemsa.web.limits import SMALL_BODY, UPLOADS, Room, Share
from giemsa.web.logs import MAX_LINE, PER_MINUTE, ShortLines, Sparing
from giemsa.web.problems import ProblemError
from giemsa.web.settings import Settings

MULTIPART = "Content-Type: multipart/form-data; boundary=x"
PART = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'


@contextmanager
def connection(server, *, receive_bytes=None):
    host, port = server.url.removeprefix("http://").split(":")
    with socket.socket() as connected:
        if receive_bytes:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connected.settimeout(20)
        connected.connect((host, int(port)))
        yield connected


def head(method, path, *headers):
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]).encode()


def all_of(connected):
    """All that a server sends until it hangs up."""
    received = b""
    with suppress(ConnectionResetError):  # it did not read all that was sent
        while piece := connected.recv(65_536):
            received += piece
    return received


def status_of(answer):
    assert answer.startswith(b"HTTP/1.1 "), answer[:80]
    return int(answer.split()[1])


def metric(client, name):
    return next(
        float(line.split()[-1]) for line in client.get("/metrics").text.splitlines() if line.startswith(f"{name} ")
    )


UPLOAD = head("POST", "/api/v1/cells", "Content-Length: 1000000", MULTIPART) + PART


@pytest.fixture(scope="module")
def hurried(start_server, tiny_model):
    """A server that waits for nobody for long, and takes 1 MB."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("giemsa.web.limits.GRACE_S", 0.5)
        patch.setattr("giemsa.web.server.HEADERS_S", 1)
        patch.setattr("giemsa.web.server.STALLED_S", 1)
        with start_server(model=str(tiny_model), max_upload_mb=1) as server:
            yield server


@pytest.fixture
def hurried_client(hurried):
    import httpx

    with httpx.Client(base_url=hurried.url, timeout=30, trust_env=False) as client:
        yield client


def flat(routes):
    """Routes, and those of routers among them; newer FastAPIs keep them apart."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        yield from flat(inner.routes) if inner is not None else [route]


def routes_of(server):
    """Every route of the application with each of its methods, and with others; and an address that is none."""
    app = server._server.config.app
    while hasattr(app, "app"):
        app = app.app
    found = set()
    for route in flat(app.routes):
        path = route.path.replace("{sha256}", "0" * 64)
        methods = getattr(route, "methods", None)
        found |= {(method, path) for method in methods} if methods else {("GET", f"{path}/style.css")}
    every = {path for _, path in found} | {"/nothing"}
    return sorted(found | {(method, path) for path in every for method in ("POST", "PUT")})


@pytest.fixture(scope="module")
def every_route(hurried):
    found = routes_of(hurried)
    assert {("POST", "/api/v1/cells"), ("GET", "/static/style.css"), ("GET", "/docs"), ("POST", "/nothing"),
            ("DELETE", f"/api/v1/pictures/{'0' * 64}")} <= set(found)  # fmt: skip
    assert set(found) >= UPLOADS
    return found


class TestEveryRoute:
    """Bodies that are too large, come too slowly or never end, at each route of the application."""

    def test_a_body_that_says_to_be_too_large_is_refused_unread(self, hurried, every_route):
        for method, path in every_route:
            with connection(hurried) as connected:
                connected.sendall(head(method, path, f"Content-Length: {2**40}", MULTIPART))
                answer = all_of(connected)
            assert status_of(answer) == 413, (method, path)
            assert b"application/problem+json" in answer

    def test_a_body_without_end_is_not_read_to_its_end(self, hurried, every_route):
        piece = b"10000\r\n" + bytes(65_536) + b"\r\n"
        for method, path in every_route:
            with connection(hurried) as connected:
                connected.sendall(head(method, path, "Transfer-Encoding: chunked", MULTIPART))
                sent = 0
                with suppress(OSError):
                    while sent < 64 * 2**20:
                        connected.sendall(piece)
                        sent += len(piece)
            assert sent < 16 * 2**20, (method, path)  # what sockets hold, and what was read

    def test_a_body_that_stops_is_given_up(self, hurried, every_route):
        def try_it(route):
            with connection(hurried) as connected:
                connected.sendall(head(*route, "Content-Length: 5000", MULTIPART) + b"-")
                return all_of(connected)

        with ThreadPoolExecutor(16) as pool:
            for route, answer in zip(every_route, pool.map(try_it, every_route), strict=True):
                assert status_of(answer) < 500, route
                assert b"connection: close" in answer.lower(), route
                if route in UPLOADS:
                    assert status_of(answer) == 408
                    assert b"too slowly" in answer

    def test_only_uploads_may_be_large_and_the_description_knows_them(self, hurried_client):
        paths = hurried_client.get("/openapi.json").json()["paths"]
        described = {
            (method.upper(), path)
            for path, operations in paths.items()
            for method, operation in operations.items()
            if "multipart/form-data" in operation.get("requestBody", {}).get("content", {})
        }
        assert described == UPLOADS
        refused = hurried_client.post("/api/v1/reviews", content=bytes(SMALL_BODY + 1))
        assert (refused.status_code, refused.json()["status"]) == (413, 413)
        assert "65,536 bytes" in refused.json()["detail"]

    def test_a_body_of_json_that_stops_is_told_why(self, hurried):
        with connection(hurried) as connected:
            length = "Content-Length: 900"
            connected.sendall(head("POST", "/api/v1/reviews", length, "Content-Type: application/json") + b"{")
            answer = all_of(connected)
        assert status_of(answer) == 408
        assert b"too slowly" in answer

    def test_nothing_is_held_in_the_end(self, hurried_client):
        assert metric(hurried_client, "giemsa_held_bytes") == 0


class TestRoom:
    def test_some_of_it_is_kept_for_small_bodies(self):
        room = Room(100, reserve=30, small=10)
        large = Share(room)
        large.take(100)
        with pytest.raises(ProblemError, match="room"):
            Share(room).take(11)
        small = Share(room)
        small.take(10)
        with pytest.raises(ProblemError, match="room"):
            small.take(1)  # no longer a small one
        large.release()
        small.release()
        assert room.held == 0

    def test_bodies_must_be_faster_where_it_is_scarce(self):
        room = Room(100)
        calm = room.slowest
        Share(room).take(51)
        assert room.slowest > calm

    def test_idle_uploads_hold_it_for_a_moment_only_and_small_requests_go_on(self, hurried, hurried_client, cell_png):
        """Four that have sent nearly all, and then nothing: what they had sent before excuses nobody."""
        with connection(hurried) as a, connection(hurried) as b, connection(hurried) as c, connection(hurried) as d:
            for idle in (a, b, c, d):
                idle.sendall(
                    head("POST", "/api/v1/cells", "Content-Length: 1000000", MULTIPART) + PART + bytes(990_000)
                )
            answers = [hurried_client.post("/api/v1/cells", files={"files": ("a.png", cell_png())}) for _ in range(5)]
            assert [answer.status_code for answer in answers] == [200] * 5
            assert [status_of(all_of(idle)) for idle in (a, b, c, d)] == [408] * 4
        assert metric(hurried_client, "giemsa_held_bytes") == 0

    def test_what_aborted_bodies_held_is_given_back(self, hurried, hurried_client):
        for _ in range(4):
            with connection(hurried) as aborted:
                aborted.sendall(
                    head("POST", "/api/v1/cells", "Content-Length: 1000000", MULTIPART) + PART + bytes(9_000)
                )
        for _ in range(100):
            if metric(hurried_client, "giemsa_held_bytes") == 0:
                return
            time.sleep(0.05)
        raise AssertionError("bytes of callers who have left are held")


class TestHeaders:
    def test_there_are_not_more_than_a_browser_sends(self, hurried):
        for headers in ([f"X-{i}: 1" for i in range(150)], ["X-Long: " + "x" * 17_000]):
            with connection(hurried) as connected:
                connected.sendall(head("GET", "/healthz", *headers))
                answer = all_of(connected)
            assert status_of(answer) == 431
            assert b"application/problem+json" in answer

    def test_without_end_they_are_not_read(self, start_server, tiny_model):
        """Before the token is looked at: 16 MB of them are refused after some kilobytes."""
        with start_server(model=str(tiny_model), token="token-of-the-test") as server, connection(server) as connected:
            connected.sendall(b"GET /api/v1/model HTTP/1.1\r\nX: ")
            sent = 0
            with suppress(OSError):
                while sent < 16 * 2**20:
                    connected.sendall(b"x" * 65_536)
                    sent += 65_536
            assert sent < 16 * 2**20

    def test_what_is_no_http_is_a_problem(self, hurried):
        with connection(hurried) as connected:
            connected.sendall(b"nonsense\r\n\r\n")
            answer = all_of(connected)
        assert status_of(answer) == 400
        assert b"application/problem+json" in answer

    def test_unfinished_ones_are_given_up(self, hurried):
        with connection(hurried) as connected:
            connected.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
            assert all_of(connected) == b""

    def test_one_byte_at_a_time_wins_no_time(self, hurried):
        sent = 0
        with connection(hurried) as connected, suppress(OSError):
            for byte in b"GET / HTTP/1.1\r\nX: " + b"x" * 400:
                sent += connected.send(bytes([byte]))
                time.sleep(0.02)
        assert sent < 400

    def test_a_connection_is_kept_for_more_requests_and_not_for_ever(self, hurried):
        with connection(hurried) as connected:
            for _ in range(2):
                connected.sendall(head("GET", "/healthz"))
                answer = b""
                while b'{"status":"ok"}' not in answer:
                    answer += connected.recv(65_536)
            assert all_of(connected) == b""

    def test_those_who_wait_longest_make_room_for_others(self, start_server, tiny_model, monkeypatch):
        monkeypatch.setattr("giemsa.web.server.MAX_CONNECTIONS", 20)
        with start_server(model=str(tiny_model)) as server:
            host, port = server.url.removeprefix("http://").split(":")
            idle = [socket.create_connection((host, int(port)), timeout=20) for _ in range(60)]
            try:
                import httpx

                assert httpx.get(f"{server.url}/healthz", trust_env=False).status_code == 200
                assert all_of(idle[0]) == b""  # closed
                idle[-1].sendall(head("GET", "/healthz"))
                assert status_of(idle[-1].recv(65_536)) == 200
            finally:
                for one in idle:
                    one.close()


def test_who_does_not_read_an_answer_is_left(hurried):
    with connection(hurried, receive_bytes=4_096) as connected:
        connected.sendall(head("GET", "/docs-assets/swagger-ui-bundle.js") * 4)
        time.sleep(3)
        answer = all_of(connected)
    length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    assert len(answer) < 4 * length


class TestFaults:
    """A fault stays with the part that caused it, whatever it is."""

    def test_of_one_request_is_not_told_to_another(self, tiny_model, cell_png):
        from giemsa.classifier import Classifier

        def fail():
            raise MemoryError("such as nobody foresaw")

        async def ask():
            batcher = Batcher(Classifier(str(tiny_model), threads=1), capacity=100)
            good, bad = Source("good", cell_png), Source("bad", fail)
            jobs = [batcher.examine([one], lambda seen: seen.verdict) for one in (good, bad, good)]
            try:
                return await asyncio.gather(*jobs, return_exceptions=True)
            finally:
                batcher.close()

        first, second, third = asyncio.run(ask())
        assert [one.verdict for one in first + third] == ["uninfected"] * 2
        assert isinstance(second, MemoryError)

    def test_impossible_numbers_in_an_archive_are_rows(self, client, make_zip, cell_png):
        """An entry whose place is said to be 2^63, by ZIP64's extra field, beside one that is well."""
        name = b"b.png"
        archive = make_zip({"a.png": cell_png(True)})
        end = archive.rindex(b"PK\5\6")
        start = struct.unpack("<L", archive[end + 16 : end + 20])[0]
        extra = struct.pack("<HHQ", 1, 8, 2**63)
        fields = (20, 20, 0, 0, 0, 0, 0, 10, 10, len(name), len(extra), 0, 0, 0, 0, 2**32 - 1)
        entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", *fields) + name + extra
        directory = archive[start:end] + entry
        last = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, len(directory), start, 0)
        answer = client.post("/api/v1/cells", files={"files": ("x.zip", archive[:start] + directory + last)})
        assert answer.status_code == 200
        verdicts = [cell["verdict"] for cell in answer.json()["cells"]]
        assert "unreadable" in verdicts
        assert all(word in ("parasitized", "unreadable") for word in verdicts)

    def test_an_archive_costs_time_whether_or_not_it_can_be_read(self, client, make_zip, cell_png, monkeypatch):
        monkeypatch.setattr("giemsa.web.uploads.READING_S", -1.0)
        archive = make_zip({"a.png": cell_png()})
        cell = client.post("/api/v1/cells", files={"files": ("x.zip", archive)}).json()["cells"][0]
        assert cell["verdict"] == "unreadable"
        assert "several" in cell["reason"]

    def test_that_nobody_foresaw_is_a_problem_wherever_it_comes_from(self, caplog):
        async def broken(*_):
            raise RecursionError("deep")

        class Silent:
            def answered(self, *_):
                pass

        sent = []

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": "/x", "headers": [(b"host", b"localhost")]}
        asyncio.run(Guard(broken, Settings(), Silent())(scope, None, send))
        assert sent[0]["status"] == 500
        assert json.loads(sent[1]["body"])["title"] == "Internal Server Error"
        assert dict(sent[0]["headers"])[b"content-type"] == b"application/problem+json"
        assert "deep" in caplog.text


def test_archives_without_number_do_not_use_up_the_files_of_the_process(client, make_zip, cell_png, monkeypatch):
    archives = [("files", (f"{i}.zip", make_zip({"a.png": b"x"}))) for i in range(50)]
    refused = client.post("/api/v1/cells", files=archives)
    assert (refused.status_code, refused.json()["status"]) == (413, 413)
    for _ in range(12):  # files are given back
        assert len(client.post("/api/v1/cells", files=archives[:20]).json()["cells"]) == 20
    monkeypatch.setattr("giemsa.web.uploads.MAX_FILES", 10)
    refused = client.post("/api/v1/cells", files=archives[:20])
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    assert client.post("/api/v1/cells", files={"files": ("a.png", cell_png())}).status_code == 200


def test_json_that_is_nested_deeply_is_refused_in_a_sentence(client):
    for body in (b"[" * 60_000, b'{"key":' * 8_000, b"9" * 60_000):
        refused = client.post("/api/v1/reviews", content=body, headers={"Content-Type": "application/json"})
        assert refused.status_code in (400, 422)
        assert len(refused.json()["detail"]) < 500


def test_no_answer_repeats_the_host_that_a_caller_named(client):
    for path in ("/api/v1/cells/", "/docs/", "/static", "/model/"):
        answer = client.get(path, headers={"Host": "localhost:1234"})
        assert answer.status_code == 404
        assert "location" not in answer.headers
        assert "1234" not in answer.text


class TestLog:
    def test_lines_of_a_kind_are_few(self):
        sparing = Sparing()

        def record(line):
            return logging.LogRecord("x", logging.ERROR, "file.py", line, "text", (), None)

        assert sum(sparing.filter(record(1)) for _ in range(500)) == PER_MINUTE
        assert sparing.filter(record(2))

    def test_what_was_kept_back_is_said(self):
        now = [0.0]
        sparing = Sparing(lambda: now[0])
        records = [logging.LogRecord("x", logging.ERROR, "file.py", 1, "text", (), None) for _ in range(31)]
        for one in records[:30]:
            sparing.filter(one)
        now[0] = 61.0
        assert sparing.filter(records[30])
        assert "10 more" in records[30].getMessage()

    def test_lines_are_short(self):
        record = logging.LogRecord("x", logging.ERROR, "file.py", 1, "a" * 100_000, (), None)
        assert len(ShortLines().format(record)) < MAX_LINE + 100


def test_a_slow_database_is_waited_for_by_few():
    from giemsa.errors import OutputError
    from giemsa.web.calls import Calls

    hold = threading.Event()

    async def ask():
        calls = Calls(at_once=3, seconds=0.2)
        waiting = [asyncio.create_task(calls(hold.wait, 20)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(OutputError, match="no more may"):
            await calls(int)
        told = await asyncio.gather(*waiting, return_exceptions=True)
        assert all("did not answer" in str(one) for one in told)
        assert calls.under_way == 3
        hold.set()
        while calls.under_way:
            await asyncio.sleep(0.01)
        return await calls(int, "7")

    assert asyncio.run(ask()) == 7
