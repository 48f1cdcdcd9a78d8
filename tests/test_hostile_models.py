"""A model folder is refused, or it keeps its promises: whatever it says, its networks stay below
their bound, and memory is bounded.

The full run is `benchmarks/fuzz_models.py` (thousands of mutants); here is a slice of it, a look at
whether its judge sees what is wrong, and what was found.
"""

import dataclasses
import importlib
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uqdm import bundle as package
from uqdm import library
from uqdm.bundle import Package
from uqdm.codec import Codec
from uqdm.errors import PackageError
from uqdm.exact import features, parsing
from uqdm.families.nested import networks as nested
from uqdm.families.uqdm import networks as uqdm

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
fuzz = importlib.import_module("fuzz_models")

GOLDEN = Path(__file__).parent / "golden"
EXACT, NESTED = (GOLDEN / name for name in ("by-chance", "nested-by-chance"))


def model(folder: Path) -> Package:
    return package.read(folder)


def changed(one: Package, **arrays: Any) -> Package:
    """With other arrays, by name; dots are written as two underscores."""
    own = {name[1:].replace("__", "."): np.asarray(a) for name, a in arrays.items()}
    assert own.keys() <= one.weights.keys()
    return dataclasses.replace(one, weights=dict(one.weights) | own)


# --- a slice of the command


def test_some_dozen_mutants_are_refused_or_keep_their_promises() -> None:
    found = list(fuzz.verdicts(range(40), 0, 60.0, 1024.0))
    assert not [one for one in found if one.outcome in fuzz.FORBIDDEN]
    counts = Counter(one.outcome for one in found)
    assert counts["refused"] > 15
    assert counts["kept"] > 5


def test_the_judge_sees_what_the_ranges_keep_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A negative `wide` made `check` say 2**0 where the sum is 2**32.6."""
    one = model(EXACT)
    wide = -one.weights["1.wide"].astype(np.int16) * 900
    weight = one.weights["1.enter.weight"].astype(np.int32)
    hostile = changed(one, _1__wide=wide, _1__enter__weight=weight)
    with pytest.raises(PackageError, match=r"step 2: wide holds .* expected 1 to 511"):
        uqdm.parse("m", hostile.network, hostile.weights)
    monkeypatch.setattr(features, "ranged", lambda *given: None)
    with pytest.raises((fuzz.Bound, fuzz.Wrong)):
        fuzz.promises(hostile, "rgb", 0)


def test_a_sum_beyond_what_is_claimed_is_seen() -> None:
    step = uqdm.parse("m", (one := model(EXACT)).network, one.weights)[1]
    low, high = next(fuzz.boxes(np.random.default_rng(0), 3))
    assert step.net is not None
    seen = step.features(low.astype(np.int16), high.astype(np.int16))
    claimed = round(2 ** step.check("m"))
    fuzz.hold(step.net, claimed, seen, step.limits())
    with pytest.raises(fuzz.Bound, match="was claimed"):
        fuzz.hold(step.net, 1000, seen, step.limits())
    with pytest.raises(fuzz.Bound, match="beyond its limit"):
        fuzz.hold(step.net, claimed, seen, step.limits() // 2)


# --- what was found


@pytest.mark.parametrize("folder", [EXACT, NESTED])
@pytest.mark.parametrize(
    ("field", "values", "message"),
    [
        ("wide", [-5, 7, 7], "expected 1 to 511"),
        ("wide", [7, 7, 1 << 40], "expected 1 to 511"),
        ("detail", [-1], "expected 0 to 23"),
        ("detail", [24], "expected 0 to 23"),
        ("width", [0, 1, 1], "expected 1 to"),
        ("width", [1, 1, 1 << 62], "expected 1 to"),
        ("middle", [-(1 << 63), 0, 0], "expected 0 to 255"),
        ("middle", [100, 0, 0], "middle is"),
        ("middle", [255, 0], "shape"),
    ],
)
def test_a_constant_out_of_its_range_is_refused_by_both_parsers(
    folder: Path, field: str, values: list[int], message: str
) -> None:
    one = model(folder)
    hostile = changed(one, **{f"_1__{field}": np.array(values, np.int64)})
    parse = uqdm.parse if folder == EXACT else nested.parse
    with pytest.raises(PackageError, match=message):
        parse("m", hostile.network, hostile.weights)


@pytest.mark.parametrize(
    ("folder", "part"),
    [(EXACT, "1.enter"), (EXACT, "1.body.0.first"), (NESTED, "1.trunk.enter"), (NESTED, "1.pass2.head")],
)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("weight", 1 << 62),
        ("weight", -(1 << 63)),
        ("bias", -(1 << 63)),
        ("bias", 1 << 40),
        ("shift", 24),
        ("shift", -1),
    ],
)
def test_no_number_makes_the_bound_itself_overflow(folder: Path, part: str, field: str, value: int) -> None:
    one = model(folder)
    name = f"{part}.{field}"
    array = one.weights[name].astype(np.int64)
    array.reshape(-1)[0] = value
    parse = uqdm.parse if folder == EXACT else nested.parse
    with pytest.raises(PackageError):
        parse("m", one.network, dict(one.weights) | {name: array})


def test_chroma_cannot_pass_for_luma() -> None:
    """The limit of a centre is smaller for values of 0 .. 255; the model's own word for it was
    taken.
    """
    one = model(EXACT)
    assert one.constants["space"] == "rgb"
    middles: Any = {f"_{i}__middle": np.array([255, 255, 255], np.int16) for i in range(len(one.network["steps"]))}
    Codec(changed(one, **middles), backend="numpy")
    lying = dataclasses.replace(changed(one, **middles), constants=dict(one.constants) | {"space": "ycocg-r"})
    with pytest.raises(PackageError, match="expected 0 where ycocg-r goes below 0"):
        Codec(lying, backend="numpy")


def test_a_network_that_joins_where_nothing_is_to_join_is_refused() -> None:
    one = model(EXACT)
    more = {f"1.join.{field}": one.weights[f"1.body.0.second.{field}"] for field in parsing.CONVOLUTION}
    with pytest.raises(PackageError, match="joins another network's activations"):
        uqdm.parse("m", one.network, dict(one.weights) | more)
    one = model(NESTED)
    more = {f"1.trunk.join.{field}": one.weights[f"1.pass0.join.{field}"] for field in parsing.CONVOLUTION}
    with pytest.raises(PackageError, match="trunk has a head or joins"):
        nested.parse("m", one.network, dict(one.weights) | more)


def test_what_a_model_says_is_used_or_refused() -> None:
    one = model(EXACT)
    with pytest.raises(PackageError, match="belong to no step"):
        uqdm.parse("m", one.network, dict(one.weights) | {"extra": np.zeros(1, np.int8)})
    with pytest.raises(PackageError, match="unknown key 'leaky'"):
        uqdm.parse("m", dict(one.network) | {"leaky": True}, one.weights)
    steps = [dict(step) for step in one.network["steps"]]
    for key, value in (
        ("blocks", 0),
        ("blocks", -1),
        ("blocks", True),
        ("blocks", 10**12),
        ("channels", 5),
        ("channels", "4"),
        ("more", 1),
    ):
        with pytest.raises(PackageError):
            uqdm.parse("m", {"kind": "exact", "steps": [steps[0], steps[1] | {key: value}, *steps[2:]]}, one.weights)
    with pytest.raises(PackageError, match="networks for 2"):
        Codec(dataclasses.replace(one, network=dict(one.network) | {"steps": steps[:2]}, weights={
            name: a for name, a in one.weights.items() if not name.startswith("2.")
        }), backend="numpy")  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("alpha", "falls"), ("sigma", "rises"), ("pixel_spread", ["0x1p+20"] * 3), ("widths", [[1e9] * 3] * 3),
        ("widths", 3),
        ("prior", [1 << 70] * 4096),
        ("prior", [0.5] * 4096), ("priority", [True, 0, 0]), ("space", ["rgb"]), ("b", ["nan"] * 3),
        ("c", ["0x1p+1000"] * 3), ("scale", [[["x"]]]),
    ],
)  # fmt: skip
def test_constants_that_no_schedule_has_are_refused(key: str, value: Any) -> None:
    one = model(EXACT)
    value = one.constants[key][::-1] if isinstance(value, str) else value
    with pytest.raises(PackageError):
        Codec(dataclasses.replace(one, constants=dict(one.constants) | {key: value}), backend="numpy")


def test_a_family_and_the_network_of_another_do_not_belong_together() -> None:
    for one, family in ((model(EXACT), "nested"), (model(NESTED), "uqdm")):
        with pytest.raises(PackageError, match="do not belong together"):
            Codec(dataclasses.replace(one, family=family), backend="numpy")


def test_a_description_that_names_a_huge_network_takes_no_memory() -> None:
    pytest.importorskip("torch")
    for one in fuzz.originals()[2:]:
        if one.network["kind"] == "unet":
            network = dict(one.network) | {
                "config": dict(one.network["config"]) | {"embedding_dim": 4096, "n_blocks": 1}
            }
        else:
            steps = [dict(step) | {"channels": 1024, "blocks": 64} for step in one.network["steps"]]
            network = dict(one.network) | {"steps": steps}
        before = fuzz.resident(reset=True)
        with pytest.raises(PackageError, match=r"missing|has the shape"):
            Codec(dataclasses.replace(one, network=network))
        assert fuzz.resident() - before < 200 << 20


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_a_file_that_is_none_or_too_large_is_refused_at_once(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy(to: str) -> Path:
        folder = tmp_path / to
        package.write(dataclasses.replace(model(EXACT), name=to), folder)
        (folder / name).unlink()
        return folder

    os.mkfifo(copy("pipe") / name)
    os.truncate(os.open(copy("sparse") / name, os.O_CREAT | os.O_WRONLY), 1 << 40)
    (copy("folder") / name).mkdir()
    (copy("device") / name).symlink_to("/dev/zero")
    for kind, message in (
        ("pipe", "not a file"),
        ("sparse", "expected at most"),
        ("folder", "cannot be read|not a file"),
        ("device", "not a file"),
    ):
        with pytest.raises(PackageError, match=message):
            package.read(tmp_path / kind)
    monkeypatch.setenv("UQDM_MODELS", str(tmp_path))
    assert not {one.name for one in library.available()} & {"pipe", "sparse", "folder", "device"}


@pytest.mark.parametrize(
    "change",
    [
        {"name": "\ud800"},
        {"format": True},
        {"network": []},
        {"fingerprint": "\ud800"},
        {"about": {"x": "nan"}, "constants": {"b": float("nan")}},
    ],
)
def test_what_json_can_say_and_no_model_does_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = package.write(dataclasses.replace(model(EXACT), name="m"), tmp_path / "m") / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(PackageError) as error:
        package.read(tmp_path / "m")
    str(error.value).encode()


def test_a_description_is_read_as_utf_8_wherever_it_is_read(tmp_path: Path) -> None:
    path = (
        package.write(
            dataclasses.replace(model(EXACT), name="é", about={"description": "a\x1b[31mé\n"}), tmp_path / "é"
        )
        / "model.json"
    )
    path.write_bytes(json.dumps(json.loads(path.read_text()), ensure_ascii=False).encode())
    assert package.read(tmp_path / "é").name == "é"
