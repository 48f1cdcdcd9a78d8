"""Divides packs of pictures into those to train on and clean photographs that no training sees.

    python benchmarks/hold_out.py pool256_a.zip pool256_b.zip
        --from pool128_a.zip pool128_b.zip pool64_a.zip pool64_b.zip --out DIR

A tenth of the first packs' photographs from the sources cid22, gb82 and clic2025 is held out: those
whose file name has a CRC-32 that ten divides. A photograph of that name is left out of all packs.
DIR then holds one pack for each given one, with the pictures to train on, and `held.zip`, the
pictures held out.
"""

import argparse
import hashlib
import io
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from uqdm.data.sources import load_pack

CLEAN = ("cid22", "gb82", "clic2025")
STRIP = 16  # pictures of a strip


def meta_of(path: Path) -> dict[str, Any]:
    """What a pack says of itself."""
    with zipfile.ZipFile(path) as pack:
        meta: dict[str, Any] = json.loads(pack.read("meta.json"))
    return meta


def plain(name: str) -> str:
    """A file's name without its folder and suffix."""
    return Path(name).stem.lower()


def held_names(meta: dict[str, Any]) -> set[str]:
    """Of the photographs of a pack that are held out."""
    clean = {i for i, source in enumerate(meta["sources"]) if str(source.get("name", "")).startswith(CLEAN)}
    names = [plain(name) for name, source in zip(meta["names"], meta["source"]) if source in clean]
    return {name for name in names if zlib.crc32(name.encode()) % 10 == 0}


def write(path: Path, pictures: NDArray[np.uint8], meta: dict[str, Any], chosen: NDArray[np.int64]) -> None:
    """A pack of the chosen pictures."""
    pictures = pictures[chosen]
    n, h, w = pictures.shape[:3]
    found = {k: [v[i] for i in chosen] if isinstance(v, list) and k != "sources" else v for k, v in meta.items()}
    found |= {"n": n, "h": h, "w": w, "sha256_of_uint8_NHWC": hashlib.sha256(pictures.tobytes()).hexdigest()}
    beside = path.with_suffix(".tmp")
    with zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED) as pack:
        pack.writestr("meta.json", json.dumps(found))
        for k, begin in enumerate(range(0, n, STRIP)):
            file = io.BytesIO()
            Image.fromarray(pictures[begin : begin + STRIP].reshape(-1, w, 3)).save(
                file, "webp", lossless=True, quality=0
            )
            pack.writestr(f"{k:04d}.webp", file.getvalue())
    beside.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packs", nargs="+", type=Path)
    parser.add_argument("--from", nargs="*", type=Path, default=[], dest="others", help="packs that only lose pictures")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    held = set().union(*(held_names(meta_of(path)) for path in args.packs))
    kept: list[NDArray[np.uint8]] = []
    names: list[str] = []
    for path in (*args.packs, *args.others):
        meta, pictures = meta_of(path), load_pack(path)
        out = np.array([plain(name) in held for name in meta["names"]])
        write(args.out / path.name, pictures, meta, np.flatnonzero(~out))
        print(f"{path.name}: {len(out) - out.sum()} to train on, {out.sum()} left out")
        if path in args.packs:
            kept.append(pictures[out])
            names += [name for name, one in zip(meta["names"], out) if one]
    both = np.concatenate(kept)
    write(args.out / "held.zip", both, {"what": "photographs held out", "names": names}, np.arange(len(both)))
    print(f"held.zip: {len(both)} pictures of {len(held)} names")


if __name__ == "__main__":
    main()
