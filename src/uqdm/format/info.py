"""What a file says of itself, in one record: what `uqdm info` tells. No picture is decoded."""

import json
import math
from dataclasses import asdict, dataclass

from uqdm import sources
from uqdm.format.chunks import CORRECTION, KIND_NAMES, STEP, parse
from uqdm.format.index import Place, read_index
from uqdm.sources import Source


@dataclass(frozen=True)
class Info:
    """What `uqdm info` tells. All sizes in bytes, heads and checks included unless they say
    otherwise; `bpp` is bits per pixel of the file up to and with each whole step, so the last entry
    is that of a whole file. `model`: its name; "" in a compact file, which has none. `extra`: the
    family's sub-header in hexadecimal. `chunks`: steps of a whole file, of which `steps_available`
    are there and whole. `partial_bytes`: bytes of payload of an unfinished step, of which the first
    `verified_bytes` are under a check. `tail_bytes`: what no check covers in a cut file.
    """

    width: int
    height: int
    channels: int
    alpha: bool
    model: str
    fingerprint: str
    arithmetic: str
    extra: str
    seed: int
    version: str
    header_bytes: int
    metadata_bytes: dict[str, int]
    step_bytes: list[int]
    bpp: list[float]
    chunks: int
    steps_available: int
    complete: bool
    partial_bytes: int
    verified_bytes: int
    tail_bytes: int
    total_bytes: int
    corrected_to: int | None  # of a file that ends in a correction: how far its values are off at most
    index: list[Place] | None  # what the file tells of its beginnings, also of those beyond its end

    def to_json(self) -> str:
        """One JSON object with the fields above, by name, in order. An infinite PSNR is null there."""
        found = asdict(self)
        for place in found["index"] or []:
            place["psnr"] = None if math.isinf(place["psnr"]) else place["psnr"]
        return json.dumps(found, indent=2, ensure_ascii=False)


def inspect(data: Source) -> Info:
    """What a file says of itself; allocates nothing by the size that the header claims. Raises what
    `ChunkReader` raises.

    `data`: its bytes, its path, or a binary file object, which is read to its end.
    """
    data = sources.read(data)
    contents = parse(data, max_pixels=None)
    header, partial, steps = contents.header, contents.partial, contents.steps
    return Info(
        width=header.width,
        height=header.height,
        channels=header.channels,
        alpha=header.alpha,
        model=header.model,
        fingerprint=header.fingerprint.hex(),
        arithmetic=header.arithmetic,
        extra=header.extra.hex(),
        seed=header.seed,
        version=header.version,
        header_bytes=contents.header_size,
        metadata_bytes={
            KIND_NAMES[chunk.kind]: chunk.end - chunk.start for chunk in contents.chunks if chunk.kind != STEP
        },
        step_bytes=[chunk.end - chunk.start for chunk in steps],
        bpp=[8 * chunk.end / (header.width * header.height) for chunk in steps],
        chunks=header.chunks,
        steps_available=len(steps),
        complete=len(steps) == header.chunks,
        partial_bytes=len(partial.payload) if partial else 0,
        verified_bytes=partial.verified if partial else 0,
        tail_bytes=contents.tail,
        total_bytes=len(data),
        corrected_to=correction[0] if (correction := contents.payload(CORRECTION)) else None,
        index=read_index(contents),
    )
