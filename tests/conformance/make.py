"""Writes what every stage of a decoder computes, as JSON files beside this one (README.md says what
each array is).

PYTHONPATH=src:tests python tests/conformance/make.py

The numbers are those of versions 1.0 and 1.1 of the format: they stay, and models may come.
`numbers` and `stages` are also what the tests compare the files with, on every runtime and with
every coder.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from golden.make import drawn
from numpy.typing import NDArray

from uqdm import bundle, format, library
from uqdm.codec import Codec
from uqdm.entropy import coder, mixtures, randomness, tables
from uqdm.entropy.tables import Cells
from uqdm.exact import runtimes
from uqdm.exact.running import Opened
from uqdm.families import colour, order, registry
from uqdm.families.base import Opening

HERE = Path(__file__).parent
MODELS = ("photo", "nano", "uqdm-light")
HEIGHT, WIDTH, SEED = 5, 7, 11
CUTS = (0.3, 0.5, 0.75, 0.9)  # shares of the file
Array = NDArray[Any]


def plain(array: Any) -> Any:
    """Integers, nested as the array is."""
    found = np.asarray(array)
    assert (found == found.astype(np.int64)).all()
    return found.astype(np.int64).tolist()


# --- stages that know no model


def generator() -> list[dict[str, Any]]:
    """Raw 32-bit integers."""
    places = [(0, 0), (0, 1), (SEED, 1), (2**64 - 1, 5)]
    return [
        {"seed": seed, "stream": stream, "integers": plain(randomness.raw(seed, stream, 11))} for seed, stream in places
    ]


def distribution() -> list[list[int]]:
    """Rows of location, level, position, F."""
    location, level, position = (
        np.random.default_rng(1).integers([-(2**23), 0, -(2**23)], [2**23, 128, 2**23], (60, 3)).T
    )
    position[::2] = location[::2] + (position[::2] >> 10)  # near it, where F is neither 0 nor 1
    return plain(np.stack([location, level, position, tables.cdf(position, location, level)], 1))


def cells() -> Cells:
    """What some symbols ask, each of a mixture of two logistics."""
    random, size = np.random.default_rng(2), 24
    low = random.integers(-255, 200, size)
    high = low + random.integers(1, 55, size)
    width = random.integers(2**16, 2**21, size)
    start = (low << 16) - random.integers(0, width)
    location = (low + random.integers(-20, 60, (2, size))).T << 16
    level = random.integers(30, 90, (size, 2))
    share = random.integers(1, 255, size)
    weight = np.stack([share, 256 - share], 1).astype(np.uint16)
    return Cells(low.astype(np.int32), high.astype(np.int32), start, width, location, level.astype(np.uint8), weight)


def cumulative(asked: Cells, i: int) -> list[int]:
    """Where the parts of symbol 0, 1, ... begin, and where those of the last end."""
    masses = asked.masses(slice(i, i + 1))[0][: int(asked.children[i])]
    return [0, *plain(np.cumsum(masses))]


def rows() -> list[dict[str, Any]]:
    """Tables, and the mean of the same density in the same box."""
    asked, found = cells(), []
    assert asked.weight is not None
    mean = tables.mixture_mean(*(a[None] for a in (asked.location, asked.level, asked.weight, asked.low, asked.high)))[
        0
    ]
    for i in range(asked.size):
        fields = ("low", "high", "start", "width", "location", "level", "weight")
        row = {name: plain(getattr(asked, name)[i]) for name in fields}
        found.append(row | {"cumulative": cumulative(asked, i), "mean": int(mean[i])})
    return found


def stream() -> dict[str, Any]:
    """Some symbols of `rows` and the bytes that they make."""
    asked = cells()
    symbols = np.random.default_rng(3).integers(0, asked.children)
    encoder = coder.RangeEncoder()
    encoder.encode_cells(symbols, asked)
    return {"symbols": plain(symbols), "bytes": encoder.finish().hex()}


def numbers() -> dict[str, Any]:
    """All of them."""
    logarithms = np.random.default_rng(4).integers(-400, 400, (12, 4))
    rgb = np.random.default_rng(5).integers(0, 256, (1, 3, 1, 24)).astype(np.uint8)
    return {
        "generator": generator(),
        "lattice": [
            {"height": h, "width": w, "positions": plain(order.lattice(h, w))} for h, w in ((4, 4), (5, 7), (1, 6))
        ],
        "colour": {"rgb": plain(rgb[0, :, 0].T), "ycocg-r": plain(colour.forward(rgb, "ycocg-r")[0, :, 0].T)},
        "distribution": distribution(),
        "weights": [
            {"logarithms": plain(a), "weights": plain(b)} for a, b in zip(logarithms, mixtures.weights(logarithms))
        ],
        "rows": rows(),
        "stream": stream(),
    }


# --- stages of a model, on one picture


class Watched:
    """A package's networks on a runtime; keeps what goes into its convolutions and what comes
    out.
    """

    def __init__(self, model: bundle.Package, backend: str) -> None:
        self.runs: list[dict[str, Any]] = []
        real, half = runtimes.opened, ((HEIGHT + 1) // 2, (WIDTH + 1) // 2)
        sizes = {half, ((half[0] + 1) // 2, (half[1] + 1) // 2)} if model.family == "pyramid" else {half}

        def opened(opening: Opening) -> Opened:
            found = real(opening)

            def runtime(net: Any) -> Callable[..., Array]:
                runner = found.runtime(net)

                def run(*fields: Array) -> Array:
                    out = runner(*fields)
                    if len(out) == 1 and out.shape[2:] in sizes:  # else it proves itself
                        self.runs.append({"features": plain(fields[0][0]), "raw": plain(out[0])})
                    return out

                return run

            return Opened(runtime, found.name)

        with mock.patch.object(runtimes, "opened", opened):
            self.networks = registry.networks(model, Opening(backend=backend, threads=1))

    def take(self) -> list[dict[str, Any]]:
        """Those since the last time, in their order."""
        found, self.runs = self.runs, []
        return found


def stages(model: bundle.Package, backend: str = "numpy") -> list[dict[str, Any]]:
    """What each step computes and tells, for a writer."""
    watched = Watched(model, backend)
    walk = registry.walk(model, "tight", watched.networks)
    pixels = drawn(HEIGHT, WIDTH).transpose(2, 0, 1)[None]
    values, state, found = walk.values(pixels), walk.start((HEIGHT, WIDTH), [SEED]), []
    while state.step < walk.chunks:
        step: dict[str, Any] = known(state) | {"parts": []}
        number = state.step
        for part in range(walk.parts(state)):
            question = walk.question(state, part, walk.side(state))[0]
            whole = slice(0, question.size)
            symbols = question.symbols(values[0], whole)
            places: Any = getattr(walk, "_list", None)  # a pyramid's
            place = {"place": plain(places(state)[part][:4])} if places else {}
            step["parts"].append(place | {"networks": watched.take()} | told(question, symbols))
            state = walk.update(state, part, [question], [symbols])
        assert state.step == number + 1
        found.append(step)
    assert (walk.denoise(state) == pixels).all()
    return found


def known(state: Any) -> dict[str, Any]:
    """Boxes; of a pyramid the last low-pass, and the planes of each level."""
    if isinstance(state.low, list):
        fields = {
            name: [plain(level[0]) for level in getattr(state, name)] for name in ("low", "high", "value", "mean")
        }
        return {"ground": plain(state.ground[0])} | fields
    return {"low": plain(state.low[0]), "high": plain(state.high[0])}


def told(question: Any, symbols: Array) -> dict[str, Any]:
    """What a part asks and what is answered."""
    asked = question.table(slice(0, question.size))
    if not isinstance(asked, Cells):  # rows: the last low-pass
        left = [int(row[:symbol].sum()) for row, symbol in zip(asked, symbols)]
        return {
            "symbols": plain(symbols),
            "left": left,
            "mass": plain(np.take_along_axis(asked, symbols[:, None], 1)[:, 0]),
        }
    left, mass = asked.intervals(symbols)
    found = {
        "asked": plain(question.asked),
        "offset": plain(question.offsets()),
        "location": plain(asked.location),
        "level": plain(asked.level),
    }
    if asked.weight is not None:
        found["weight"] = plain(asked.weight)
    return found | {"symbols": plain(symbols), "left": plain(left), "mass": plain(mass)}


def written(model: bundle.Package, **options: Any) -> tuple[Codec, bytes]:
    """The picture's file."""
    codec = Codec(model, **options)
    return codec, codec.compress(drawn(HEIGHT, WIDTH), seed=SEED)


def previews(codec: Codec, data: bytes) -> list[dict[str, Any]]:
    """What cut files show."""
    found = []
    for share in CUTS:
        size = int(share * len(data))
        cut = codec.decode(data[:size])
        found.append({"bytes": size, "step": cut.step, "bound": cut.bound, "pixels": plain(cut.picture.pixels)})
    return found


def vectors(name: str) -> dict[str, Any]:
    """Of a model."""
    model = bundle.read(library.find(name))
    codec, data = written(model)
    steps = stages(model)
    header = format.parse(data).header
    for number, (step, payload) in enumerate(zip(steps, payloads(data), strict=True)):
        own = header.symbol_check(number + 1)
        step |= {"check": payload[:own].hex(), "stream": payload[own:].hex()}
        step["preview"] = plain(codec.decode(data, step=number).picture.pixels)
    about = {"model": name, "fingerprint": model.fingerprint, "height": HEIGHT, "width": WIDTH, "seed": SEED}
    return about | {
        "pixels": plain(drawn(HEIGHT, WIDTH)),
        "steps": steps,
        "file": data.hex(),
        "cut": previews(codec, data),
    }


def payloads(data: bytes) -> list[bytes]:
    """Of the steps of a whole file."""
    return [chunk.payload for chunk in format.parse(data).chunks if chunk.kind == format.STEP]


def written_out(value: Any, depth: int = 0) -> str:
    """JSON: an object's keys on lines of their own, and in a list of objects each object; arrays of
    numbers on one line.
    """
    if isinstance(value, dict):
        lines = [f"{' ' * (depth + 1)}{json.dumps(key)}: {written_out(one, depth + 1)}" for key, one in value.items()]
        return "{\n" + ",\n".join(lines) + "\n" + " " * depth + "}"
    if isinstance(value, Sequence) and value and isinstance(value[0], dict):
        return "[" + ", ".join(written_out(one, depth) for one in value) + "]"
    return json.dumps(value, separators=(",", ":"))


def main() -> None:
    for name, found in {"numbers": numbers(), **{name: vectors(name) for name in MODELS}}.items():
        path = HERE / f"{name}.json"
        path.write_text(written_out(found) + "\n")
        print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
