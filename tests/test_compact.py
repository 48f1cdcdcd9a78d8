"""The compact form of small files (docs/format.md, "Compact files")."""

import io
import random
from dataclasses import replace

import numpy as np
import pytest
from conftest import photograph
from hypothesis import given, settings
from hypothesis import strategies as st

import uqdm
from uqdm import codec, format, library
from uqdm.errors import DamagedError, FingerprintError, FormatError, LimitError, NumericsError, UnknownModelError
from uqdm.format import ALPHA, MAX_COMPACT, STEP, ChunkReader, Header, parse, write_compact_step, write_header

FULL = Header(64, 64, False, False, "exact", "photo", bytes(range(8)), 4, b"\0", minor=1)
HEADER = FULL.compacted()


def build(header: Header, payloads: list[bytes]) -> bytes:
    data = write_header(header)
    for payload in payloads:
        data += write_compact_step(payload, data)
    return data


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


PAYLOADS = [b"first", b"", noise(9000), noise(130, 1)]
FILE = build(HEADER, PAYLOADS)
SIZES = [len(write_header(HEADER)), 5 + 3, 3, 9000 + 4, 130 + 4]  # of the header and the steps
ENDS = [sum(SIZES[: i + 1]) for i in range(5)]


# --- the container


def test_a_header_takes_23_bytes_and_a_step_3_or_4_around_its_payload() -> None:
    assert SIZES[0] == 23
    assert ENDS[-1] == len(FILE)
    contents = parse(FILE)
    assert (contents.header, contents.tail, contents.partial) == (HEADER, 0, None)
    assert [(c.kind, c.index, c.payload, c.whole) for c in contents.chunks] == [
        (STEP, i, payload, True) for i, payload in enumerate(PAYLOADS, 1)
    ]
    assert format.ends(contents) == ENDS


@given(
    st.integers(1, MAX_COMPACT),
    st.booleans(),
    st.integers(0, 2**64 - 1),
    st.binary(max_size=64),
    st.lists(st.binary(max_size=300), min_size=1, max_size=9),
)
@settings(deadline=None)
def test_a_compact_file_comes_back(width: int, grey: bool, seed: int, extra: bytes, payloads: list[bytes]) -> None:
    height = max(1, MAX_COMPACT // width // 2)
    header = replace(HEADER, width=width, height=height, grey=grey, seed=seed, extra=extra, chunks=len(payloads))
    contents = parse(build(header, payloads))
    assert contents.header == header
    assert [chunk.payload for chunk in contents.steps] == payloads


def test_cut_after_any_byte_a_compact_file_gives_what_is_there() -> None:
    for size in [*range(ENDS[0], ENDS[2] + 200), *range(ENDS[3] - 10, len(FILE))]:
        found = parse(FILE[:size])
        whole = sum(end <= size for end in ENDS[1:])
        assert [c.payload for c in found.steps] == PAYLOADS[:whole]
        assert found.tail == size - ENDS[whole]
        behind = found.tail - len(format.varint(len(PAYLOADS[whole])))  # bytes behind the step's length
        assert (found.partial is not None) == (behind >= 0)
        if found.partial is not None:
            assert (found.partial.payload, found.partial.verified) == (PAYLOADS[whole][:behind], 0)


def test_any_flipped_bit_is_an_error_or_looks_like_a_cut() -> None:
    whole = parse(FILE)
    rng = random.Random(0)
    for at in [*range(ENDS[2] + 40), *rng.sample(range(len(FILE)), 200), *range(ENDS[3] - 5, len(FILE))]:
        for bit in range(8):
            broken = bytearray(FILE)
            broken[at] ^= 1 << bit
            try:
                found = parse(bytes(broken))
            except FormatError:
                continue
            # only a length that points behind the end is not noticed
            assert found.partial is not None
            assert found.steps == whole.steps[: len(found.steps)]
            assert found.tail == len(FILE) - ENDS[len(found.steps)]
            assert at in range(ENDS[len(found.steps)], ENDS[len(found.steps)] + 2)


def test_salvage_gives_the_whole_steps_before_the_damage() -> None:
    broken = bytearray(FILE)
    broken[ENDS[2] + 5000] ^= 1
    with pytest.raises(DamagedError, match=rf"step 3 of 4 \(byte {ENDS[2]}\): checksum differs"):
        parse(bytes(broken))
    found = parse(bytes(broken), salvage=True)
    assert [c.payload for c in found.steps] == PAYLOADS[:2]
    assert found.partial is None
    assert isinstance(found.damage, DamagedError)


def test_steps_of_other_places_and_files_do_not_fit() -> None:
    first, other = FILE[ENDS[0] : ENDS[1]], build(replace(HEADER, seed=1), PAYLOADS)
    for wrong in (
        FILE[: ENDS[1]] + first,
        other[: ENDS[0] + 1] + first,
        FILE + first,
        FILE[: ENDS[0]] + FILE[ENDS[1] :],
    ):
        with pytest.raises(DamagedError):
            parse(wrong)


def test_lengths_that_cannot_be_are_refused() -> None:
    start = write_header(HEADER)
    with pytest.raises(LimitError, match="at most 98368"):
        parse(start + format.varint(24 * 64 * 64 + 65))
    for wrong in (b"\x80\x00", b"\xff" * 9):
        with pytest.raises(DamagedError, match="malformed"):
            parse(start + wrong)


def test_a_stream_gives_each_step_as_soon_as_its_last_byte_is_there() -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(7, size or 0))

    stream = Slow(FILE)
    chunks = iter(ChunkReader(stream).growing(3))
    places = [(stream.tell(), len(chunk.payload), chunk.whole) for chunk in chunks]
    assert [end for end, _, whole in places if whole] == ENDS[1:]
    assert [size for _, size, whole in places if not whole] == [1, 3, 3000, 6000, 43, 86]
    assert ChunkReader(io.BytesIO(FILE), steps=0).header == HEADER
    assert len(list(ChunkReader(io.BytesIO(FILE), steps=2))) == 2
    assert list(ChunkReader(io.BytesIO(FILE), steps=0)) == []


def test_truncate_and_info_know_the_compact_form() -> None:
    assert uqdm.truncate(FILE, step=3) == FILE[: ENDS[3]]
    assert uqdm.truncate(FILE, step=0) == FILE[: ENDS[0]]
    assert uqdm.truncate(FILE, target_size=100) == FILE[:100]
    info = format.inspect(FILE)
    assert (info.model, info.fingerprint, info.version) == ("", "00010203", "1.1")
    assert info.header_bytes + sum(info.step_bytes) == info.total_bytes == len(FILE)


@pytest.mark.parametrize(
    "change",
    [
        {"width": 129, "height": 128},
        {"alpha": True},
        {"minor": 0},
        {"model": "photo"},
        {"fingerprint": bytes(8)},
        {"arithmetic": "float64"},
    ],
)
def test_a_compact_header_that_cannot_be_is_not_made(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"compact|expected 4"):
        replace(HEADER, **change)  # type: ignore[arg-type]


def test_a_compact_header_that_was_written_wrong_is_refused() -> None:
    body = write_header(HEADER)[10:-4]

    def resealed(body: bytes, version: int = 0x11) -> bytes:
        data = format.MAGIC + bytes([version, len(body)]) + body
        return data + format.crc32(data, 0).to_bytes(4, "little")

    assert parse(resealed(body)).header == HEADER
    with pytest.raises(DamagedError, match="unknown bits"):
        parse(resealed(body, version=0x10))
    for count in range(8):
        with pytest.raises(DamagedError, match=r"too short|malformed"):
            parse(resealed(body[:count]))
    with pytest.raises(DamagedError, match="alpha"):
        parse(resealed(bytes([body[0] | 2]) + body[1:]))
    with pytest.raises(DamagedError, match="exact"):
        parse(resealed(bytes([body[0] | 8]) + body[1:]))
    with pytest.raises(DamagedError, match="at most 16384 pixels"):
        parse(resealed(body[:1] + format.varint(300) + body[2:]))


# --- in the codec


@pytest.fixture(scope="module")
def default() -> codec.Codec:
    return uqdm.load()


def test_small_pictures_of_steps_only_are_compact(default: codec.Codec) -> None:
    picture = uqdm.Picture(photograph(16, 20))
    own = bytes.fromhex(default.fingerprint)

    def header(picture: object, **goal: object) -> Header:
        return parse(default.compress(picture, **goal)).header  # type: ignore[arg-type]

    assert header(picture).fingerprint == own[:4]
    assert header(picture).compact
    assert header(picture, psnr=30.0).compact
    assert header(picture, target_size=200).compact
    for other in (
        replace(picture, icc=b"profile"),
        replace(picture, exif=b"exif"),
        replace(picture, xmp=b"xmp"),
        replace(picture, alpha=np.zeros((16, 20), np.uint8)),
    ):
        assert header(other).fingerprint == own[:8]
    assert not header(picture, max_error=4).compact
    assert not header(photograph(1, 1), max_error=0).compact
    assert not parse(uqdm.load("nano").compress(picture)).header.compact


def test_pictures_above_the_limit_are_not_compact(default: codec.Codec) -> None:
    flat = np.zeros((1, MAX_COMPACT), np.uint8)
    assert parse(default.compress(flat, step=1)).header.compact
    assert not parse(default.compress(np.zeros((1, MAX_COMPACT + 1), np.uint8), step=1)).header.compact


def test_a_batch_of_both_forms_gives_what_each_gives_alone(default: codec.Codec) -> None:
    plain = uqdm.Picture(photograph(16, 16))
    carried = replace(plain, xmp=b"note")
    both = default.compress([plain, carried, plain])
    assert both == [default.compress(p) for p in (plain, carried, plain)]
    for found in default.decompress(both):
        assert (found == plain.pixels).all()


def test_cut_anywhere_a_compact_file_decodes_and_never_gets_worse_by_much(default: codec.Codec) -> None:
    picture = photograph(24, 32)
    data = default.compress(picture)
    first = format.ends(parse(data))[0]
    errors = []
    for size in [*range(first, first + 40), *range(first + 40, len(data), 97), len(data)]:
        found = default.decode(data[:size])
        errors.append(float(((found.image.astype(int) - picture) ** 2).mean()))
        assert found.tail == parse(data[:size]).tail
    assert errors[-1] == 0
    assert np.mean(errors[:10]) > 4 * np.mean(errors[-10:])
    grown = [one.image for one in default.progressive(data, parts=2)]
    assert (grown[-1] == picture).all()
    assert len(grown) == 2 * default.steps


def test_damage_to_a_compact_file_stops_the_decoder(default: codec.Codec) -> None:
    picture = photograph(24, 32)
    data = bytearray(default.compress(picture))
    data[-50] ^= 4
    with pytest.raises(DamagedError, match=f"step {default.steps} of {default.steps}"):
        default.decode(bytes(data))
    found = default.decode(bytes(data), salvage=True)
    assert found.step == default.steps - 1
    assert (found.image == default.decompress(bytes(data), step=default.steps - 1)).all()


def test_other_symbols_than_were_encoded_are_noticed_in_every_step(default: codec.Codec) -> None:
    """What a decoder with other arithmetic would find: the bytes pass their checks, the symbols do
    not.
    """
    data = default.compress(photograph(24, 32))
    contents = parse(data)
    for step in range(1, default.steps + 1):
        payloads = [bytearray(chunk.payload) for chunk in contents.steps]
        payloads[step - 1][contents.header.symbol_check(step) - 1] ^= 4
        with pytest.raises(NumericsError, match=f"step {step}: .*check .*expected"):
            default.decode(build(contents.header, [bytes(payload) for payload in payloads]))


def test_a_compact_file_finds_its_model_and_no_other(default: codec.Codec) -> None:
    data = default.compress(photograph(8, 8))
    assert (library.open_for(data).decompress(data) == photograph(8, 8)).all()
    with pytest.raises(FingerprintError, match=rf"the model of fingerprint {default.fingerprint[:8]}; this is 'nano'"):
        uqdm.load("nano").decompress(data)
    header = replace(parse(data).header, fingerprint=b"none")
    with pytest.raises(UnknownModelError, match=r"the model of fingerprint 6e6f6e65, which is not here"):
        library.open_for(write_header(header))


def test_alpha_has_no_place_in_a_compact_file() -> None:
    with pytest.raises(DamagedError):
        parse(write_header(HEADER) + format.write_chunk(ALPHA, 0, b"plane", write_header(HEADER)))
