"""What the benchmarks of the server share: a server in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def running_server(*options: str) -> Iterator[tuple[str, int]]:
    """Address and process of a `giemsa serve` that runs on a free port."""
    command = [sys.executable, "-m", "giemsa", "serve", "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            for line in server.stderr or ():
                found = re.search(r"serving (http://\S+)", line)
                if found:
                    yield found[1], server.pid
                    return
            raise SystemExit("the server did not start")
        finally:
            server.kill()
