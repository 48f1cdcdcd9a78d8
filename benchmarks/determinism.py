"""The proof of promise 3: encode under every setting, decode every distinct file under every
setting; and what drift does.

    python benchmarks/determinism.py matrix PACK [--model NAME] [--every N] [--count 200] [--small]
    python benchmarks/determinism.py drift PACK [--model NAME] [--count 20] [--out drift.png]

`matrix`: for exact models all combinations of backend, precision, threads, batch, memory layout and
oneDNN (with a GPU, there too); for models of floats, float64 with one factor changed at a time.
Byte-identical files count once. Prints the number of distinct files and of failures, and exits 1 if
there is any. `drift`: the decoder's network outputs get noise of growing size; counts pictures that
decode, are refused, or come out wrong.
"""

import argparse
import collections
import contextlib
import dataclasses
import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from uqdm import bundle as package
from uqdm import library
from uqdm.codec import Codec
from uqdm.errors import NumericsError
from uqdm.exact.runtimes import available


@dataclasses.dataclass(frozen=True)
class Setting:
    backend: str = "torch"
    precision: str | None = None
    threads: int = 1
    batch: int = 1
    channels_last: bool = False
    onednn: bool = True
    device: str = "cpu"

    def __str__(self) -> str:
        layout = "channels-last" if self.channels_last else "contiguous"
        onednn = "oneDNN" if self.onednn else "no oneDNN"
        own = f", {layout}, {onednn}" if self.backend == "torch" and self.device == "cpu" else ""
        return f"{self.backend} {self.device} {self.precision or ''}, {self.threads} threads, batch {self.batch}{own}"


def devices() -> list[str]:
    if "torch" not in available():
        return ["cpu"]
    import torch

    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def exact_settings(small: bool) -> list[Setting]:
    found = []
    precisions, threads, batches = ("float32", "float64"), (1, 2), (1, 8, 32)
    if "torch" in available():
        for row in itertools.product(precisions, threads, batches, (False, True), (True, False)):
            found.append(Setting("torch", *row))
        if "cuda" in devices():
            found += [Setting("torch", p, 1, b, device="cuda") for p in precisions for b in batches]
    if "onnxruntime" in available():
        found += [Setting("onnxruntime", "float32", t, b) for t in threads for b in batches]
    found += [Setting("numpy", p, 1, b) for p in precisions for b in batches]
    return found[:: max(1, len(found) // 8)] if small else found


def float_settings(small: bool) -> list[Setting]:
    base = Setting(precision="float64")
    changes = [{}, {"threads": 2}, {"batch": 8}, {"batch": 32}, {"channels_last": True}, {"onednn": False}]
    changes += [{"device": "cuda"}] if "cuda" in devices() else []
    return [dataclasses.replace(base, **c) for c in (changes[:3] if small else changes)]


def slot(codec: Codec) -> str:
    """Where a family keeps what runs its network."""
    return "denoiser" if codec.package.family == "uqdm" else "networks"


@contextlib.contextmanager
def running(model: package.Package, s: Setting) -> Iterator[Codec]:
    """A codec under a setting."""
    with contextlib.ExitStack() as stack:
        if s.backend == "torch":
            import torch

            stack.enter_context(torch.backends.mkldnn.flags(enabled=s.onednn))
        codec = Codec(model, s.device, s.threads, s.precision, backend=s.backend)
        if s.backend == "torch":
            network = getattr(codec.family("tight"), slot(codec))
            if codec.exact:
                from uqdm.exact.runtimes import pytorch

                where, options = pytorch.device(s.device), {"channels_last": s.channels_last, "threads": s.threads}
                network.runner.runtime = lambda net: pytorch.Runner(net, where, s.precision or "float32", **options)
            elif s.channels_last:
                network.steps.net.to(memory_format=torch.channels_last)
        yield codec


def batches(items: list, size: int) -> Iterator[list]:
    return (items[i : i + size] for i in range(0, len(items), size))


def decode(codec: Codec, s: Setting, files: list[tuple[bytes, int]], pictures: list[Any]) -> collections.Counter[str]:
    """The files that are refused, or do not give their picture back."""
    failures: collections.Counter[str] = collections.Counter()
    for some in batches(files, s.batch):
        try:
            shown = codec.decompress([data for data, _ in some])
        except NumericsError:
            shown = []
            for data, _ in some:
                try:
                    shown.append(codec.decompress(data))
                except NumericsError:
                    shown.append(None)
        for (_, i), image in zip(some, shown):
            if image is None or not np.array_equal(image, pictures[i]):
                failures[f"{s}: {'refused' if image is None else 'WRONG'}"] += 1
    return failures


def matrix(a: argparse.Namespace) -> int:
    model = package.read(library.find(a.model))
    pictures = load(a)
    settings = (
        exact_settings(a.small) if model.network["kind"] in ("exact", "nested", "pyramid") else float_settings(a.small)
    )
    files: dict[bytes, int] = {}  # of what picture
    failures: collections.Counter[str] = collections.Counter()
    seconds, decoded = [0.0, 0.0], dict[Setting, int]()
    for s in settings:  # each decodes all files that there are by then
        with running(model, s) as codec:
            begin = time.perf_counter()
            for some in batches(list(enumerate(pictures)), s.batch):
                for (i, _), data in zip(some, codec.compress([p for _, p in some])):
                    files.setdefault(data, i)
            middle = time.perf_counter()
            failures += decode(codec, s, list(files.items()), pictures)
            seconds = [seconds[0] + middle - begin, seconds[1] + time.perf_counter() - middle]
        decoded[s] = len(files)
    for s, count in decoded.items():  # and those that others wrote later, if there are any
        if count < len(files):
            with running(model, s) as codec:
                failures += decode(codec, s, list(files.items())[count:], pictures)
    for s in settings:
        print(f"  {s}")
    print(
        f"{model.name} ({model.fingerprint[:16]}): {len(pictures)} pictures, {len(settings)} settings, {len(files)}"
        f" distinct files, {len(settings) * len(files)} decodings, {sum(failures.values())} failures;"
        f" {seconds[0]:.0f} s to encode, {seconds[1]:.0f} s to decode"
    )
    for what, count in failures.most_common():
        print(f"  {count} {what}")
    return int(bool(failures))


class Drifting:
    """A network whose outputs are off by noise: of `size` pixel values in locations, of `size`
    octaves in scales.
    """

    def __init__(self, inner: Any, size: float, seed: int) -> None:
        self._inner, self._size, self._random = inner, size, np.random.default_rng(seed)

    def __getattr__(self, name: str) -> Any:  # what else a network says of itself
        return getattr(self._inner, name)

    def __call__(self, *state: Any) -> tuple[np.ndarray, np.ndarray]:
        return self._moved(*self._inner(*state))

    def mixture(self, *state: Any) -> Any:
        found = self._inner.mixture(*state)
        location, level = self._moved(found.location, found.level)
        return found._replace(location=location, level=level)

    def _moved(self, location: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        one, other = (self._size * self._random.standard_normal(location.shape) for _ in range(2))
        if not self._inner.exact:
            return location + one, scale + other
        moved = np.rint(location + one * 2**16).astype(np.int32)
        return moved, np.clip(np.rint(scale + 8 * other), 0, 127).astype(np.uint8)


def drift(a: argparse.Namespace) -> int:
    model = package.read(library.find(a.model))
    pictures = load(a)
    writer, reader = Codec(model), Codec(model)
    files = writer.compress(pictures)
    family = reader.family("tight")
    inner = getattr(family, slot(reader))
    rows = []
    for exponent in np.arange(-15, 1.01, 0.5):
        counts = collections.Counter()
        for i, (data, picture) in enumerate(zip(files, pictures)):
            setattr(family, slot(reader), Drifting(inner, 10.0**exponent, i))
            try:
                counts["decoded" if np.array_equal(reader.decompress(data), picture) else "wrong"] += 1
            except NumericsError:
                counts["refused"] += 1
        rows.append((float(exponent), counts["decoded"], counts["refused"], counts["wrong"]))
        print(
            f"noise 1e{exponent:+.1f}: {counts['decoded']} decoded, {counts['refused']} refused, {counts['wrong']}"
            " wrong",
            flush=True,
        )
    if a.out:
        a.out.with_suffix(".json").write_text(
            json.dumps({"model": model.name, "pictures": len(pictures), "rows": rows})
        )
        plot(rows, a.out, f"{model.name}, {len(pictures)} pictures")
    return int(any(row[3] for row in rows))


def plot(rows: list[tuple[float, int, int, int]], path: Path, title: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.2), constrained_layout=True)
    x, decoded, refused, wrong = zip(*rows)
    labels, colours = ["decoded, exact", "refused, with an error", "wrong"], ["#4c9f70", "#e0a030", "#c03028"]
    axes.stackplot(x, decoded, refused, wrong, labels=labels, colors=colours)
    axes.set(
        xlabel="log10 of the noise on the network's outputs (pixel values; octaves)", ylabel="pictures", title=title
    )
    axes.set(xlim=(x[0], x[-1]), ylim=(0, sum(rows[0][1:])))
    axes.legend(loc="center left")
    figure.savefig(path, dpi=110)


def load(a: argparse.Namespace) -> list[np.ndarray]:
    from uqdm.data.sources import load_pack

    return list(load_pack(a.data)[:: a.every][: a.count])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, count in (("matrix", matrix, 200), ("drift", drift, 20)):
        command = commands.add_parser(name)
        command.add_argument("data", type=Path, help="a pack of pictures of one size")
        command.add_argument("--model", default=library.DEFAULT)
        command.add_argument("--every", type=int, default=1)
        command.add_argument("--count", type=int, default=count)
        command.set_defaults(run=run)
        if name == "matrix":
            command.add_argument("--small", action="store_true", help="about eight settings instead of all")
        else:
            command.add_argument("--out", type=Path, help="a plot (PNG), its numbers beside it")
    arguments = parser.parse_args()
    sys.exit(arguments.run(arguments))


if __name__ == "__main__":
    main()
