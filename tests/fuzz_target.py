"""A target for atheris (coverage-guided fuzzing): bytes in, and nothing but a picture or one of our
errors may come out.

    pip install atheris
    PYTHONPATH=src:tests python tests/fuzz_target.py CORPUS/ [-max_total_time=60] [other options of libFuzzer]

The first byte of an input chooses the way: bit 0, the checksums are made to fit first (without it
no search gets past them); bit 1, salvage; bit 2, progressive; bit 3, the entropy's check is made to
fit too; the rest is the file. A corpus folder that is empty is filled with real files. The network
is a toy in integers: what a network learned makes no difference to a parser, and it is quick.
"""

import contextlib
import io
import sys
import warnings
from pathlib import Path

MAX_PIXELS = 1 << 12
SEAL, SALVAGE, PROGRESSIVE, AGREE = 1, 2, 4, 8


def main() -> None:
    """Runs until something else comes out, or as long as libFuzzer's options say."""
    try:
        import atheris
    except ImportError:
        sys.exit(
            "atheris is not installed (it needs Linux or macOS, and a Python that it has wheels for): pip install"
            " atheris"
        )
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "benchmarks")]
    with atheris.instrument_imports(include=["uqdm"]):
        import fuzz
        import mutants
        from toys import Integers, ToyCodec

        from uqdm import format
        from uqdm.errors import UqdmError
    codec = ToyCodec(Integers(), "ycocg-r", max_pixels=MAX_PIXELS, coder="plain")
    real = fuzz.seeds(codec)
    for folder in (Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")):
        if folder.is_file():  # a single input, to be tried again
            continue
        folder.mkdir(parents=True, exist_ok=True)
        if not any(folder.iterdir()):
            for i, one in enumerate(real):
                for way in (0, SEAL, SEAL | AGREE, SEAL | SALVAGE, SEAL | PROGRESSIVE):
                    (folder / f"{i}-{way}").write_bytes(bytes([way]) + one.data)

    def test_one_input(data: bytes) -> None:
        way, file = (data[0], data[1:]) if data else (0, data)
        if way & SEAL:
            file = mutants.seal(file)
        if way & AGREE:
            file = fuzz.agreed(file, codec)
        with contextlib.suppress(UqdmError):
            format.inspect(file).to_json()
        with contextlib.suppress(UqdmError):
            if way & PROGRESSIVE:
                for _ in codec.progressive(io.BytesIO(file)):
                    pass
            else:
                codec.decode(file, salvage=bool(way & SALVAGE))

    warnings.simplefilter("error")
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
