"""Local HTTP servers, well and ill behaved, and small archives of drawn cells for them to serve."""

from __future__ import annotations

import hashlib
import io
import re
import threading
import zipfile
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

from giemsa.demo import DemoCell


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    """Reach the servers on this machine directly, whatever proxy it has for others."""
    monkeypatch.setenv("no_proxy", "*")


@dataclass
class Site:
    """What a server serves, how it behaves, and what it was asked for."""

    content: bytes
    behaviour: str = "ranges"
    etag: str | None = '"first"'
    modified: str | None = None
    url: str = ""
    asked: list[str] = field(default_factory=list)
    if_range: list[str | None] = field(default_factory=list)
    sent: int = 0
    next_content: bytes = b""
    change_at: int = 0  # the request before which the file becomes `next_content`
    break_at: tuple[int, ...] = ()  # the requests whose answers break off


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        site = self.server.site
        site.asked.append(self.headers["Range"])
        site.if_range.append(self.headers["If-Range"])
        number = len(site.asked)
        if site.change_at == number:
            site.content = site.next_content
            site.etag = None if site.etag is None else '"second"'
            site.modified = None if site.modified is None else "Tue, 02 Jan 2024 00:00:00 GMT"
        getattr(self, f"answer_{site.behaviour}")(site, number)

    def range(self, site):
        first, last = (int(n) for n in re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"]).groups())
        return first, min(last, len(site.content) - 1)

    def answer_ranges(self, site, number):
        validators = [v for v in (site.etag, site.modified) if v]
        if self.headers["If-Range"] and self.headers["If-Range"] not in validators:
            return self.answer_whole(site, number)
        first, last = self.range(site)
        return self.part(site, first, last, site.content[first : last + 1], breaks=number in site.break_at)

    def answer_forgetful(self, site, number):
        """Answer ranges without a look at If-Range."""
        first, last = self.range(site)
        self.part(site, first, last, site.content[first : last + 1])

    def answer_whole(self, site, number):
        self.send(200, site.content, {"ETag": site.etag})

    def answer_absent(self, site, number):
        self.send(404, b"", {})

    def answer_shifted(self, site, number):
        first, last = self.range(site)
        shift = 0 if number == 1 else 1
        self.part(site, first + shift, last + shift, site.content[first : last + 1])

    def answer_other_bytes(self, site, number):
        first, last = self.range(site)
        self.part(site, first, last, b"x" * (last + 1 - first))

    def answer_unnamed(self, site, number):
        """Send a part without a word on which."""
        self.send(206, b"x", {})

    def answer_unsized(self, site, number):
        self.send(206, b"x", {"Content-Range": "bytes 0-0/*"})

    def answer_packed(self, site, number):
        first, last = self.range(site)
        self.part(site, first, last, site.content[first : last + 1], **{"Content-Encoding": "gzip"})

    def answer_silence(self, site, number):
        self.server.over.wait(30)
        self.close_connection = True

    def answer_rubbish(self, site, number):
        self.wfile.write(b"this is no HTTP\r\n\r\n")
        self.close_connection = True

    def part(self, site, first, last, body, *, breaks=False, **headers):
        content_range = f"bytes {first}-{last}/{len(site.content)}"
        headers = {"Content-Range": content_range, "ETag": site.etag, "Last-Modified": site.modified, **headers}
        self.send(206, body, headers, breaks=breaks)

    def send(self, status, body, headers, *, breaks=False):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        body = body[: len(body) // 2] if breaks else body
        self.close_connection = True
        self.server.site.sent += len(body)  # before the client can look
        with suppress(OSError):  # the client may have seen enough
            self.wfile.write(body)


@pytest.fixture
def serve():
    """Give a function that serves bytes on this machine and returns the `Site`."""
    servers = []

    def start(content, behaviour="ranges", **how):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.over = threading.Event()
        server.site = Site(content, behaviour, url=f"http://127.0.0.1:{server.server_port}/cell_images.zip", **how)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        servers.append((server, thread))
        return server.site

    yield start
    for server, thread in servers:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def picture(seed):
    """Draw a small round thing on black, with noise, so that it does not compress away."""
    rng = np.random.default_rng(seed)
    rgb = np.zeros((60 + seed, 64, 3), np.uint8)
    cv2.circle(rgb, (32, 32), 26, (200, 140, 150), -1)
    lit = rgb.any(axis=2)
    rgb[lit] += rng.integers(0, 30, (int(lit.sum()), 3), dtype=np.uint8)
    return rgb


def png(rgb):
    done, data = cv2.imencode(".png", rgb[..., ::-1])
    assert done
    return data.tobytes()


@pytest.fixture
def cells():
    """Four cells as they would stand in the list."""
    listed = []
    for seed in range(4):
        rgb = picture(seed)
        label = ("parasitized", "uninfected")[seed % 2]
        listed.append(
            DemoCell(
                member=f"cell_images/{label.capitalize()}/C{seed}P1thinF_IMG_1_cell_{seed}.png",
                kind="easy",
                label=label,
                reviewed=label,
                donor=False,
                shape=rgb.shape,
                sha256=hashlib.sha256(rgb.tobytes()).hexdigest(),
            )
        )
    return tuple(listed)


@pytest.fixture
def pack():
    """Give a function that packs the four cells into an archive, among as many others as wanted."""

    def build(others=0, *, replace=None, method=zipfile.ZIP_DEFLATED, without=()):
        buffer = io.BytesIO()
        noise = np.random.default_rng(5).bytes(200)
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for number in range(others):
                if number % (others // 4 or 1) == 0 and number // (others // 4 or 1) < 4:
                    _add(archive, number // (others // 4 or 1), replace, without)
                archive.writestr(f"cell_images/Uninfected/C1P1thinF_IMG_20150622_105102_cell_{number}.png", noise)
            if not others:
                for seed in range(4):
                    _add(archive, seed, replace, without)
        return buffer.getvalue()

    return build


def _add(archive, seed, replace, without):
    if seed not in without:
        label = ("Parasitized", "Uninfected")[seed % 2]
        data = (replace or {}).get(seed) or png(picture(seed))
        archive.writestr(f"cell_images/{label}/C{seed}P1thinF_IMG_1_cell_{seed}.png", data)


@pytest.fixture
def png_of():
    """Give a function that draws and encodes a picture of a seed."""
    return lambda seed: png(picture(seed))
