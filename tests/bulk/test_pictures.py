"""Many pictures in memory: bytes in, bytes out, each as if it were alone, and bad ones as errors."""

import io
from pathlib import Path

import numpy as np
import pytest
from conftest import photograph
from PIL import Image

import uqdm
from uqdm import format
from uqdm.bulk import Decoder, Encoder, Evaluator
from uqdm.codec import Codec


@pytest.fixture(scope="module")
def codec(toy: Path) -> Codec:
    return uqdm.load(toy / "photo", threads=1)


def png(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return out.getvalue()


ARRAYS = {f"p{i}": photograph(20, 20 + i % 3, i) for i in range(8)} | {"large": photograph(400, 400)}


def test_files_are_those_of_the_codec_and_come_back(codec: Codec) -> None:
    given = [(name, png(array)) for name, array in ARRAYS.items()]
    made = {one.path: one for one in Encoder(codec)([given[0], ("bad", b"no picture"), ("empty", b""), *given[1:]])}
    assert set(made) == {*ARRAYS, "bad", "empty"}
    for name in ("bad", "empty"):
        one = made.pop(name)
        assert (one.data, one.bytes, one.width, one.height, one.bpp) == (None, 0, 0, 0, 0.0)
        assert "picture" in one.error
    for name, one in made.items():
        array = ARRAYS[name]
        assert one.data == codec.compress(array)
        assert (one.height, one.width, one.bytes, one.error) == (*array.shape[:2], len(one.data), "")
        assert one.bpp == 8 * len(one.data) / array[..., 0].size
    files = {name: one.data for name, one in made.items() if one.data is not None}
    back = {one.path: one for one in Decoder(codec)([*files.items(), ("bad", b"UQDM")])}
    assert back.pop("bad").error
    for name, one in back.items():
        assert one.data is not None
        assert (np.asarray(Image.open(io.BytesIO(one.data))) == ARRAYS[name]).all()
        assert one.bytes == len(files[name])


def test_goals_and_cuts_are_kept_and_a_reduced_preview_tells_the_whole_size(codec: Codec) -> None:
    given = [(name, png(array)) for name, array in ARRAYS.items()]
    made = list(Encoder(codec, bpp=6.0)(given))
    assert all(0 < one.bpp <= 6 for one in made)
    whole = [(name, codec.compress(array)) for name, array in ARRAYS.items()]
    for one in Decoder(codec, step=1, suffix=".jpg")(whole):
        assert one.data is not None
        assert Image.open(io.BytesIO(one.data)).format == "JPEG"
        assert (one.height, one.width) == ARRAYS[one.path].shape[:2]
    assert all("JPEG" in one.error for one in Decoder(codec, suffix=".jpg")(whole))  # it would change values
    for goal in ({"bpp": 6}, {"target_size": 400}, {"max_error": 40}):
        for one in Decoder(codec, **goal)(whole):
            assert one.data is not None, one.error
            assert (
                np.asarray(Image.open(io.BytesIO(one.data))) == codec.decompress(dict(whole)[one.path], **goal)
            ).all()
    assert all("the file has no index" in one.error for one in Decoder(codec, psnr=30)(whole))


def test_figures_are_those_of_the_files(codec: Codec) -> None:
    grey, clear = photograph(24, 24)[..., 0], np.dstack([photograph(24, 24), photograph(24, 24)[..., 0]])
    arrays = {"grey": grey, "alpha": clear, "large": ARRAYS["large"]}
    given = [("bad", b"no picture"), *((name, png(array)) for name, array in arrays.items())]
    rates = (0.01, 3.0, 1000.0)
    found = {one.path: one for one in Evaluator(codec, rates)(given)}
    assert (found["bad"].psnr, found.pop("bad").error != "") == ((), True)
    for name, one in found.items():
        data, array = codec.compress(arrays[name]), arrays[name]
        assert (one.bytes, one.height, one.width, one.error, one.data) == (len(data), *array.shape[:2], "", None)
        shown = codec.decompress(data[: format.bytes_at(3.0, array.shape[0] * array.shape[1])])
        error = (shown[..., :3] if name != "grey" else shown).astype(float) - (
            array[..., :3] if name != "grey" else array
        )
        none, middle, all = one.psnr
        assert middle == pytest.approx(10 * np.log10(255**2 / np.mean(error**2)))
        assert all == np.inf
        assert (none is None) == (name != "large")  # the header alone is longer


def test_what_comes_before_a_damage_is_decoded_on_request_and_is_an_error_all_the_same(codec: Codec) -> None:
    data = bytearray(codec.compress(ARRAYS["p0"]))
    data[-3] ^= 1
    (one,) = Decoder(codec)([("a", bytes(data))])
    assert (one.data, one.error != "") == (None, True)
    (one,) = Decoder(codec, salvage=True)([("a", bytes(data))])
    assert one.data is not None
    assert one.error


def test_wrong_options_are_refused_before_there_is_a_picture(codec: Codec) -> None:
    with pytest.raises(ValueError, match="cannot be used together"):
        Encoder(codec, bpp=1, step=2)
    with pytest.raises(ValueError, match="mode"):
        Encoder(codec, mode="loose")
    with pytest.raises(ValueError, match="rate"):
        Evaluator(codec, [0.0])
    with pytest.raises(ValueError, match="twice"):
        Evaluator(codec, [1, 1.0])
    with pytest.raises(ValueError, match="cannot be used together"):
        Decoder(codec, bpp=1, step=2)
    with pytest.raises(ValueError, match="method"):
        Decoder(codec, method="guess")
    with pytest.raises(uqdm.OutputError):
        Decoder(codec, suffix=".doc")
