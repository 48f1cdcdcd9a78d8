"""A training step of ours beside the published script's own, on the same configuration, pictures
and machine, taking turns.

The published code has no licence and is no part of this project: give the path of its script
(`uqdm.py` of its repository), and have what it imports (absl-py, ml_collections). Only
`tensorflow_compression` is not needed, since no step codes anything.

    python benchmarks/trainstep.py --script uqdm.py --config uqdm-tiny/config.json --data imagenet64-dev.zip
"""

import argparse
import importlib.machinery
import importlib.util
import json
import statistics
import sys
import tempfile
import time
import types
from pathlib import Path

import torch
from torch import nn

from uqdm.config import override, read_config
from uqdm.training.data import load_data
from uqdm.training.trainer import train

UNUSED = ("tensorflow", "tensorflow_compression", "tensorflow_compression.python", "tensorflow_compression.python.ops")


def published(script: Path, config: Path):
    """The published script's model of a config.json, with its optimiser and averages."""
    from ml_collections import ConfigDict

    for name in UNUSED:
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        sys.modules[name] = module
    sys.modules[UNUSED[-1]].gen_ops = None
    spec = importlib.util.spec_from_file_location("published_script", script)
    code = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(code)
    for name in UNUSED:  # or TensorBoard would take them for the real ones
        del sys.modules[name]
    model = code.UQDM(ConfigDict(json.loads(config.read_text()))).train()
    code.model = model  # which its loss looks up
    return model


def their_step(model, x: torch.Tensor) -> float:
    """As its trainer takes it. -> the loss, bits per dimension."""
    model.optimizer.zero_grad()
    loss, _ = model(x)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    model.optimizer.step()
    model.ema.update(model.parameters())
    return float(loss.detach())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--script", type=Path, required=True, help="the published script")
    parser.add_argument("--config", type=Path, required=True, help="a published config.json")
    parser.add_argument("--data", required=True, help="pictures to train on")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5, help="of each, in turn")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    torch.set_flush_denormal(True)
    config = override(read_config(a.config), {"batch_size": a.batch, "shuffle": True, "crop": 0, "num_workers": 0})
    config = override(config, {f"{k}_every_steps": 1 << 30 for k in ("log_metrics", "checkpoint", "eval")})
    data, _ = load_data(a.data, config.data)
    theirs = published(a.script, a.config)
    seconds: list[tuple[float, float]] = []  # a step: theirs, ours
    before = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for i in range(a.repeat + 1):  # the first warms up
            numbers = range(i * a.steps, (i + 1) * a.steps)
            batches = [data.batch(n) for n in numbers]
            begin = time.perf_counter()
            loss = statistics.mean(their_step(theirs, x) for x in batches)
            whole = time.perf_counter() - begin
            state = train(
                config, data, None, folder, steps=numbers.stop
            )  # goes on where it stopped; reads its batches itself
            seconds.append((whole / a.steps, (state.seconds - before) / a.steps))
            before = state.seconds
            own = json.loads((Path(folder) / "metrics.jsonl").read_text().splitlines()[-1])["loss"]
            print(f"steps {numbers.start} to {numbers.stop}: {loss:.4f} theirs, {own:.4f} ours, bits/dim", flush=True)
    theirs_s, ours_s = (statistics.median(one) for one in zip(*seconds[1:]))
    ratio = statistics.median(t / o for t, o in seconds[1:])
    print(
        f"batch {a.batch}, {a.threads} threads, median of {a.repeat} turns of {a.steps} steps: {theirs_s:.3f} s a step"
        f" theirs, {ours_s:.3f} s ours ({a.batch / ours_s:.2f} pictures/s), ratio {ratio:.2f}"
    )


if __name__ == "__main__":
    main()
