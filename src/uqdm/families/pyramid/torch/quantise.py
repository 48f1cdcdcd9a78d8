"""A trained pyramid to a model in integers: walks calibration pictures to see what its networks
see, and gives every channel a scale.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uqdm.bundle import Package
from uqdm.entropy.mixtures import WEIGHT_BITS
from uqdm.exact.features import LOCATION_BITS
from uqdm.families.floats import Pictures
from uqdm.families.pyramid import networks
from uqdm.families.pyramid.band import THRESHOLD_BITS
from uqdm.families.pyramid.networks import COUPLING_BITS, LINEAR_BITS, LOUD_BITS, UNIT_BITS, VALUE_BITS, LevelNet
from uqdm.families.pyramid.torch.model import COUPLINGS, FloatLevelNet, Pass, Pyramid, Seen
from uqdm.families.torch.calibrate import QUANTILES, RAW_LEVEL, Layers, Sample, quantised
from uqdm.families.torch.cells import coordinates

Key = tuple[int, int]  # step, and which network: 0 of level 1, 1 of level 2, 2 of the coarser ones
MOST_POSITIONS = 60_000  # of calibration, a network


def package_of(
    model: Pyramid,
    name: str,
    pictures: Pictures,
    measure: Callable[[Package], Sequence[float]],
    say: Callable[[str], None],
) -> tuple[Package, list[float]]:
    """A pyramid in integers, calibrated on `pictures` (H, W, 3); and log2 of each step's largest
    partial sum.

    How much of what a channel reaches has to fit is tried step by step: too much is coarse, too
    little is cut off. `measure` says what each step of a model costs. Raises `PackageError` where
    no scales keep the bound.
    """
    say(f"walking through {len(pictures)} pictures")
    seen = recorded(model, pictures)
    tried: list[dict[Key, LevelNet]] = []
    costs = []
    for quantile in QUANTILES:
        say(f"scales, choice {len(tried) + 1} of {len(QUANTILES)}")
        tried.append({key: quantised_net(model, key, own, quantile) for key, own in seen.items()})
        costs.append(measure(assembled(model, name, tried[-1])))
    best = {key: tried[min(range(len(tried)), key=lambda k: costs[k][key[0]])][key] for key in seen}
    largest = [
        max(one.check(f"{name}, step {step + 1}") for (s, _), one in best.items() if s == step)
        for step in range(model.n_steps)
    ]
    return assembled(model, name, best), largest


def recorded(model: Pyramid, pictures: Sequence[NDArray[np.uint8]]) -> dict[Key, list[Seen]]:
    """What each network sees on the pictures, up to MOST_POSITIONS positions."""
    found: dict[Key, list[Seen]] = defaultdict(list)
    count: dict[Key, int] = defaultdict(int)

    def record(seen: Seen) -> None:
        key = seen.step, min(seen.level, 3) - 1
        if count[key] < MOST_POSITIONS:
            count[key] += seen.image[:, 0].numel()
            found[key].append(seen)

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for picture in pictures:
            x = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None]
            model.walk(coordinates(x), generator, record=record)
    return dict(found)


def assembled(model: Pyramid, name: str, made: dict[Key, LevelNet]) -> Package:
    """Networks in integers as a model."""
    weights: dict[str, NDArray[Any]] = {}
    for (step, kind), one in made.items():
        weights |= networks.named(one, f"{step}.{kind}.")
    steps = [[networks.described(made.get((step, kind))) for kind in range(3)] for step in range(model.n_steps)]
    constants = {"bases": list(model.bases), "threshold": round(model.threshold * (1 << THRESHOLD_BITS))}
    about = {
        "description": f"pyramid of nested cells, T = {model.n_steps}",
        "multiply_adds_per_pixel": model.multiply_adds(),
    }
    return Package(name, "pyramid", {"kind": "pyramid", "steps": steps}, constants, weights, about)


def quantised_net(model: Pyramid, key: Key, seen: Sequence[Seen], quantile: float) -> LevelNet:
    """The networks of one level in one step. `quantile` of what a channel reaches fits."""
    net = model.net(key[0], key[1] + 1)
    assert net is not None
    with torch.no_grad():
        units = torch.full((33,), 2.0**-UNIT_BITS)
        units[:3] = 1 / 128
        units[-9:] = 2.0**-LOUD_BITS
        limits = np.array([networks.LIMITED] * 15 + [networks.WIDEST] * 9 + [networks.LOUDEST] * 9, np.int64)
        samples = [Sample(torch.from_numpy(_features(one))) for one in seen]
        trunk, scale = quantised(Layers(net.enter, net.body, leaky=True), units, limits, samples, None, None, quantile)
        bare = LevelNet(trunk, ())
        passes = tuple(_pass(net, bare, band, seen, scale, quantile) for band in range(len(net.passes)))
    return dataclasses.replace(bare, passes=passes)


def _pass(
    net: FloatLevelNet, bare: LevelNet, band: int, seen: Sequence[Seen], scale: Tensor, quantile: float
) -> networks.PyramidPass:
    one = net.passes[band]
    assert isinstance(one, Pass)
    part = one.mixtures * 3
    each = (
        [2.0**-LOCATION_BITS] * part
        + [RAW_LEVEL] * part
        + [2.0**-WEIGHT_BITS] * part
        + [2.0**-COUPLING_BITS] * COUPLINGS
    )
    raw = torch.tensor(each)
    limits = bare.pass_limits(band)
    if band == 0:
        samples = [Sample(s.trunk / scale[:, None, None]) for s in seen]
        made, _ = quantised(
            Layers(one.join, one.body, one.head, leaky=True), scale, limits, samples, raw, None, quantile
        )
    else:
        assert one.enter is not None
        units = torch.cat([torch.full((6 * band,), 2.0**-UNIT_BITS), torch.full((3 * band,), 2.0**-LOUD_BITS)])
        samples = [Sample(torch.from_numpy(_seen(s, band)), s.trunk) for s in seen]
        layers = Layers(one.enter, one.body, one.head, one.join, leaky=True)
        made, _ = quantised(layers, units, limits, samples, raw, scale, quantile)
    return networks.PyramidPass(
        net=made,
        offset=np.rint(one.offset.numpy() * 2.0**LOCATION_BITS).astype(np.int32),
        level=np.rint(one.stretch.numpy() * networks.nat()).astype(np.int32),
        linear=np.rint(one.linear.weight.numpy() * 2.0**LINEAR_BITS).astype(np.int16),
    )


def _values(x: Tensor) -> NDArray[np.int16]:
    found: NDArray[np.int16] = np.rint(x.numpy() * 2.0**VALUE_BITS).clip(-32768, 32767).astype(np.int16)
    return found


def _louds(x: Tensor) -> NDArray[np.int16]:
    found: NDArray[np.int16] = np.rint(x.numpy() * 2.0**LOUD_BITS).astype(np.int16)
    return found


def _unit(seen: Seen) -> NDArray[np.int64]:
    found: NDArray[np.int64] = seen.unit.numpy().astype(np.int64)
    return found


def _features(seen: Seen) -> NDArray[np.float32]:
    width = (seen.told.high - seen.told.low + 1).numpy().astype(np.int16)
    return networks.features(_values(seen.image), _values(seen.told.value), width, _louds(seen.above), _unit(seen))


def _seen(seen: Seen, band: int) -> NDArray[np.float32]:
    made = 3 * band
    error = seen.error * seen.unit[:, None, None]
    return networks.seen(
        band, _values(seen.value[:, :made]), _values(error[:, :made]), _louds(seen.loud[:, :made]), _unit(seen)
    )
