"""`python -m giemsa`: the same as the command `giemsa`."""

from __future__ import annotations

import sys

from giemsa.cli import main

if __name__ == "__main__":
    sys.exit(main())
