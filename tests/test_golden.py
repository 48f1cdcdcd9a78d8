"""The bits inside a step, held still: generator, tables, coder and check over a model without a network.

These hashes change only with the format (docs/format.md), and then on purpose.
"""

import hashlib

import numpy as np
import pytest
from conftest import toy_constants

from uqdm import codec
from uqdm.families.uqdm import Paper, Tight

PINNED = {
    ("Tight", "rgb", False): "1e6d4454136818bd",
    ("Tight", "rgb", True): "5bacf654e309063b",
    ("Tight", "ycocg-r", False): "7abe78d0f4fb3e4a",
    ("Tight", "ycocg-r", True): "f8cde02e9a6d11fe",
    ("Paper", "rgb", False): "b0986138aea09737",
    ("Paper", "rgb", True): "dc076ad93f3d4033",
    ("Paper", "ycocg-r", False): "18957afeb26f0cbe",
    ("Paper", "ycocg-r", True): "e9843712f1a08419",
}


def integers_only(step, z, low, high):  # type: ignore[no-untyped-def]
    """Locations and scales that are the same floats everywhere: halves, and whole octaves by integer comparison."""
    width = high.astype(np.int64) - low + 1
    octave = (width[..., None] >= 2 ** np.arange(2, 9)).sum(-1) - 1
    return (low + high) / 2, octave.astype(np.float64)


def chunks(family: type[Tight] | type[Paper], space: str, grey: bool) -> bytes:
    y, x = np.mgrid[:19, :23]
    rgb = np.stack([(x * y + 40 * x) % 256, (x * x + y) // 3 % 256, 9 * (x + y) % 256]).astype(np.uint8)[None]
    rgb = np.repeat(rgb[:, 1:2], 3, 1) if grey else rgb
    model = family(toy_constants(space), integers_only)
    writer = codec._Writer(model.values(rgb))
    return b"".join(writer.take()[0] for _ in codec.walk(model, model.start((19, 23), (7,), grey), writer))


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("space", ["rgb", "ycocg-r"])
@pytest.mark.parametrize("family", [Tight, Paper])
def test_the_bits_inside_a_step_stay_still(family: type[Tight] | type[Paper], space: str, grey: bool) -> None:
    found = hashlib.sha256(chunks(family, space, grey)).hexdigest()[:16]
    assert found == PINNED[family.__name__, space, grey]
