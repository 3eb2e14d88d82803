"""The Dockerfile's steps, run in a plain folder: what it copies is enough, and what it starts is well and not root."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
TOKEN = "token-of-the-tests"
NOBODY = 65_534


def _everybodys(path):
    return all(part.stat().st_mode & 0o1 for part in [path, *path.parents])


# Not root, as in the image; but where only root may enter the folder of this Python, root it is.
PYTHON = Path(sys.executable)
USER = NOBODY if os.geteuid() == 0 and _everybodys(PYTHON) and _everybodys(PYTHON.resolve()) else os.geteuid()


def instruction(name):
    """The JSON list of the last instruction of this name."""
    return json.loads(re.findall(rf"{name}.*?(\[.*\])", DOCKERFILE, re.S)[-1].splitlines()[0])


@pytest.fixture(scope="module")
def image():
    """What the image would hold: the package, built from what is copied and nothing else, where nobody may write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder)
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        yield folder
        for path in [folder, *folder.rglob("*")]:
            if path.is_dir():
                path.chmod(0o755)


def build(folder):
    for sources, place in re.findall(r"^COPY (?!--from)(.+) (/src\S*)$", DOCKERFILE, re.M):
        for source in sources.split():
            target = folder / place.strip("/")
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                target.mkdir(exist_ok=True)
                shutil.copy(ROOT / source, target)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    built = subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, folder / "src"], capture_output=True,
                           text=True, check=False)  # fmt: skip
    if built.returncode and re.search("Connection|No matching distribution|Could not find a version", built.stderr):
        pytest.skip(f"the package cannot be built without a package index: {built.stderr.splitlines()[-1]}")
    assert built.returncode == 0, built.stderr
    wheel = next(folder.glob("giemsa-*.whl"))
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "opt", wheel], check=True)


def start(image, writable, *options, **environment):
    """Run the image's entry point, not as root, with one folder to write to."""
    program, *arguments = instruction("ENTRYPOINT")
    assert program == "giemsa"
    libraries = os.pathsep.join([str(image / "opt"), sysconfig.get_path("purelib")])
    settings = {"PATH": os.environ["PATH"], "PYTHONPATH": libraries, "PYTHONDONTWRITEBYTECODE": "1"}
    settings |= {"TMPDIR": str(writable), "XDG_DATA_HOME": str(writable)}
    return subprocess.Popen(
        [sys.executable, "-m", "giemsa", *arguments, *options],
        cwd=image,
        stderr=subprocess.PIPE,
        text=True,
        env=settings | environment,
        **({"user": NOBODY, "group": NOBODY} if USER == NOBODY else {}),
    )


def test_it_serves_from_a_read_only_place_as_nobody_and_is_well(image, open_folder, cell_png):
    import httpx

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = start(image, open_folder, "--port", str(port), GIEMSA_TOKEN=TOKEN)
    try:
        assert any("serving" in line for line in server.stderr)
        url = f"http://127.0.0.1:{port}"
        check = [part.replace(":8000", f":{port}") for part in instruction("HEALTHCHECK")]
        assert subprocess.run([sys.executable, *check[1:]], check=False).returncode == 0
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
            assert client.get("/").status_code == client.get("/static/style.css").status_code == 200
            assert client.get("/examples.zip").content.startswith(b"PK")
            sent = {"files": ("a.png", cell_png())}
            assert client.post("/api/v1/cells", files=sent).status_code == 401
            client.headers["Authorization"] = f"Bearer {TOKEN}"
            assert client.post("/api/v1/cells", files=sent).status_code == 200
            assert client.get("/api/v1/reviews").json() == []
        assert (open_folder / "giemsa" / "reviews.sqlite").stat().st_uid == USER
    finally:
        server.kill()
        server.wait()
    assert subprocess.run([sys.executable, *check[1:]], check=False, capture_output=True).returncode != 0


def test_without_a_token_it_does_not_start(image, open_folder):
    server = start(image, open_folder)
    assert server.wait(60) == 2
    assert "--token" in server.stderr.read()


def test_it_is_not_root_and_says_whether_it_is_well():
    assert re.search(r"^USER giemsa$", DOCKERFILE, re.M)
    assert DOCKERFILE.index("USER giemsa") < DOCKERFILE.index("ENTRYPOINT")
    assert "HEALTHCHECK" in DOCKERFILE


def test_what_is_copied_is_let_into_the_build():
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for sources in re.findall(r"^COPY (?!--from)(.+) /src\S*$", DOCKERFILE, re.M):
        for source in sources.split():
            assert any(source == one or source.startswith(f"{one}/") for one in let_in), source


def test_every_package_of_the_image_has_a_version_and_a_digest():
    tomllib = pytest.importorskip("tomllib")  # Python 3.11

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    locked = {}
    for path in sorted((ROOT / "docker").glob("*.txt")):
        entries = path.read_text().replace("\\\n", " ").splitlines()
        for entry in entries:
            if entry and not entry.startswith("#"):
                found = re.match(r"([\w.-]+)==(\S+)((?: +--hash=sha256:[0-9a-f]{64})+)$", entry)
                assert found, entry
                locked[canonicalize_name(found[1])] = found[2]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for asked in [*project["dependencies"], *project["optional-dependencies"]["web"]]:
        requirement = Requirement(asked)
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), asked
    assert "--require-hashes" in DOCKERFILE
