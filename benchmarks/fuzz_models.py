"""Hostile models: mutated model folders, each opened, checked against its own promises and used on
small pictures. One command, so one file.

    python benchmarks/fuzz_models.py [--count 5000] [--seed 0] [--only INDEX] [--seconds-limit 20]
        [--memory-limit-mib 512] [--processes 1]

Mutant i follows from the seed and i alone. It begins with a small model of one of both families, in
integers or in floats, and changes what model.json says (signs, huge numbers, zero, other types,
missing, too much, NaN, depth), the arrays (values, shapes, types, names), or bytes of the files.
The fingerprint is made to fit, but where bytes are changed.

A mutant must be refused with a `UqdmError` when it is opened, or keep every promise:

1. Features never exceed `limits`, whatever the boxes: random, extreme, empty.
2. No sum of magnitudes inside its networks exceeds the bound that `check` claims, which is below
   2**24. It is counted in Python's integers.
3. In float32 its networks give the integers that Python's integers give, in every runtime that is
   asked.
4. Pictures come back, previews of every kind can be made, or there is a `UqdmError`.

Anything else is a failure: BOUND, WRONG, CRASH (warnings of NumPy included), SLOW (seconds of a
processor), MEMORY.
"""

import argparse
import collections
import contextlib
import copy
import functools
import importlib.util
import json
import multiprocessing
import random
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fuzz import TimeUp, Wrong, drawn, resident

from uqdm import bundle as package
from uqdm import library
from uqdm.bundle import Package, hexadecimal
from uqdm.codec import Codec
from uqdm.entropy import mixtures
from uqdm.errors import UqdmError
from uqdm.exact import network as exact
from uqdm.exact import parsing
from uqdm.exact.features import FARTHEST, LEVELS
from uqdm.exact.network import EXACT, LIMIT, Convolution, Net
from uqdm.families.nested import networks as nested
from uqdm.families.uqdm import networks as uqdm
from uqdm.families.uqdm.constants import diffusion_constants

GOLDEN = Path(__file__).parent.parent / "tests" / "golden"
FORBIDDEN = ("BOUND", "WRONG", "CRASH", "SLOW", "MEMORY")
Record = dict[str, Any]  # model.json
Arrays = dict[str, Any]
Chance = random.Random


class Bound(Exception):
    """A sum beyond the bound that is claimed, or a feature beyond its limit."""


# --- models that are changed


def originals() -> list[Package]:
    """Small models of every kind that can run here."""
    found = [package.read(GOLDEN / name) for name in ("by-chance", "nested-by-chance")]
    if importlib.util.find_spec("torch"):
        found += [_published()]
    return found


def _constants(space: str) -> Record:
    scale, offset = ([128.0] * 3, [127.5] * 3) if space == "rgb" else ([74.0, 181.0, 148.0], [127.5, 0.0, 0.0])
    return dict(diffusion_constants([6.0, -3.0, -12.0], space, offset, scale))


def _published() -> Package:
    import dataclasses

    import torch

    from uqdm.families.uqdm.config import ModelConfig
    from uqdm.families.uqdm.torch.unet import UNet

    torch.manual_seed(0)
    config = ModelConfig(embedding_dim=8, norm_groups=4, n_timesteps=2)
    network = {"kind": "unet", "config": dataclasses.asdict(config), "tile": 8}
    network |= {"gamma": hexadecimal([6.0, -3.0, -12.0]), "log2_scale": hexadecimal([5.0, 1.0])}
    weights = {k: v.numpy().copy() for k, v in UNet(config).state_dict().items()}
    return Package("unet", "uqdm", network, _constants("rgb"), weights, {})


# --- changes

NUMBERS = (
    -1,
    0,
    1,
    2,
    -2,
    15,
    23,
    24,
    64,
    65,
    255,
    256,
    1023,
    1024,
    4096,
    10**6,
    2**31 - 1,
    2**31,
    -(2**31),
    2**63 - 1,
    2**63,
    -(2**63),
    10**30,
)
VALUES = (
    *NUMBERS, None, True, False, 0.5, 1e308, -1e308, float("nan"), float("inf"), "", "x", "nan", "inf", "-0x1p+0",
    "0x1p+1023", "0x1p-1060",
    "\ud800", [], [[]], {}, [0] * 300, "exact", "nested", "unet", "rgb", "ycocg-r",
)  # fmt: skip


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in nested lists and dicts, as a path."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*path, key)
        yield from _places(value[key], (*path, key))


def described(chance: Chance, record: Record, arrays: Arrays) -> str:
    """One place of model.json has another value."""
    part = chance.choice(("network", "network", "constants", "constants", "about"))
    places = list(_places(record[part])) or [()]
    path = chance.choice(places)
    if not path or chance.random() < 0.03:
        key = chance.choice((part, "format", "name", "family", "fingerprint"))
        record[key] = chance.choice(VALUES)
        return f"{key} = {record[key]!r}"
    holder = functools.reduce(lambda value, key: value[key], path[:-1], record[part])
    old = holder[path[-1]]
    way = chance.randrange(8)
    if way == 0:
        del holder[path[-1]]
        return f"{part}{list(path)} missing"
    if way == 1 and isinstance(holder, dict):
        holder[chance.choice(("extra", "join", "head", "x" * 100))] = chance.choice(VALUES)
        return f"{part}{list(path)}: too much"
    if way == 2:
        for _ in range(chance.choice((3, 100, 800, 5000))):
            old = [old]
        holder[path[-1]] = old
        return f"{part}{list(path)} deep"
    if way == 3 and isinstance(old, int | float):
        holder[path[-1]] = chance.choice((-old, old * 2, old * 1000, old + 1, old - 1, float(old)))
    elif way == 4 and isinstance(holder, list):
        holder.insert(path[-1], copy.deepcopy(old))
    elif way == 5 and isinstance(old, str) and old.lstrip("-").startswith("0x"):
        number = float.fromhex(old)
        holder[path[-1]] = (number * chance.choice((-1.0, 0.0, 1e-30, 0.5, 2.0, 1e6))).hex()
    else:
        holder[path[-1]] = copy.deepcopy(chance.choice(VALUES))
    return f"{part}{list(path)} = {str(holder[path[-1]])[:60]}"


def _edge(chance: Chance, dtype: Any) -> Any:
    if dtype.kind in "iu":
        about = np.iinfo(dtype)
        return chance.choice(
            (about.min, about.max, 0, 1, min(23, about.max), min(1 << 24, about.max), min(1 << 20, about.max))
        )
    return chance.choice((np.nan, np.inf, -1e30, 0, 1e30, 1e-40))


def one_value(chance: Chance, name: str, a: Any) -> Any:
    """One entry at an end of its type."""
    a = a.copy()
    if a.size:
        a.reshape(-1)[chance.randrange(a.size)] = _edge(chance, a.dtype)
    return a


def all_values(chance: Chance, name: str, a: Any) -> Any:
    """All entries: another sign, a multiple, zero, an end."""
    if a.dtype.kind not in "if":
        return a
    wide = a.astype(chance.choice((a.dtype, np.int64 if a.dtype.kind == "i" else np.float64)))
    with np.errstate(all="ignore"):
        ways: tuple[Callable[[], Any], ...] = (
            lambda: -wide,
            lambda: wide * chance.choice((2, 3, 8, 64)),
            lambda: wide // 2,
            lambda: np.zeros_like(wide),
            lambda: np.full_like(wide, _edge(chance, wide.dtype)),
            lambda: wide[::-1].copy(),
            lambda: np.abs(wide),
            lambda: wide * (1 << 40) if wide.dtype == np.int64 else wide,
        )
        return chance.choice(ways)()


def another_type(chance: Chance, name: str, a: Any) -> Any:
    """The same numbers in another type."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return a.astype(
            chance.choice(
                (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint64, np.float16, np.float32, np.float64, bool)
            )
        )


def another_shape(chance: Chance, name: str, a: Any) -> Any:
    """Rows or columns more, fewer, or in another order; an axis more or fewer; nothing at all."""
    if not a.ndim:
        return a[None]
    axis = chance.randrange(a.ndim)
    ways: tuple[Callable[[], Any], ...] = (
        lambda: np.delete(a, 0, axis) if a.shape[axis] else a,
        lambda: np.repeat(a, 2, axis),
        lambda: a[None],
        lambda: a.reshape(-1),
        lambda: a.T.copy(),
        lambda: a[:0],
        lambda: np.broadcast_to(a, (3, *a.shape)).copy(),
        lambda: a[..., :1].copy(),
        lambda: np.pad(a, [(0, 0)] * (a.ndim - 2) + [(1, 1)] * 2) if a.ndim == 4 else a,
    )
    return chance.choice(ways)()


def arrayed(chance: Chance, record: Record, arrays: Arrays) -> str:
    """One array is another, has another name, is missing, or is there too often."""
    name = chance.choice(sorted(arrays))
    way = chance.randrange(12)
    if way == 0:
        del arrays[name]
        return f"{name} missing"
    if way == 1:
        new = chance.choice((f"{name}.more", "x", "0.join.weight", "1.trunk.join.weight", f"9.{name}"))
        arrays[new] = arrays[name]
        return f"{name} as {new} too"
    if way == 2:
        other = chance.choice(sorted(arrays))
        arrays[name], arrays[other] = arrays[other], arrays[name]
        return f"{name} and {other} changed places"
    if way == 3:  # a part of one network in the place of a part that another has not
        for place in ("join", "head"):
            for field in parsing.CONVOLUTION:
                for at in [k for k in arrays if k.endswith(f"head.{field}")]:
                    arrays[at.replace("head", place)] = arrays[at]
        return "heads joined"
    change = chance.choice((one_value, one_value, one_value, all_values, all_values, another_type, another_shape))
    arrays[name] = np.ascontiguousarray(change(chance, name, arrays[name]))
    return f"{name}: {change.__name__}"


def byted(chance: Chance, folder: Path) -> str:
    """Bytes of one of the files."""
    path = folder / chance.choice(("model.json", "weights.safetensors"))
    data = bytearray(path.read_bytes())
    way = chance.randrange(4)
    if way == 0:
        del data[chance.randrange(len(data)) :]
    elif way == 1:
        data[:8] = chance.choice(
            (bytes(8), b"\xff" * 8, (1 << 40).to_bytes(8, "little"), len(data).to_bytes(8, "little"))
        )
    else:
        for _ in range(chance.choice((1, 2, 8))):
            data[chance.randrange(min(len(data), chance.choice((64, 2000, len(data)))))] = chance.randrange(256)
    path.write_bytes(data)
    return f"{path.name}: bytes"


def mutant(index: int, seed: int, models: Sequence[Package], folder: Path) -> str:
    """Writes the mutant of that number as `folder`; says what it is."""
    from safetensors.numpy import save

    chance = random.Random(f"{seed} {index}")
    one = models[chance.choice((0, 0, 0, 1, 1, 1, *range(2, len(models))))]
    record: Record = {
        "format": package.FORMAT, "name": one.name, "family": one.family, "fingerprint": "", "about": dict(one.about),
        "network": copy.deepcopy(dict(one.network)), "constants": copy.deepcopy(dict(one.constants)),
    }  # fmt: skip
    arrays = dict(one.weights)
    kinds = []
    bytes_too = chance.random() < 0.08
    for _ in range(0 if bytes_too else chance.choice((1, 1, 1, 2, 3))):
        try:
            kinds.append(chance.choice((described, arrayed))(chance, record, arrays))
        except RecursionError:  # what is deep already is deep enough
            break
    if record["fingerprint"] == "":
        with contextlib.suppress(Exception):  # what has no fingerprint keeps an empty one
            parts = (record["family"], record["network"], record["constants"], arrays)
            record["fingerprint"] = package.fingerprint_of(*parts)
    folder.mkdir()
    try:
        text = json.dumps(record)
    except RecursionError:
        text = "[" * 100_000
    (folder / "model.json").write_text(text)
    (folder / "weights.safetensors").write_bytes(save(arrays))
    if bytes_too:
        kinds.append(byted(chance, folder))
    return f"{one.name}: {'; '.join(kinds)}"


# --- promises


def boxes(random: np.random.Generator, chroma_from: int) -> Iterator[tuple[Any, Any]]:
    """low, high int16 (n, 3, 6, 6): random, extreme and empty boxes of coordinates that are -255 ..
    255 from channel `chroma_from` on.
    """
    shape = (2, 3, 6, 6)
    least = np.where(np.arange(3) >= chroma_from, -255, 0)[:, None, None]
    a, b = (random.integers(np.broadcast_to(least, shape), 256) for _ in range(2))
    yield np.minimum(a, b), np.maximum(a, b)
    yield a, b  # half of them empty
    narrow = a + random.integers(0, 8, shape)
    yield a, np.minimum(narrow, 255)
    low, high = np.broadcast_to(least, shape), np.full(shape, 255)
    yield low, high
    yield low, low
    yield high, high
    for pattern in (np.indices(shape).sum(0) % 2, np.indices(shape)[2] % 2, random.integers(0, 2, shape)):
        ends = np.where(pattern == 0, low, high)
        yield ends, ends
        yield np.where(pattern == 0, low, high), high
    single = low.copy()
    single[:, :, 3, 3] = 255
    yield single, single


def _sums(x: Any, convolution: Convolution) -> tuple[Any, int]:
    """(weight * x + bias) before its shift, and the largest sum of its products' magnitudes of one
    sign with the bias's. Any integers.
    """
    weight, k = convolution.weight.astype(object), convolution.weight.shape[2]
    reach = int(np.abs(weight).sum((1, 2, 3)).max()) * max(1, int(np.abs(x.astype(object)).max())) + int(
        np.abs(convolution.bias.astype(object)).max()
    )
    kind: Any = np.int64 if reach < 1 << 62 else object
    weight, x, bias = weight.astype(kind), x.astype(kind), convolution.bias.astype(object).astype(kind)[:, None, None]
    padded = np.pad(x, ((0, 0), (0, 0), (k // 2,) * 2, (k // 2,) * 2))
    h, w = x.shape[2:]
    parts = [0, 0]
    for y in range(k):
        for z in range(k):
            taps, tap = padded[:, None, :, y : y + h, z : z + w], weight[None, :, :, y, z, None, None]
            products = taps * tap
            parts[0] = parts[0] + np.maximum(products, 0).sum(2)
            parts[1] = parts[1] + np.minimum(products, 0).sum(2)
    return parts[0] + parts[1] + bias, int((np.maximum(parts[0], -parts[1]) + np.abs(bias)).max())


def _shifted(x: Any, shift: Any) -> Any:
    return x >> shift.astype(np.int64)[:, None, None]


def _limited(x: Any, shift: Any, net: Net, half: bool) -> Any:
    """An activation's limits in integers: of x in 2**-shift."""
    s = shift.astype(np.int64)[:, None, None]
    doubled = 2 * x * (8 if net.leaky else 1)  # in 2**-(s + 1), and an eighth of that where it leaks
    down = s + 1 + (3 if net.leaky else 0)
    if net.leaky:
        doubled = np.where(x < 0, doubled // 8, doubled)
    return np.clip((doubled + (np.int64(1) << (down - 1) if half else 0)) >> down, net.least, LIMIT)


def counted(net: Net, features: Any, context: Any = None) -> tuple[Any, int]:
    """What the network gives in Python's integers, and the largest sum of magnitudes on the way."""
    sums, largest = _sums(features, net.enter)
    h = _shifted(sums, net.enter.shift)
    if net.join is not None:
        sums, most = _sums(context, net.join)
        h, largest = h + _shifted(sums, net.join.shift), max(largest, most)
    for block in net.blocks:
        sums, most = _sums(_limited(h, block.down, net, True), block.first)
        largest = max(largest, most)
        sums, most = _sums(_limited(sums, block.first.shift, net, False), block.second)
        h, largest = h + _shifted(sums, block.second.shift), max(largest, most, int(np.abs(h).max()))
    out = _limited(h, net.down, net, True)
    largest = max(largest, int(np.abs(h).max()))
    if net.head is None:
        return out, largest
    sums, most = _sums(out, net.head)
    return _shifted(sums, net.head.shift), max(largest, most)


def _runners() -> list[Callable[[Net], Any]]:
    """What runs networks in float32 here."""
    found: list[Callable[[Net], Any]] = [lambda net: functools.partial(exact.run, net)]
    with contextlib.suppress(ImportError):
        from uqdm.exact.runtimes import ort

        found.append(ort.Runner)
    return found


def hold(net: Net, claimed: int, features: Any, limits: Any, context: Any = None) -> Any:
    """Raises `Bound` or `Wrong` where a network does not keep its promises on these features; gives
    its outputs.
    """
    if (np.abs(features.astype(np.float64)) > np.asarray(limits, np.float64)[:, None, None]).any():
        raise Bound("a feature is beyond its limit")
    given = [a for a in (features, context) if a is not None]
    expected, largest = counted(net, *(a.astype(np.int64) for a in given))
    if largest > claimed:
        raise Bound(f"a sum of {largest}; {claimed} was claimed")
    for make in _runners():
        found = make(net)(*(np.ascontiguousarray(a, np.float32) for a in given))
        if not np.array_equal(found, expected.astype(np.float64)):
            raise Wrong("in float32 the network gives other integers")
    return expected


def promises(model: Package, space: str, seed: int) -> None:
    """Looks at every network of a model in integers."""
    chance = np.random.default_rng(seed)
    kind = model.network["kind"]
    if kind == "exact":
        for step in uqdm.parse(model.name, model.network, model.weights):
            claimed = round(2 ** step.check(model.name))
            _below(claimed)
            for low, high in boxes(chance, 1 if space == "ycocg-r" else 3):
                low, high = low.astype(np.int16), high.astype(np.int16)
                if step.net is None:
                    _suggested(*step.constant(low.shape))
                    continue
                raw = hold(step.net, claimed, step.features(low, high), step.limits())
                _suggested(*step.suggest(raw.astype(np.float32), low, high))
    if kind == "nested":
        for one in nested.parse(model.name, model.network, model.weights):
            claimed = round(2 ** one.check(model.name))
            _below(claimed)
            for low, high in boxes(chance, 1):
                low, high = low.astype(np.int16), high.astype(np.int16)
                context = None if one.trunk is None else hold(one.trunk, claimed, one.features(low, high), one.limits())
                features, high_passed = one.pass_features(low, high)
                for number, each in enumerate(one.passes):
                    raw = hold(each.net, claimed, features, one.pass_limits(), context)
                    mixture = one.mixture(number, raw.astype(np.float32), low, high, high_passed)
                    _suggested(mixture.location, mixture.level)
                    if (
                        not (mixture.weight.astype(np.int64).sum(-1) == mixtures.TOTAL).all()
                        or mixture.weight.min() < 1
                    ):
                        raise Wrong("weights do not add up")


def _below(claimed: int) -> None:
    if not claimed < EXACT:
        raise Bound(f"{claimed} is claimed, and accepted")


def _suggested(location: Any, level: Any) -> None:
    if np.abs(location.astype(np.int64)).max() > FARTHEST or int(level.max()) >= LEVELS:
        raise Bound("a location or a level beyond its range")


def used(model: Package) -> None:
    """Opens a codec, and looks at files and previews of small pictures."""
    codec = Codec(model, threads=1)
    for mode in codec.modes:
        for pixels in (drawn(6, 5, 3, 1), drawn(4, 4, 1, 2)):
            data = codec.compress(pixels, mode=mode)
            if not np.array_equal(codec.decode(data).picture.pixels, pixels):
                raise Wrong("not lossless")
            with contextlib.suppress(UqdmError):
                cut = data[: len(data) * 2 // 3]
                for method in ("denoise", "flow", "ancestral"):
                    codec.decode(cut, method=method)
                codec.decode(library.truncate(data, step=1), method="flow")


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant."""

    index: int
    kind: str
    outcome: str  # refused, refused in use, kept, or one of FORBIDDEN
    error: str


def judge(index: int, seed: int, models: Sequence[Package], seconds_limit: float, mib_limit: float) -> Verdict:
    """The outcome of the mutant of that number."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        kind = mutant(index, seed, models, folder)
        before, outcome, error = resident(reset=True), "kept", ""
        signal.setitimer(signal.ITIMER_PROF, seconds_limit)
        try:
            outcome, error = _look(folder, index)
        except TimeUp:
            outcome = "SLOW"
        except MemoryError:
            outcome = "MEMORY"
        except Bound as bound:
            outcome, error = "BOUND", str(bound)
        except Wrong as wrong:
            outcome, error = "WRONG", str(wrong)
        except Exception:
            outcome, error = "CRASH", traceback.format_exc()
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        if outcome not in FORBIDDEN and resident() - before > mib_limit * 2**20:
            outcome = "MEMORY"
    return Verdict(index, kind, outcome, error)


def _look(folder: Path, index: int) -> tuple[str, str]:
    try:
        model = package.read(folder)
        codec = Codec(model, threads=1, backend="numpy" if model.network.get("kind") in ("exact", "nested") else None)
        space = model.constants.get("space", "ycocg-r")
        codec.family("tight").guarantees()
    except UqdmError as error:
        return "refused", str(error)
    promises(model, space, index)
    try:
        used(model)
    except UqdmError as error:
        return "refused in use", str(error)
    return "kept", ""


def verdicts(numbers: Sequence[int], seed: int, seconds_limit: float, mib_limit: float) -> Iterator[Verdict]:
    """The mutants of these numbers, judged."""

    def alarm(number: int, frame: Any) -> None:
        raise TimeUp

    before = signal.signal(signal.SIGPROF, alarm)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            models = originals()
            for number in numbers:
                yield judge(number, seed, models, seconds_limit, mib_limit)
    finally:
        signal.signal(signal.SIGPROF, before)


def _share(a: tuple[Sequence[int], int, float, float]) -> list[Verdict]:
    return list(verdicts(*a))


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    parser.add_argument("--seconds-limit", type=float, default=20.0)
    parser.add_argument("--memory-limit-mib", type=float, default=512.0)
    parser.add_argument("--processes", type=int, default=1)
    a = parser.parse_args()
    numbers = range(a.count) if a.only is None else [a.only]
    shares = [(numbers[i : i + 50], a.seed, a.seconds_limit, a.memory_limit_mib) for i in range(0, len(numbers), 50)]
    found: collections.Counter[str] = collections.Counter()
    with multiprocessing.get_context("spawn").Pool(a.processes) as pool:
        for some in pool.imap(_share, shares):
            for one in some:
                found[one.outcome] += 1
                if one.outcome in FORBIDDEN or a.only is not None:
                    print(f"{one.index}  {one.kind}\n    {one.outcome} {one.error}", flush=True)
    print(", ".join(f"{name} {count}" for name, count in sorted(found.items())))
    sys.exit(any(found[name] for name in FORBIDDEN))


if __name__ == "__main__":
    main()
