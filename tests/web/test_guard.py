"""What every request passes: token, host, origin, headers; and what a server refuses to start with."""

from __future__ import annotations

import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from giemsa.cli import main
from giemsa.errors import UsageError
from giemsa.web.settings import Settings, check_settings, is_loopback

TOKEN = "a-token-of-the-tests"
BEGINNING = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'


@pytest.fixture(scope="module")
def guarded(serve, tiny_model):
    with serve(model=str(tiny_model), token=TOKEN) as client:
        yield client


@pytest.mark.parametrize("path", ["/api/v1/model", "/api/v1/reviews", "/api/v1/pictures", "/metrics"])
@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", TOKEN, "Bearer é"]
)
def test_without_the_token_there_is_nothing(guarded, path, header):
    headers = {} if header is None else {"Authorization": header.encode()}
    refused = guarded.get(path, headers=headers)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert refused.headers["content-type"] == "application/problem+json"


def test_with_the_token_there_is_everything(guarded):
    for path in ("/api/v1/model", "/api/v1/reviews", "/metrics"):
        assert guarded.get(path, headers={"Authorization": f"bearer {TOKEN}"}).status_code == 200


def test_the_page_and_the_health_need_no_token(guarded):
    for path in ("/", "/model", "/review", "/healthz", "/readyz", "/docs", "/openapi.json"):
        assert guarded.get(path).status_code == 200
    assert "token" in guarded.get("/openapi.json").json()["components"]["securitySchemes"]


def test_the_page_is_alone_at_its_addresses(client):
    assert client.get("/pages").status_code == 404
    assert client.get("/smear").status_code == 200
    assert client.get("/static/../settings.py").status_code == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil", ""])
def test_a_private_server_answers_to_local_names_only(client, host):
    """A page of evil.example whose name was made to mean 127.0.0.1 must not read what is served here."""
    assert client.get("/api/v1/model", headers={"Host": host}).status_code in (400, 421)


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1:99", "[::1]:8000", "LOCALHOST"])
def test_a_private_server_has_many_local_names(client, host):
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
@pytest.mark.parametrize("path", ["/api/v1/reviews", "/api/v1/pictures", "/api/v1/cells", "/api/v1/smears"])
def test_calls_from_other_sites_change_nothing(client, path, headers):
    assert client.post(path, headers=headers).status_code == 403


def test_calls_from_the_page_itself_are_let_through(client, cell_png):
    origin = str(client.base_url).rstrip("/")
    headers = {"Origin": origin, "Sec-Fetch-Site": "same-origin"}
    assert client.post("/api/v1/cells", files={"files": ("a.png", cell_png())}, headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/", "/api/v1/model", "/nothing", "/static/style.css", "/docs"])
def test_every_answer_carries_the_security_headers_and_no_cookie(client, path):
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert "unsafe-inline" not in policy
    assert "http" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert "set-cookie" not in headers
    assert "server" not in headers


def test_the_page_names_no_other_server(client):
    page = client.get("/").text
    assert set(re.findall(r"https?://[^\"'\s<]+", page)) == set()
    for address in re.findall(r'(?:src|href)="([^"#][^"]*)"', page):
        assert address.startswith("/"), address
        assert client.get(address).status_code == 200, address


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"host": "0.0.0.0"}, "--insecure"),
        ({"host": "::"}, "--insecure"),
        ({"host": "192.168.1.5"}, "--insecure"),
        ({"token": "short"}, "8 or more"),
        ({"token": "with spaces in it"}, "spaces"),
        ({"port": 70_000}, "--port"),
        ({"max_upload_mb": 0}, "--max-upload-mb"),
        ({"threads": 0}, "--threads"),
    ],
)
def test_what_makes_no_sense_or_is_not_safe_is_refused(settings, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        check_settings(Settings(**settings))


def test_others_are_served_with_a_token_or_when_it_is_meant():
    check_settings(Settings(host="0.0.0.0", token=TOKEN))
    check_settings(Settings(host="0.0.0.0", insecure=True))
    check_settings(Settings(host="127.0.0.2"))


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.8.8.8", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("example.org", False),
        ("", False),
    ],
)
def test_which_hosts_are_this_machine(host, expected):
    assert is_loopback(host) is expected


class TestCommand:
    """`giemsa serve`, as it is typed."""

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--host", "0.0.0.0"], "--insecure"),
            (["--model", "nowhere.onnx"], "does not exist"),
            (["--database", "no url"], "--database"),
            (["--database", "mysql://h/d"], "expected sqlite or postgresql"),
            (["--database", "sqlite://"], "has no file"),
            (["--runs", "nowhere"], "predictions.csv"),
        ],
    )
    def test_it_refuses_in_one_sentence(self, arguments, said, capsys):
        assert main(["serve", "--port", "0", *arguments]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1

    def test_a_taken_port_is_said(self, capsys):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            assert main(["serve", "--port", str(port)]) == 2
        assert f"port {port}" in capsys.readouterr().err

    def test_it_serves_until_it_is_stopped_and_leaves_nothing(self, tmp_path):
        with started(tmp_path) as (process, url):
            assert get(url + "/healthz") == 200
            assert list(tmp_path.glob("giemsa-serve-*"))
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) in (0, -signal.SIGTERM)
        assert not list(tmp_path.glob("giemsa-serve-*"))

    def test_the_temporary_folder_is_emptied_even_after_a_kill(self, tmp_path, make_zip, cell_png):
        import httpx

        archive = make_zip({f"{i}.png": cell_png() for i in range(5)})
        with started(tmp_path) as (process, url):
            httpx.post(url + "/api/v1/cells", files={"files": ("a.zip", archive)}, trust_env=False, timeout=60)
            process.kill()
            process.wait()
        left = list(tmp_path.glob("giemsa-serve-*"))
        assert [sorted(path.name for path in folder.iterdir()) for folder in left] == [["lock"]]  # no picture
        with started(tmp_path) as (process, _):
            assert not left[0].exists()
            assert len(list(tmp_path.glob("giemsa-serve-*"))) == 1
            with started(tmp_path) as (_, _):  # another one that runs keeps its own
                assert len(list(tmp_path.glob("giemsa-serve-*"))) == 2


class started:  # noqa: N801 - used as a word
    """Run `giemsa serve` in a process of its own with its temporary files in `folder`."""

    def __init__(self, folder, *options):
        environment = os.environ | {"TMPDIR": str(folder), "XDG_DATA_HOME": str(folder / "data")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "giemsa", "serve", "--port", "0", "--threads", "1", *options],
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def __enter__(self):
        for line in self._process.stderr:
            found = re.search(r"serving (http://\S+)", line)
            if found:
                threading.Thread(target=self._process.stderr.read, daemon=True).start()
                return self._process, found[1]
        raise AssertionError("the server did not start")

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()


def get(url):
    import httpx

    return httpx.get(url, trust_env=False, timeout=30).status_code


def test_small_answers_do_not_wait_for_an_acknowledgement(server):
    """Without TCP_NODELAY, which asyncio sets only on sockets that say to be TCP, each answer takes 40 ms more."""
    assert server._listener.proto == socket.IPPROTO_TCP


def test_one_slow_client_holds_up_nobody(server, client, cell_png):
    """While one sends a byte at a time, others are answered."""
    host, port = server.url.removeprefix("http://").split(":")
    stop = threading.Event()

    def drip():
        with socket.create_connection((host, int(port))) as slow:
            head = f"POST /api/v1/cells HTTP/1.1\r\nHost: {host}\r\nContent-Type: multipart/form-data; boundary=x\r\n"
            slow.sendall(head.encode() + b"Content-Length: 1000000\r\n\r\n")
            for byte in itertools.chain(BEGINNING, itertools.repeat(0)):
                if stop.wait(0.01):
                    return
                slow.sendall(bytes([byte]))

    slow_ones = [threading.Thread(target=drip, daemon=True) for _ in range(20)]
    for one in slow_ones:
        one.start()
    try:
        for i in range(10):
            answer = client.post("/api/v1/cells", files={"files": (f"{i}.png", cell_png())})
            assert answer.json()["cells"][0]["image"] == f"{i}.png"
    finally:
        stop.set()
        for one in slow_ones:
            one.join(10)


def test_a_body_that_hardly_comes_is_given_up(serve, tiny_model, monkeypatch):
    monkeypatch.setattr("giemsa.web.limits.GRACE_S", 0.2)

    def slowly():
        for byte in BEGINNING:
            time.sleep(0.05)
            yield bytes([byte])

    with serve(model=str(tiny_model)) as client:
        refused = client.post(
            "/api/v1/cells", content=slowly(), headers={"Content-Type": "multipart/form-data; boundary=x"}
        )
        assert refused.status_code == 408
        assert "too slowly" in refused.json()["detail"]


def test_nothing_is_written_outside_the_private_folder(serve, tiny_model, make_zip, cell_png, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with serve(model=str(tiny_model)) as client:
        archive = make_zip({"../../out.png": cell_png(), "in.png": cell_png()})
        client.post("/api/v1/cells", files={"files": ("../../a.zip", archive)})
        written = {path for path in tmp_path.rglob("*") if path.is_file()}
        assert {path.parent.parent for path in written} == {tmp_path}
        assert not [path for path in written if path.suffix in (".png", ".zip")]
        assert Path(next(iter(written)).parent).stat().st_mode & 0o777 == 0o700
