"""Time training steps of recipes with and without keeping freed memory, each in a process of its own, alternately.

python benchmarks/freed_memory.py
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import torch

from _common import spread, write_result
from giemsa.lab.networks.building import build_network
from giemsa.lab.recipes import load_recipe
from giemsa.lab.training.allocator import keep_freed_memory

RECIPES = ("default", "two-block-cnn-128", "sequential-cnn-224")
ROUNDS = 3
STEPS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=["plain", "kept"], help=argparse.SUPPRESS)
    parser.add_argument("--recipe", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(json.dumps(step_time(args.recipe, kept=args.only == "kept", threads=args.threads)))
        return
    found = {}
    for recipe in RECIPES:
        measured: dict[str, list[dict[str, float]]] = {"plain": [], "kept": []}
        for _ in range(ROUNDS):
            for way, results in measured.items():
                results.append(in_process(recipe, way, args.threads))
        found[recipe] = {
            way: {
                "seconds_per_step": spread([result["seconds"] for result in results]),
                "peak_bytes": max(result["peak_bytes"] for result in results),
            }
            for way, results in measured.items()
        }
        print(recipe, found[recipe], flush=True)
    write_result("freed_memory", {"threads": args.threads, "rounds": ROUNDS, "recipes": found})


def in_process(recipe: str, way: str, threads: int) -> dict[str, float]:
    """Take the steps in a fresh process."""
    command = [sys.executable, __file__, "--recipe", recipe, "--only", way, "--threads", str(threads)]
    result: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return result


def step_time(name: str, *, kept: bool, threads: int) -> dict[str, float]:
    """Train a network on noise for some steps, and return the fastest one's seconds and the peak of memory."""
    torch.set_num_threads(threads)
    if kept and not keep_freed_memory():
        sys.exit("freed_memory.py: this system's malloc takes no settings")
    recipe = load_recipe(name)
    network = build_network(recipe.network, recipe.input_size_px).to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4)
    size = recipe.input_size_px
    cells = torch.rand(recipe.training.batch_size, size, size, 3).permute(0, 3, 1, 2)
    seconds = []
    for _ in range(STEPS):
        started = time.perf_counter()
        optimiser.zero_grad()
        network(cells).logit.square().mean().backward()
        optimiser.step()
        seconds.append(time.perf_counter() - started)
    return {"seconds": min(seconds), "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


if __name__ == "__main__":
    main()
