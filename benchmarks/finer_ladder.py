"""A start for a finer ladder of steps: the weights of a trained pyramid, put where they count in
the same units.

    python benchmarks/finer_ladder.py checkpoints/photo OUT

OUT is a folder that `uqdm train --config OUT/config.json --start OUT` begins with. Its base widths
are 128, 64, 32, 16, 8, 4, 1. A network counts in the widths of its parents' cells, so what told 64
to 32 can begin to tell 128 to 64 (`docs/pyramid.md`, "How it is trained").
"""

import argparse
import dataclasses
from pathlib import Path

from safetensors.torch import load_file

from uqdm.config import read_config
from uqdm.training import runs

BASES = (128, 64, 32, 16, 8, 4, 1)
FROM = (0, 1, 1, 2, 2, 3, 4)  # the step of the old ladder whose networks each new step begins with
UNVISITED = (0,)  # new steps that do not visit level 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    config = read_config(args.model / "config.json")
    old = load_file(args.model / "checkpoint.safetensors")
    rows = [list(config.model.networks[step]) for step in FROM]
    for step in UNVISITED:
        rows[step][0] = (0, 0, 0, 0)
    model = dataclasses.replace(config.model, bases=BASES, networks=tuple(map(tuple, rows)))
    new = {}
    for step, source in enumerate(FROM):
        for name, weights in old.items():
            _, at, kind, *rest = name.split(".")
            if int(at) == source and rows[step][int(kind)] != (0, 0, 0, 0):
                new[".".join(["layers", str(step), kind, *rest])] = weights.clone()
    runs.write_start(args.out, dataclasses.replace(config, model=model), new)


if __name__ == "__main__":
    main()
