"""Pictures to streams and back with the embedded default model: the promises of docs/format.md on real files."""

import dataclasses
import io
from itertools import pairwise

import numpy as np
import pytest
from conftest import photograph

import uqdm
from uqdm import codec, container, errors, images
from uqdm.images import Picture


def rebuilt(data: bytes, **changed: bytes) -> bytes:
    """The file with payloads of steps ("step2" -> bytes) replaced and every check made right again."""
    contents = container.parse(data)
    out = bytearray(data[: contents.header_size])
    for chunk in contents.chunks:
        out += container.write_chunk(chunk.kind, chunk.index, changed.get(f"step{chunk.index}", chunk.payload), out)
    return bytes(out)


@pytest.mark.parametrize("mode", ["tight", "paper"])
@pytest.mark.parametrize("shape", [(64, 64, 3), (1, 1, 3), (1, 9, 3), (33, 18, 3), (20, 24), (20, 24, 4), (20, 24, 2)])
def test_every_size_and_kind_comes_back_bit_for_bit(light: codec.Codec, mode: str, shape: tuple[int, ...]) -> None:
    picture = photograph(shape[0], shape[1])
    channels = shape[2] if len(shape) == 3 else 1
    picture = {1: picture[..., 0], 2: picture[..., :2], 3: picture, 4: np.dstack([picture, picture[..., 0]])}[channels]
    data = light.compress(picture, mode=mode)
    assert (light.decompress(data) == picture).all()


def test_noise_and_flat_pictures_come_back(light: codec.Codec) -> None:
    random = np.random.default_rng(0)
    for picture in (
        random.integers(0, 256, (31, 40, 3)),
        np.zeros((16, 16, 3)),
        np.full((16, 16, 3), 255),
        random.integers(0, 2, (16, 16, 3)) * 255,
    ):
        picture = picture.astype(np.uint8)
        assert (light.decompress(light.compress(picture)) == picture).all()


@pytest.mark.parametrize("seed", [1, 2**64 - 1])
def test_any_seed_comes_back_and_gives_other_bytes(light: codec.Codec, seed: int) -> None:
    picture = photograph(16, 16)
    data = light.compress(picture, seed=seed)
    assert (light.decompress(data) == picture).all()
    assert data != light.compress(picture)


def test_coded_length_is_the_models_estimate_within_0_3_percent_and_4_bytes_per_step(light: codec.Codec) -> None:
    for mode in ("tight", "paper"):
        picture = photograph(64, 64)
        info = uqdm.inspect(light.compress(picture, mode=mode))
        estimate = light.estimate(picture, mode=mode)
        for size, bits in zip(info.step_bytes, estimate, strict=True):
            assert abs(size - 13 - bits / 8) <= 0.003 * bits / 8 + 4


def test_everything_but_the_coded_symbols_takes_at_most_96_bytes(light: codec.Codec) -> None:
    data = light.compress(photograph(64, 64))
    contents = container.parse(data)
    assert len(data) - sum(len(chunk.payload) - 4 for chunk in contents.chunks) <= 96


def test_a_batch_gives_each_picture_its_own_file(light: codec.Codec) -> None:
    pictures = [photograph(24, 24, 0), photograph(16, 30, 1), photograph(24, 24, 2), photograph(24, 24, 3)[..., 0]]
    files = light.compress(pictures)
    assert [light.compress(p) for p in pictures] == files
    for picture, found in zip(pictures, light.decompress(files), strict=True):
        assert (picture == found).all()


def test_a_file_cut_after_any_chunk_decodes_to_that_step_and_a_partial_chunk_changes_nothing(light: codec.Codec) -> None:
    picture = photograph(32, 32)
    data = light.compress(picture)
    contents = container.parse(data)
    ends = [contents.header_size, *(chunk.end for chunk in contents.chunks)]
    for step, end in enumerate(ends):
        whole = light.decode(data, step=step)
        cut = light.decode(data[:end])
        assert (cut.step, cut.tail) == (step, 0)
        assert (cut.image == whole.image).all()
        if step < len(ends) - 1:
            partial = light.decode(data[: end + 9])
            assert (partial.step, partial.tail) == (step, 9)
            assert (partial.image == whole.image).all()
    assert (whole.image == picture).all()


@pytest.mark.parametrize("method", ["denoise", "flow", "ancestral"])
def test_previews_get_closer_with_every_step(light: codec.Codec, method: str) -> None:
    picture = photograph(64, 64)
    data = light.compress(picture)
    errors_ = [((light.decode(data, step=s, method=method).image.astype(float) - picture) ** 2).mean() for s in range(5)]
    assert all(a > b for a, b in pairwise(errors_))
    assert errors_[-1] == 0


def test_previews_arrive_with_their_bytes(light: codec.Codec) -> None:
    data = light.compress(photograph(32, 32))
    ends = [chunk.end for chunk in container.parse(data).chunks]
    stream = io.BytesIO(data)
    for end, decoded in zip(ends, light.progressive(stream), strict=True):
        assert stream.tell() == end
        assert (decoded.image == light.decompress(data, step=decoded.step)).all()


def test_metadata_and_alpha_travel_with_every_prefix(light: codec.Codec) -> None:
    picture = photograph(16, 16)
    alpha = np.arange(256, dtype=np.uint8).reshape(16, 16)
    data = light.compress(Picture(picture, alpha, b"profile", b"II*\0exif", b"<x/>"))
    first = light.decode(data, step=0).picture
    assert (first.icc, first.exif, first.xmp) == (b"profile", b"II*\0exif", b"<x/>")
    assert first.alpha is not None
    assert (first.alpha == alpha).all()
    assert (light.decode(data).picture.pixels == picture).all()


def test_other_symbols_than_were_encoded_are_an_error_that_names_the_step(light: codec.Codec) -> None:
    data = light.compress(photograph(32, 32))
    payload = bytearray(container.parse(data).chunks[2].payload)
    payload[20] ^= 4
    damaged = rebuilt(data, step3=bytes(payload))
    with pytest.raises((errors.NumericsError, errors.DamagedError), match="step 3"):
        light.decompress(damaged)
    assert (light.decompress(damaged, step=2) == light.decompress(data, step=2)).all()
    with pytest.raises(errors.DamagedError, match="step 1"):
        light.decompress(rebuilt(data, step1=b"abc"))


def test_a_header_whose_steps_are_not_the_models_is_refused(light: codec.Codec) -> None:
    data = light.compress(photograph(16, 16))
    contents = container.parse(data)
    out = bytearray(container.write_header(dataclasses.replace(contents.header, steps=5)))
    for chunk in contents.chunks:
        out += container.write_chunk(chunk.kind, chunk.index, chunk.payload, out)
    with pytest.raises(errors.DamagedError, match="5 steps"):
        light.decompress(bytes(out))
    with pytest.raises(errors.DamagedError, match="5 steps"):
        list(light.progressive(bytes(out)))


@pytest.mark.parametrize("mode", ["tight", "paper"])
@pytest.mark.parametrize("value", [0, 255])
def test_ancestral_previews_of_extreme_pictures_stay_extreme(light: codec.Codec, mode: str, value: int) -> None:
    data = light.compress(np.full((16, 16, 3), value, np.uint8), mode=mode)
    assert np.abs(light.decompress(data, step=3, method="ancestral").astype(int) - value).mean() < 8


def test_an_ancestral_preview_does_not_depend_on_its_place_in_a_batch(light: codec.Codec) -> None:
    data = light.compress(photograph(16, 16))
    a, b = light.decode_many([data, data], step=1, method="ancestral", seed=3)
    assert (a.image == b.image).all()
    assert (a.image == light.decode(data, step=1, method="ancestral", seed=3).image).all()


def test_grey_costs_less_than_the_same_picture_in_colour_in_both_modes(light: codec.Codec) -> None:
    grey = photograph(32, 32)[..., 0]
    for mode in ("tight", "paper"):
        assert len(light.compress(grey, mode=mode)) < len(light.compress(np.stack([grey] * 3, -1), mode=mode))


def test_a_pillow_image_keeps_its_alpha_and_profile(light: codec.Codec) -> None:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.dstack([photograph(8, 8), np.full((8, 8), 7, np.uint8)])).save(file, "PNG", icc_profile=b"profile")
    back = light.decode(light.compress(Image.open(file))).picture
    assert back.icc == b"profile"
    assert back.alpha is not None
    assert (back.alpha == 7).all()
    with pytest.raises(errors.ImageError, match="palette"):
        light.compress(Image.new("P", (4, 4)))


def test_mistaken_arguments_say_what_was_expected(light: codec.Codec) -> None:
    picture = photograph(8, 8)
    with pytest.raises(ValueError, match="tight, paper"):
        light.compress(picture, mode="fast")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="float64"):
        codec.Codec(light.package, precision="float16")
    with pytest.raises(TypeError, match="read_bytes"):
        light.decompress("photo.uqdm")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="denoise, ancestral or flow"):
        light.decompress(light.compress(picture), step=1, method="best")  # type: ignore[call-overload]
    with pytest.raises(errors.LimitError, match="max_pixels"):
        codec.Codec(light.package, max_pixels=10).sample(1, 8, 8)


def test_streams_that_no_encoder_writes_are_refused(light: codec.Codec) -> None:
    data = light.compress(photograph(16, 16))
    payload = container.parse(data).chunks[0].payload
    with pytest.raises(errors.DamagedError, match="step 1"):
        light.decompress(rebuilt(data, step1=payload + b"\0"))


def test_a_float_drift_of_the_network_is_refused_and_never_a_wrong_picture(light: codec.Codec) -> None:
    picture = photograph(32, 32)
    data = light.compress(picture)
    other = codec.Codec(light.package)
    family = other.family("tight", "float64")
    assert family is other.family("tight", "float64")
    inner = family.denoiser  # type: ignore[attr-defined]
    random = np.random.default_rng(0)
    refused = 0
    for size in (1e-12, 1e-6, 1e-3, 1e-1):

        def noisy(step, z, low, high):  # type: ignore[no-untyped-def]
            location, scale = inner(step, z, low, high)
            return location + random.normal(0, size, location.shape), scale  # noqa: B023

        family.denoiser = noisy
        try:
            assert (other.decompress(data) == picture).all()
        except errors.NumericsError:
            refused += 1
    assert 1 <= refused <= 3


def test_files_of_other_models_are_refused(light: codec.Codec) -> None:
    data = light.compress(photograph(16, 16))
    contents = container.parse(data)
    h = contents.header

    def renamed(**changes: object) -> bytes:
        out = bytearray(container.write_header(dataclasses.replace(h, **changes)))
        for chunk in contents.chunks:
            out += container.write_chunk(chunk.kind, chunk.index, chunk.payload, out)
        return bytes(out)

    with pytest.raises(errors.FingerprintError, match="fingerprint"):
        codec.open_for(renamed(fingerprint=b"\0" * 8))
    with pytest.raises(errors.FingerprintError):
        light.decompress(renamed(fingerprint=b"\0" * 8))
    with pytest.raises(errors.UnknownModelError, match="no-such-model"):
        codec.open_for(renamed(model="no-such-model", fingerprint=b"\1" * 8))
    assert codec.open_for(renamed(model="another-name")).fingerprint == light.fingerprint  # what it computes is what counts


def test_the_header_says_how_the_network_ran_and_decoding_follows_it(light: codec.Codec) -> None:
    picture = photograph(16, 16)
    fast = codec.Codec(light.package, precision="float32")
    data = fast.compress(picture)
    assert uqdm.inspect(data).precision == "float32"
    assert (light.decompress(data) == picture).all()


def test_samples_follow_their_seed(light: codec.Codec) -> None:
    a, b = light.sample(2, 16, 24, seed=5)
    again = light.sample(2, 16, 24, seed=5)
    assert a.shape == (16, 24, 3)
    assert (a == again[0]).all()
    assert (b == again[1]).all()
    assert (a != b).any()
    assert (a != light.sample(1, 16, 24, seed=6)[0]).any()


@pytest.mark.parametrize("wrong", [np.zeros((4, 4, 3)), np.zeros((4, 4, 5), np.uint8), np.zeros((0, 4, 3), np.uint8), "text", None])
def test_what_is_not_a_picture_is_refused(light: codec.Codec, wrong: object) -> None:
    with pytest.raises(errors.ImageError):
        light.compress(wrong)  # type: ignore[call-overload]


def test_steps_that_are_not_there_are_refused(light: codec.Codec) -> None:
    data = light.compress(photograph(16, 16))
    with pytest.raises(ValueError, match="expected 0"):
        light.decompress(data, step=5)
    with pytest.raises(errors.LimitError, match="holds 1"):
        light.decompress(uqdm.truncate(data, step=1), step=3)


def test_a_header_that_asks_for_too_much_is_refused_before_any_work(light: codec.Codec) -> None:
    h = container.Header(2**20, 2**20, False, False, "tight", "float64", light.name, bytes.fromhex(light.fingerprint)[:8], 4)
    with pytest.raises(errors.LimitError):
        light.decompress(container.write_header(h))


def test_the_estimate_is_what_the_trainer_minimised(light: codec.Codec, dev: np.ndarray) -> None:
    import torch

    from uqdm.training import light as recipe

    pictures = dev[::50]
    found = light.estimate(list(pictures)).mean(0) / 4096
    coordinates = torch.from_numpy(recipe.coordinates(pictures))
    weights = {k: torch.from_numpy(v.astype(np.float32)) for k, v in light.package.weights.items()}
    for step in (1, 2, 3, 4):
        net = recipe.new_net(step)
        net.load_state_dict({k.split(".", 1)[1]: v for k, v in weights.items() if k.startswith(f"{step - 1}.")})
        assert found[step - 1] == pytest.approx(recipe.evaluate(net, step, coordinates), rel=0.03)


def test_pictures_from_files_keep_what_they_carry(light: codec.Codec) -> None:
    picture = photograph(12, 12)
    file = io.BytesIO()
    carried = Picture(picture, None, b"profile", b"II*\0exif", b"<x/>")
    images.write(carried, file, "PNG")
    back = light.decode(light.compress(images.read(file.getvalue()))).picture
    assert (back.pixels == picture).all()
    assert (back.icc, back.exif, back.xmp) == (carried.icc, carried.exif, carried.xmp)
