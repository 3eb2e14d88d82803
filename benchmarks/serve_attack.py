"""Attack a server on loopback in seven ways at once, while honest clients go on: what they wait, what memory it takes.

Honest clients send one cell at a time, first alone and then beside the attackers, who each do one of:

- headers without end, and headers that never end, a connection after the other
- bodies of gigabytes, announced and not, to routes that take none
- four uploads that stop just before their end, again and again
- archives with impossible numbers, and with names without number
- callers who do not read their answers
- answers of reviewers by the thousand, and agreement of them all
- a database that is locked all the time

Server, honest clients and attackers are processes of their own and share the machine, so that latencies beside the
attack hold what the attackers themselves take of it.

    python benchmarks/serve_attack.py CELLS [--clients 16] [--seconds 30]
"""

from __future__ import annotations

import argparse
import asyncio
import io
import multiprocessing
import os
import sqlite3
import struct
import tempfile
import threading
import zipfile
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import giemsa
from _common import write_result
from _serving import running_server
from serve_load import drive, resident_mb

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Attack = Callable[[str, int], Awaitable[None]]

MULTIPART = "Content-Type: multipart/form-data; boundary=x\r\n"
PART = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.%s"\r\n\r\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", type=Path)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--only", help="one way of attack, by its function's name (default: all)")
    args = parser.parse_args()
    paths = list(islice(sorted(args.cells.rglob("*.png")), 400))
    cells = [(path.name, path.read_bytes()) for path in paths]
    expected = [verdict.p_parasitized for verdict in giemsa.load().classify_many(paths)]
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "reviews.sqlite"
        with running_server("--database", f"sqlite:///{database}") as (url, pid):
            honest = {"clients": args.clients, "seconds": args.seconds, "watch": pid}
            asyncio.run(drive(url, cells, expected, clients=4, seconds=3))  # warms everything up
            before = asyncio.run(drive(url, cells, expected, **honest))
            attackers = multiprocessing.Process(target=attack, args=(url, database, args.seconds, args.only))
            attackers.start()
            during = asyncio.run(drive(url, cells, expected, **honest))
            attackers.join()
            asyncio.run(asyncio.sleep(35))  # the last idle bodies are given up
            after = asyncio.run(drive(url, cells, expected, clients=args.clients, seconds=5, watch=pid))
            left = resident_mb(pid)
    result = {
        "clients": args.clients,
        "attacks": args.only or "all",
        "cores": len(os.sched_getaffinity(0)),
        "load_of_the_machine_before": round(os.getloadavg()[2], 2),
        "alone": before.describe(),
        "attacked": during.describe(),
        "afterwards": after.describe(),
        "highest_resident_mb": {"alone": max(before.memory_mb), "attacked": max(during.memory_mb), "afterwards": left},
    }
    write_result("serve_attack", result)
    if before.wrong or during.wrong or after.wrong:
        raise SystemExit("honest requests failed")


def attack(url: str, database: Path, seconds: float, only: str | None) -> None:
    """Attack for some seconds, in every way or in one."""
    locking = threading.Thread(target=lock, args=(database, seconds), daemon=True)
    if only in (None, "lock"):
        locking.start()
    asyncio.run(_attack(url, seconds, only))
    if locking.ident is not None:
        locking.join()


async def _attack(url: str, seconds: float, only: str | None) -> None:
    host, port = urlsplit(url).hostname or "", urlsplit(url).port or 80
    ways: list[Attack] = [endless_headers, unfinished_headers, large_bodies, idle_uploads, bad_archives, deaf_callers,
                          many_reviewers]  # fmt: skip

    async def again_and_again(way: Attack) -> None:
        while True:
            try:
                await way(host, port)
            except (OSError, EOFError):
                await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(again_and_again(way)) for way in ways if only in (None, way.__name__)]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def head(method: str, path: str, headers: str = "") -> bytes:
    """Head of a request."""
    return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n".encode()


async def send(host: str, port: int, *pieces: bytes, read: bool = True) -> None:
    """Send a request, and read its answer to the end."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if read:
            await asyncio.wait_for(reader.read(), 60)
    except asyncio.TimeoutError:
        return
    finally:
        writer.close()


async def endless_headers(host: str, port: int) -> None:
    """Header bytes without end."""
    await send(host, port, b"GET /api/v1/model HTTP/1.1\r\n", *([b"X: " + b"x" * 65_536] * 500))


async def unfinished_headers(host: str, port: int) -> None:
    """Two hundred connections that never say what they want."""
    opened = [await asyncio.open_connection(host, port) for _ in range(200)]
    for _, writer in opened:
        writer.write(b"GET / HTTP/1.1\r\n")
    await asyncio.sleep(5)
    for _, writer in opened:
        writer.close()


async def large_bodies(host: str, port: int) -> None:
    """Bodies of a gigabyte for routes that take some kilobytes."""
    piece = b"100000\r\n" + bytes(2**20) + b"\r\n"
    json = "Content-Type: application/json\r\n"
    await send(host, port, head("POST", "/api/v1/reviews", f"{json}Content-Length: {2**30}\r\n"), bytes(2**20))
    await send(host, port, head("POST", "/api/v1/reviews", f"{json}Transfer-Encoding: chunked\r\n"), *([piece] * 1_000))


async def idle_uploads(host: str, port: int) -> None:
    """Four uploads of 49 MB that stop just before their end."""
    pieces = [head("POST", "/api/v1/cells", f"{MULTIPART}Content-Length: {50 * 2**20}\r\n"), PART % b"png"]
    await asyncio.gather(*(send(host, port, *pieces, *([bytes(2**20)] * 49)) for _ in range(4)))


async def bad_archives(host: str, port: int) -> None:
    """Archives whose entry lies at 2^63, and as many in one body as it takes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.png", b"x")
    content = packed.getvalue()
    end = content.rindex(b"PK\5\6")
    start = struct.unpack("<L", content[end + 16 : end + 20])[0]
    extra = struct.pack("<HHQ", 1, 8, 2**63)
    entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 1, 1, 5, len(extra), 0, 0, 0, 0, 2**32 - 1)
    directory = entry + b"a.png" + extra
    content = content[:start] + directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(directory), start, 0)
    body = b"".join(PART % b"zip" + content + b"\r\n" for _ in range(20)) + b"--x--\r\n"
    close = "Connection: close\r\n"
    await send(host, port, head("POST", "/api/v1/cells", f"{MULTIPART}{close}Content-Length: {len(body)}\r\n"), body)


async def deaf_callers(host: str, port: int) -> None:
    """Callers of the largest file who never read it."""
    await asyncio.gather(
        *(send(host, port, head("GET", "/docs-assets/swagger-ui-bundle.js") * 20, read=False) for _ in range(20))
    )
    await asyncio.sleep(1)


async def many_reviewers(host: str, port: int) -> None:
    """Answers of a hundred names, and how far they all agree."""
    for _ in range(100):
        key = os.urandom(8).hex()
        body = (
            f'{{"key": "{key}", "reviewer": "{key}", "image": "a.png", "image_sha256": "{"a" * 64}", '
            f'"model_sha256": "{"b" * 64}", "verdict": "uninfected", "p_parasitized": 0.1, "answer": "unsure"}}'
        ).encode()
        headers = f"Content-Type: application/json\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
        await send(host, port, head("POST", "/api/v1/reviews", headers), body)
    await send(host, port, head("GET", "/api/v1/agreement", "Connection: close\r\n"))


def lock(database: Path, seconds: float) -> None:
    """Lock the database for most of the time."""
    with sqlite3.connect(database, isolation_level=None, timeout=20) as connection:
        for _ in range(int(seconds / 4)):
            connection.execute("BEGIN IMMEDIATE")
            threading.Event().wait(3)
            connection.execute("ROLLBACK")
            threading.Event().wait(1)


if __name__ == "__main__":
    main()
