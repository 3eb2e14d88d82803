"""Fuzz one target, guided by coverage: `python tests/fuzz/run.py pictures --seconds 600`.

Besides an exception that is not Giemsa's own, an input that takes more than `--limit-s` seconds of the processor or
lets the process grow by more than 500 MB is a failure. The input that failed is kept in the corpus's folder.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from importlib import import_module
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))
sys.path.insert(0, str(Path(__file__).parent))

MEMORY_MB = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--limit-s", type=float, default=2.0)
    parser.add_argument("--corpus", type=Path, default=Path("fuzz-corpus"))
    args = parser.parse_args()
    warnings.simplefilter("ignore")

    import targets

    with atheris.instrument_imports(include=targets.INSTRUMENTED):
        for name in targets.INSTRUMENTED:
            import_module(name)
    import cv2
    import seeds

    cv2.setNumThreads(1)
    target = targets.TARGETS[args.target]
    corpus = args.corpus / args.target
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(getattr(seeds, args.target)()):
        (corpus / f"seed-{number:02d}").write_bytes(seed)

    def one(data: bytes) -> None:
        before = time.process_time()
        target(data)
        taken = time.process_time() - before
        if taken > args.limit_s:
            raise TimeoutError(f"this input took {taken:.1f} s; at most {args.limit_s} are allowed")

    grown = MEMORY_MB + _resident_mb()
    flags = [
        f"-max_total_time={args.seconds}", f"-rss_limit_mb={grown}", f"-malloc_limit_mb={MEMORY_MB}", "-timeout=120",
        f"-artifact_prefix={corpus}/", "-print_final_stats=1", "-max_len=20000", "-seed=1",
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *flags, str(corpus)], one)
    atheris.Fuzz()


def _resident_mb() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
