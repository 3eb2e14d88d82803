"""Write the curves of the embedded model's page: `src/giemsa/model/embedded/curves.json`.

They are counted from the cross-validation that `embedded_model.py` leaves, in which each cell was judged by a model
that had not seen its patient, and hold for the embedded model as it stands: the page shows them for no other.

    python benchmarks/embedded_curves.py runs/embedded/crossval
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from giemsa.files import write_file
from giemsa.model import open_model
from giemsa.web.figures import EMBEDDED_CURVES, read_curves


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crossval", type=Path)
    args = parser.parse_args()
    model = open_model()
    content = read_curves(args.crossval) | {"name": f"{model.card.name}, cross-validated", "model_sha256": model.digest}
    write_file(EMBEDDED_CURVES, json.dumps(content) + "\n")
    print(f"{EMBEDDED_CURVES}: {', '.join(content['labels'])}")


if __name__ == "__main__":
    main()
