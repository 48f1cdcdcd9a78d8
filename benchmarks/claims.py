"""The measured claims of section 5 and appendix C, on our codec: coding time, network calls, files
against the negative ELBO, arithmetic.

- With a fixed reverse variance the paper's coder takes less than a second for a CIFAR picture, with
  a learned one 5 minutes, since a table is built for every coordinate (C.2). Here both are timed,
  side by side, on the CIFAR-10 network with fresh weights.
- A lossy picture after step k costs k + 1 calls of the network (C.3): counted.
- A file is within 3 % of the negative ELBO (3.3, C.2): files of `--checkpoint` in mode `paper`
  against its own eq. 1.
- Multiply-adds a pixel of every preset (C.3).

   python benchmarks/claims.py --checkpoint uqdm-tiny --data imagenet64-dev.zip --cifar
   cifar10_test.zip
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from uqdm.codec import Codec
from uqdm.config import override
from uqdm.data.sources import load_pack
from uqdm.families.uqdm.torch.export import package_of
from uqdm.families.uqdm.torch.unet import new_network
from uqdm.published import load_checkpoint
from uqdm.training import runs
from uqdm.training.presets import PRESETS, preset


class Counted:
    """A denoiser that counts the pictures it is asked about."""

    def __init__(self, inner) -> None:
        self.inner, self.calls = inner, 0

    def __getattr__(self, name: str):
        return getattr(self.inner, name)

    def __call__(self, *words, **more):
        self.calls += 1
        return self.inner(*words, **more)


def timed(function) -> tuple[float, object]:
    begin = time.perf_counter()
    found = function()
    return time.perf_counter() - begin, found


def fresh(learned: bool) -> Codec:
    """The CIFAR-10 network, every weight by chance, so that scales differ from coordinate to
    coordinate where they are learned.
    """
    torch.manual_seed(0)
    model = runs.new_model(
        override(preset("cifar10"), {"learned_prior_scale": learned, "base_prior_scale": "default"})
    ).eval()
    with torch.no_grad():
        for weight in model.network.conv_out[2].parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    return Codec(package_of(model, "cifar10", "fresh"), precision="float32")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder of a published checkpoint, or of a run")
    parser.add_argument(
        "--data", type=Path, required=True, help="pack of pictures for files against the negative ELBO; every 25th"
    )
    parser.add_argument("--cifar", type=Path, required=True, help="pack of 32 x 32 pictures for the coding time")
    parser.add_argument("--repeat", type=int, default=5)
    a = parser.parse_args()

    pictures = list(load_pack(a.cifar)[: a.repeat + 1])
    codecs = {"fixed": fresh(False), "learned": fresh(True)}
    seconds: dict[str, list[list[float]]] = {name: [[], []] for name in codecs}
    for i, picture in enumerate(pictures):
        for name, codec in codecs.items():
            encode, data = timed(lambda codec=codec, picture=picture: codec.compress(picture, mode="paper"))
            decode, back = timed(lambda codec=codec, data=data: codec.decompress(data))
            assert np.array_equal(back, picture)
            if i:  # the first of each compiles and loads
                seconds[name][0].append(encode)
                seconds[name][1].append(decode)
    for name, (encode, decode) in seconds.items():
        each = f"{statistics.median(encode):.3f} s to encode, {statistics.median(decode):.3f} s to decode"
        conditions = f"median of {len(encode)}, {torch.get_num_threads()} threads"
        print(f"{name} reverse variance, CIFAR-10 network, one 32 x 32 picture: {each} ({conditions})")
    ratio = statistics.median(b / f for f, b in zip(seconds["fixed"][0], seconds["learned"][0]))
    print(f"learned over fixed, encoding: {ratio:.2f}")

    model = load_checkpoint(a.checkpoint)
    chosen = load_pack(a.data)[::25]
    family = model.codec.family("tight")
    counted = Counted(family.denoiser)
    family.denoiser = counted
    data = model.codec.compress(chosen[0])
    counts = []
    for k in range(model.config.model.n_timesteps + 1):
        counted.calls = 0
        model.codec.decompress(data, step=k)
        counts.append(counted.calls)
    family.denoiser = counted.inner
    print(f"network calls to decode after 0, 1, ... steps: {counts}; the last is lossless")

    x = torch.from_numpy(chosen.transpose(0, 3, 1, 2).copy())
    report = model.evaluate(torch.split(x, 4), modes=("paper",), reconstructions=())
    found, nelbo = report.coded["paper"], report.model.bits[-1]
    print(
        f"{len(chosen)} pictures, mode paper: payload {found.payload:.3f}, whole files {found.files:.3f}, estimate of"
        f" the same dithers {found.estimate:.3f}, eq. 1 with other draws {nelbo:.3f} bits/pixel: files over eq. 1"
        f" {found.files / nelbo - 1:+.2%}"
    )

    for name, config in PRESETS.items():
        with torch.device("meta"):
            network = new_network(config.model)
        size = 1 if config.model.network == "points" else 32 if "cifar" in name or "half" in name else 64
        convolutions, attention = network.multiply_adds(size, size)
        calls = config.model.n_timesteps
        print(
            f"{name}: {convolutions:,} + {attention:,} multiply-adds a pixel and call at {size} x {size}; T = {calls}"
        )


if __name__ == "__main__":
    main()
