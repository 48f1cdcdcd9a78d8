"""One model of several runs that each trained some of its steps (`pyramid.learning`): the averages
of each run, where it learned.

    python benchmarks/join_steps.py START RUN ... --out OUT

START is the folder that all runs began with. OUT is a folder like it, which runs can begin with and
`uqdm quantise` reads.
"""

import argparse
import dataclasses
from pathlib import Path

from torch import Tensor

from uqdm.config import read_config
from uqdm.training import runs


def averages(folder: Path) -> dict[str, Tensor]:
    """Of a run, by the names of weights."""
    found, _ = runs.read(folder / runs.CHECKPOINT)
    return {k.removeprefix("average/"): v for k, v in found.items() if k.startswith("average/")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("start", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    config = read_config(args.start / "config.json")
    weights = averages(args.start)
    for run in args.runs:
        learned = read_config(run / "config.json").model.learning
        taken = {k: v for k, v in averages(run).items() if int(k.split(".")[1]) + 1 in learned}
        print(f"{run}: steps {learned}, {len(taken)} arrays")
        weights |= taken
    model = dataclasses.replace(config.model, learning=())
    runs.write_start(args.out, dataclasses.replace(config, model=model), weights)


if __name__ == "__main__":
    main()
