"""What the tests of the web share: real servers, and a client that talks to them."""

from __future__ import annotations

import importlib.util
import threading
from contextlib import contextmanager
from io import BytesIO
from zipfile import ZipFile

import pytest

if not importlib.util.find_spec("fastapi"):
    collect_ignore_glob = ["test_*.py"]  # the extra `web` is not installed


@contextmanager
def run_server(**options):
    """Run a server in a thread, on any free port; gives its `Server`."""
    from giemsa.web.server import Server
    from giemsa.web.settings import Settings

    started = threading.Event()
    server = Server(Settings(**{"port": 0, "threads": 1} | options), ready=lambda _url: started.set())
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        assert started.wait(30), "the server did not start"
        yield server
    finally:
        server.stop()
        thread.join(30)


@contextmanager
def connect(url, **options):
    import httpx

    with httpx.Client(base_url=url, timeout=30, trust_env=False, **options) as client:
        yield client


@pytest.fixture(scope="session")
def serve():
    """`with serve(token=...) as client:` runs a server of its own with these settings."""

    @contextmanager
    def make(**options):
        with run_server(**options) as server, connect(server.url) as client:
            yield client

    return make


@pytest.fixture(scope="session")
def start_server():
    """`with start_server(token=...) as server:` runs a server with these settings, for a browser."""
    return run_server


@pytest.fixture(scope="session")
def server(tiny_model):
    """A server with the tiny model, that all tests of a session share."""
    with run_server(model=str(tiny_model)) as server:
        yield server


@pytest.fixture
def client(server):
    """A client of the shared server."""
    with connect(server.url) as client:
        yield client


@pytest.fixture(scope="session")
def make_zip():
    """`make_zip({"a.png": b"..."})` gives the bytes of a zip archive."""

    def make(members):
        file = BytesIO()
        with ZipFile(file, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return file.getvalue()

    return make


@pytest.fixture(scope="session")
def cell_png(draw_cell, encode):
    """`cell_png(parasitized, seed=0)` gives the bytes of a drawn cell as a PNG."""

    def make(parasitized=False, **options):
        return encode(draw_cell(parasitized, **options))

    return make
