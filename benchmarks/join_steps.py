"""One model of several runs that each trained some of its steps (`pyramid.learning`): the averages
of each run, where it learned.

    python benchmarks/join_steps.py START RUN ... --out OUT

START is the folder that all runs began with. OUT is a folder like it, which runs can begin with and
`uqdm quantise` reads.
"""

import argparse
import dataclasses
import json
from pathlib import Path

from safetensors.torch import load_file, save_file

from uqdm import atomic
from uqdm.config import read_config, to_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("start", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    config = read_config(args.start / "config.json")
    weights = {k: v for k, v in load_file(args.start / "checkpoint.safetensors").items() if k.startswith("average/")}
    for run in args.runs:
        learned = read_config(run / "config.json").model.learning
        found = load_file(run / "checkpoint.safetensors")
        taken = [k for k in weights if int(k.split(".")[1]) + 1 in learned]
        print(f"{run}: steps {learned}, {len(taken)} arrays")
        weights |= {k: found[k] for k in taken}
    args.out.mkdir(parents=True, exist_ok=True)
    model = dataclasses.replace(config.model, learning=())
    atomic.write(args.out / "config.json", to_json(dataclasses.replace(config, model=model)))
    counters = json.dumps({"step": 0, "seconds": 0.0, "seed": 0})
    save_file(
        weights, args.out / "checkpoint.safetensors", metadata={"kind": "uqdm training state 1", "counters": counters}
    )


if __name__ == "__main__":
    main()
