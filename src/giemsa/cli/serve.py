"""`giemsa serve`: the dashboard and the REST API."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from giemsa.cli._options import add_model, add_threads

if TYPE_CHECKING:
    import argparse

    from giemsa.web.settings import Settings

EPILOG = """examples:
  giemsa serve --open
  giemsa serve --host 0.0.0.0 --token "$(cat token)" --database postgresql://giemsa@db/giemsa

The token may also be given as GIEMSA_TOKEN, so that no list of processes shows it.
For research and education: no diagnosis without a qualified professional.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--host", default="127.0.0.1", metavar="HOST", help="where to listen (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, metavar="PORT", help="0 for any free one (default: 8000)")
    add_model(parser)
    parser.add_argument(
        "--runs", nargs="+", type=Path, default=[], metavar="DIR", help="evaluations for the model's page"
    )
    parser.add_argument(
        "--site", type=Path, metavar="SITE.json", help="this laboratory's rates, of `giemsa smear calibrate`"
    )
    parser.add_argument("--max-upload-mb", type=int, default=50, metavar="MB", help="largest request (default: 50)")
    parser.add_argument(
        "--database", metavar="URL", help="where reviewers' answers go (default: SQLite in the user's data folder)"
    )
    parser.add_argument("--token", metavar="TOKEN", help="what everyone who calls the API must send")
    parser.add_argument("--insecure", action="store_true", help="serve other machines without a token")
    add_threads(parser)
    parser.add_argument("--open", action="store_true", help="open the page in a browser")


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    from giemsa.web.database import default_database
    from giemsa.web.settings import Settings, check_settings

    settings = Settings(
        host=args.host,
        port=args.port,
        model=args.model,
        max_upload_mb=args.max_upload_mb,
        database=args.database or default_database(),
        token=args.token if args.token is not None else os.environ.get("GIEMSA_TOKEN"),
        insecure=args.insecure,
        runs=tuple(args.runs),
        site=args.site,
        threads=args.threads,
    )
    check_settings(settings)
    from giemsa.web.server import serve

    serve(settings, ready=lambda url: _say_ready(settings, url, in_browser=args.open))
    return 0


def _say_ready(settings: Settings, url: str, *, in_browser: bool) -> None:
    from giemsa.verdicts import DISCLAIMER

    asked = "; a token is asked for" if settings.token is not None else ""
    print(f"giemsa: serving {url} (API: {url}/docs){asked}; Ctrl-C ends it", file=sys.stderr)
    print(f"giemsa: {DISCLAIMER}", file=sys.stderr, flush=True)
    if in_browser:
        import webbrowser

        webbrowser.open(url)
