"""The files beside this one hold the numbers of every stage; every runtime, every coder and the
document's decoder give the same.
"""

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from document import nested, pyramid, stream, uqdm
from document.convolutions import whole
from numpy.typing import NDArray
from safetensors.numpy import load_file

from conformance import make
from uqdm import bundle, library
from uqdm.entropy import coder
from uqdm.exact import runtimes

RUNTIMES = ("onnxruntime", "torch", "numpy")
CODERS = ("plain", "constriction", "numba")


def read(name: str) -> Any:
    return json.loads((make.HERE / f"{name}.json").read_text())


VECTORS = {name: read(name) for name in make.MODELS}
NUMBERS = read("numbers")
every_model = pytest.mark.parametrize("model", make.MODELS)


def equal(found: Any, expected: Any, where: str) -> None:
    """Names the first number that differs."""
    if isinstance(found, dict) and isinstance(expected, dict):
        assert found.keys() <= expected.keys(), where
        for key, value in found.items():
            equal(value, expected[key], f"{where}, {key}")
    elif isinstance(found, list) and isinstance(expected, list):
        assert len(found) == len(expected), where
        for i, (a, b) in enumerate(zip(found, expected)):
            equal(a, b, f"{where}[{i}]")
    else:
        assert found == expected, where


def test_every_model_that_ships_has_vectors() -> None:
    assert set(make.MODELS) == {path.name for path in library.SHIPPED.iterdir() if path.is_dir()}
    assert {path.stem for path in make.HERE.glob("*.json")} == {"numbers", *make.MODELS}
    for name, vectors in VECTORS.items():
        assert vectors["fingerprint"] == bundle.describe(library.find(name))["fingerprint"]


def test_stages_that_know_no_model_give_their_numbers() -> None:
    equal(make.numbers(), NUMBERS, "numbers")


@every_model
@pytest.mark.parametrize("backend", RUNTIMES)
def test_every_runtime_gives_the_numbers_of_every_stage(backend: str, model: str) -> None:
    if backend not in runtimes.available():
        pytest.skip(f"{backend} is not installed")
    package = bundle.read(library.find(model))
    equal(make.stages(package, backend), VECTORS[model]["steps"], f"{model}, steps")
    codec, data = make.written(package, backend=backend, threads=1)
    assert data.hex() == VECTORS[model]["file"]
    equal(make.previews(codec, data), VECTORS[model]["cut"], f"{model}, cut")
    for number, step in enumerate(VECTORS[model]["steps"]):
        assert codec.decode(data, step=number).picture.pixels.tolist() == step["preview"], f"step {number + 1}"


@every_model
@pytest.mark.parametrize("kind", CODERS)
def test_every_coder_writes_and_reads_the_streams(kind: str, model: str) -> None:
    """From each symbol's parts alone, as a coder in another language would."""
    if kind not in coder.available():
        pytest.skip(f"{kind} is not installed")
    for number, step in enumerate(VECTORS[model]["steps"]):
        left, mass = (np.array([n for part in step["parts"] for n in part[key]], np.int64) for key in ("left", "mass"))
        table = np.stack([left, mass, 2**24 - left - mass], 1)
        encoder, decoder = coder.RangeEncoder(kind), coder.RangeDecoder(bytes.fromhex(step["stream"]), coder=kind)
        for row in table:  # the symbol's own parts, and before and behind it those of all others
            masses = row[None, row > 0]
            symbol = np.array([int(row[0] > 0)])
            encoder.encode(symbol, masses)
            assert decoder.decode(masses) == symbol
        assert encoder.finish().hex() == step["stream"], f"step {number + 1}"
    _, data = make.written(bundle.read(library.find(model)), coder=kind, backend="numpy")
    assert data.hex() == VECTORS[model]["file"]


# --- the document's decoder, stage by stage


def test_the_document_gives_the_numbers_of_stages_that_know_no_model() -> None:
    for one in NUMBERS["generator"]:
        assert stream.philox(one["seed"], one["stream"], 11)[:11] == one["integers"]
    for one in NUMBERS["lattice"]:
        assert [y * one["width"] + x for y, x in stream.lattice(one["height"], one["width"])] == one["positions"]
    assert stream.pixels(np.array(NUMBERS["colour"]["ycocg-r"]).T, False).T.tolist() == NUMBERS["colour"]["rgb"]
    for location, level, position, f in NUMBERS["distribution"]:
        assert stream.distribution(position, location, level) == f
    for one in NUMBERS["weights"]:
        assert nested.weights(one["logarithms"]) == one["weights"]
    for one in NUMBERS["rows"]:
        mixture = list(zip(one["weight"], one["location"], one["level"]))
        starts = range(one["start"] + one["width"], one["high"] * stream.ONE + 1, one["width"])
        cuts = [one["low"], *(-(-place // stream.ONE) for place in starts), one["high"] + 1]
        f = [
            sum(w * stream.distribution(v * stream.ONE - stream.ONE // 2, at, level) for w, at, level in mixture) >> 8
            for v in cuts
        ]
        assert stream.cumulative(f, f[-1] - f[0]) == one["cumulative"]
        assert nested.mixture_mean(mixture, one["low"], one["high"]) == one["mean"]
    payload = stream.Stream(stream.Payload(bytes(4) + bytes.fromhex(NUMBERS["stream"]["bytes"]), True))
    assert [payload.symbol(one["cumulative"]) for one in NUMBERS["rows"]] == NUMBERS["stream"]["symbols"]


def opened(model: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    folder = library.find(model)
    return json.loads((folder / "model.json").read_text()), whole(load_file(folder / "weights.safetensors"))


def own(weights: dict[str, NDArray[Any]], s: int) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(f"{s}."): a for name, a in weights.items() if name.startswith(f"{s}.")}


def test_the_document_gives_the_numbers_of_the_networks_of_uqdm_light() -> None:
    described, weights = opened("uqdm-light")
    for s, step in enumerate(VECTORS["uqdm-light"]["steps"]):
        boxes = uqdm.evened(np.array(step["low"]), np.array(step["high"]))
        raw, (part,), blocks = None, step["parts"], described["network"]["steps"][s]["blocks"]
        for seen in part["networks"]:
            assert uqdm.features(own(weights, s), *boxes).tolist() == seen["features"]
            raw = uqdm.outputs(own(weights, s), blocks, np.array(seen["features"]))
            assert raw.tolist() == seen["raw"]
        assert (raw is None) == (s == 0)
        found = uqdm.suggested(own(weights, s), raw, *boxes)
        location, level = (a[:, : make.HEIGHT, : make.WIDTH].reshape(-1)[part["asked"]].tolist() for a in found)
        assert (location, level) == (part["location"], part["level"])


def test_the_document_gives_the_numbers_of_the_networks_of_nano() -> None:
    described, weights = opened("nano")
    for s, step in enumerate(VECTORS["nano"]["steps"]):
        about = described["network"]["steps"][s]
        low, high, activations = np.array(step["low"]), np.array(step["high"]), None
        for number, part in enumerate(step["parts"]):
            *trunk, seen = part["networks"]
            for one in trunk:
                assert nested.features(own(weights, s), *nested.evened(low, high))[3].tolist() == one["features"]
                activations = nested.network(own(weights, s), "trunk", about["trunk"], np.array(one["features"]))
                assert activations.tolist() == one["raw"]
            _, _, detail, everything = nested.features(own(weights, s), *nested.evened(low, high))
            assert (everything if activations is None else detail).tolist() == seen["features"]
            assert nested.outputs(own(weights, s), about, number, (low, high), activations).tolist() == seen["raw"]
            mixture = nested.mixtures(own(weights, s), about, number, (low, high), activations)
            for i, at in enumerate(part["asked"]):
                c, y, x = np.unravel_index(at, low.shape)
                mixed = [list(one) for one in zip(part["weight"][i], part["location"][i], part["level"][i])]
                assert [list(one) for one in mixture(c, y // 2, x // 2)] == mixed
            told(low, high, part, described["constants"]["widths"][s])
        after = VECTORS["nano"]["steps"][s + 1] if s + 1 < len(VECTORS["nano"]["steps"]) else None
        assert after is None or (low.tolist(), high.tolist()) == (after["low"], after["high"])


def test_the_document_gives_the_numbers_of_every_stage_of_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, networks, asked = VECTORS["photo"], [], []
    data = bytes.fromhex(vectors["file"])
    run, tables = nested.network, pyramid.Telling.tables

    def network(own: Any, name: str, blocks: int, x: Any, joined: Any = None) -> Any:
        networks.append({"features": x.tolist(), "raw": run(own, name, blocks, x, joined).tolist()})
        return np.array(networks[-1]["raw"])

    def tabled(telling: Any, mixture: pyramid.Mixture, *rest: Any) -> Any:
        asked.append([a.T.tolist() for a in mixture])
        return tables(telling, mixture, *rest)

    monkeypatch.setattr(nested, "network", network)
    monkeypatch.setattr(pyramid.Telling, "tables", tabled)
    one = pyramid.Decoder(data, *opened("photo"))
    payloads = pyramid.chunks(data, one.head)
    for s, step in enumerate(vectors["steps"]):
        assert one.ground.tolist() == step["ground"]
        for name in ("low", "high", "value"):
            assert [getattr(level, name).tolist() for level in one.levels] == step[name]
        for level, mean in zip(one.levels, step["mean"], strict=True):
            equal(
                [a.tolist() for a in level.apart(level.mean())],
                [a.tolist() for a in level.apart(np.array(mean))],
                f"step {s + 1}, mean",
            )
        assert one.preview().tolist() == step["preview"]
        assert one.step(s, payloads[16 + s])
        assert networks == [run for part in step["parts"] for run in part["networks"]]
        parts = [part for part in step["parts"] if "location" in part]
        equal(
            [a for a in asked if a[0]],
            [[part[k] for k in ("location", "level", "weight")] for part in parts if part["asked"]],
            f"step {s + 1}",
        )
        networks.clear()
        asked.clear()
    assert one.exact().tolist() == vectors["pixels"]


def told(low: NDArray[Any], high: NDArray[Any], part: dict[str, Any], widths: list[int]) -> None:
    """The boxes after a part's symbols, in place."""
    for at, o, symbol in zip(part["asked"], part["offset"], part["symbols"]):
        place = np.unravel_index(at, low.shape)
        w = widths[int(place[0])]
        k = (int(low[place]) - o) // w + symbol
        low[place], high[place] = max(int(low[place]), o + k * w), min(int(high[place]), o + (k + 1) * w - 1)


@every_model
def test_the_documents_decoder_reads_the_file_whole_and_cut(model: str) -> None:
    vectors, decode = VECTORS[model], {"photo": pyramid.decode, "nano": nested.decode, "uqdm-light": uqdm.decode}[model]
    data = bytes.fromhex(vectors["file"])
    assert decode(data, *opened(model)).tolist() == vectors["pixels"]
    for cut in vectors["cut"]:
        assert decode(data[: cut["bytes"]], *opened(model)).tolist() == cut["pixels"]
    bounds = [cut["bound"] for cut in vectors["cut"]]
    assert all(a >= b for a, b in pairwise(bounds))
