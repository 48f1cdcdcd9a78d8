"""What the container promises (docs/format.md), each fault with its own error and its own broken file."""

import contextlib
import io
import json
import random
from dataclasses import replace
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uqdm import container
from uqdm.container import ALPHA, EXIF, ICC, STEP, XMP, Header, Reader, inspect, parse, truncate, write_chunk, write_header
from uqdm.errors import DamagedError, LimitError, NotUqdmError, TruncatedError, VersionError

HEADER = Header(64, 64, False, False, "tight", "float64", "uqdm-light", bytes(range(8)), 4)


def build(header: Header = HEADER, chunks: list[tuple[int, int, bytes]] | None = None) -> bytes:
    data = write_header(header)
    for kind, index, payload in steps(header.chunks) if chunks is None else chunks:
        data += write_chunk(kind, index, payload, data)
    return data


def steps(count: int) -> list[tuple[int, int, bytes]]:
    return [(STEP, i + 1, bytes([i]) * (5 + 3 * i)) for i in range(count)]


def resealed(data: bytes, **changes: int) -> bytes:
    """A header with bytes changed (`at0=value` …) and a checksum that fits again."""
    header = bytearray(write_header(HEADER)[:-4])
    for name, value in changes.items():
        header[int(name.removeprefix("at"))] = value
    return bytes(header) + container._crc(bytes(header), 0).to_bytes(4, "little") + data[len(header) + 4 :]


headers = st.builds(
    Header,
    width=st.integers(1, 1 << 24),
    height=st.integers(1, 1 << 24),
    grey=st.booleans(),
    alpha=st.booleans(),
    mode=st.sampled_from(["tight", "paper"]),
    precision=st.sampled_from(["float64", "float32"]),
    model=st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="/\\."), min_size=1, max_size=16),
    fingerprint=st.binary(min_size=8, max_size=8),
    steps=st.integers(1, container.MAX_STEPS),
    seed=st.integers(0, (1 << 64) - 1),
)


@given(headers)
def test_a_header_comes_back(header: Header) -> None:
    contents = parse(write_header(header), max_pixels=None)
    assert contents.header == header
    assert contents.chunks == []
    assert contents.tail == 0


@given(st.data())
@settings(max_examples=50)
def test_a_file_comes_back(data: st.DataObject) -> None:
    header = replace(data.draw(headers), width=40, height=30, steps=data.draw(st.integers(1, 6)))
    kinds = sorted(data.draw(st.sets(st.sampled_from([ICC, EXIF, XMP]))) | ({ALPHA} if header.alpha else set()))
    chunks = [(kind, 0, data.draw(st.binary(max_size=300))) for kind in kinds]
    chunks += [(STEP, i + 1, data.draw(st.binary(max_size=300))) for i in range(header.chunks)]
    contents = parse(build(header, chunks))
    assert contents.header == header
    assert [(chunk.kind, chunk.index, chunk.payload) for chunk in contents.chunks] == chunks


def test_the_header_of_a_small_picture_takes_at_most_40_bytes() -> None:
    assert len(write_header(HEADER)) == 37


@pytest.mark.parametrize("size", [0, 127, 128, 16383, 16384, 65535])
def test_a_step_costs_at_most_10_bytes_besides_its_payload(size: int) -> None:
    assert len(write_chunk(STEP, 4, bytes(size), write_header(HEADER))) - size <= 10


def test_cut_after_any_byte_the_whole_chunks_are_there() -> None:
    header = replace(HEADER, alpha=True, mode="paper")
    chunks = [(ICC, 0, b"profile"), (ALPHA, 0, b"plane"), *steps(5)]
    data = build(header, chunks)
    whole = parse(data).chunks
    for n in range(len(data) + 1):
        if n < len(write_header(header)):
            with pytest.raises(TruncatedError if n else NotUqdmError):
                parse(data[:n])
            continue
        contents = parse(data[:n])
        assert contents.chunks == [chunk for chunk in whole if chunk.end <= n]
        assert contents.tail == n - max([chunk.end for chunk in contents.chunks], default=contents.header_size)


def test_any_flipped_bit_is_noticed() -> None:
    data = build(replace(HEADER, alpha=True), [(EXIF, 0, b"exif"), (ALPHA, 0, b"plane"), *steps(4)])
    whole = parse(data)
    for bit in range(8 * len(data)):
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << bit % 8
        try:
            contents = parse(bytes(broken))
        except (DamagedError, NotUqdmError, VersionError, LimitError, TruncatedError):
            continue
        # A changed length may look like a cut; then the chunk is missing, never wrong.
        assert len(contents.chunks) < len(whole.chunks)
        assert contents.chunks == whole.chunks[: len(contents.chunks)]
        assert contents.tail > 0


def test_damage_names_its_place_and_keeps_what_came_before() -> None:
    data = build()
    third = parse(data).chunks[2]
    broken = bytearray(data)
    broken[third.end - 5] ^= 1
    with pytest.raises(DamagedError, match=rf"step 3 of 4 .*checksum differs at byte {third.end - 4} .*--step 2"):
        parse(bytes(broken))
    assert parse(bytes(broken), steps=2).chunks == parse(data).chunks[:2]
    assert truncate(bytes(broken), step=2) == data[: third.start]


def test_chunks_are_given_before_the_damage_behind_them_is_met() -> None:
    data = bytearray(build())
    data[-1] ^= 1
    chunks = iter(Reader(io.BytesIO(bytes(data))))
    assert [next(chunks).index for _ in range(3)] == [1, 2, 3]
    with pytest.raises(DamagedError):
        next(chunks)


@pytest.mark.parametrize(
    "data",
    [b"GIF89a and so on", b"\x89PNG\r\n\x1a\n", b"\x89UQD\n\x1a\n\x00", b"x"],
    ids=["gif", "png", "line ends changed", "one byte"],
)
def test_another_kind_of_file_is_not_uqdm(data: bytes) -> None:
    with pytest.raises(NotUqdmError):
        parse(data)


def test_an_empty_file_says_so() -> None:
    with pytest.raises(NotUqdmError, match="empty"):
        parse(b"")


def test_a_newer_version_is_refused_by_both_numbers() -> None:
    with pytest.raises(VersionError, match=r"version 1; this reader knows version 0"):
        parse(resealed(build(), at8=1))


def test_a_damaged_header_is_refused() -> None:
    data = bytearray(build())
    data[12] ^= 1
    with pytest.raises(DamagedError, match="header"):
        parse(bytes(data))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"at10": 0x20}, "unknown bits"),
        ({"at10": 0x04}, "seed is malformed"),
        ({"at22": 9}, "left over"),
        ({"at22": 11}, "too short"),
        ({"at13": 0}, "steps is 0"),
        ({"at13": 240}, "steps is 240"),
        ({"at25": 0x2F}, "slashes"),
        ({"at25": 0xFF}, "decode"),
        ({"at11": 0x80, "at12": 0}, "malformed"),
    ],
)
def test_a_header_that_was_written_wrong_is_refused(change: dict[str, int], error: str) -> None:
    with pytest.raises(DamagedError, match=error):
        parse(resealed(build(), **change))


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(LimitError, match="0 × 64"):
        parse(resealed(build(), at11=0))
    with pytest.raises(LimitError, match=r"268435456 pixels.*max_pixels=268435456"):
        parse(write_header(replace(HEADER, width=1 << 14, height=1 << 14)))
    wide = bytearray(write_header(replace(HEADER, width=(1 << 24) - 1)))
    wide[14] = 0x0F
    with pytest.raises(LimitError, match="each side"):
        parse(bytes(wide[:-4]) + container._crc(bytes(wide[:-4]), 0).to_bytes(4, "little"))


def test_a_size_above_the_limit_is_read_on_request() -> None:
    assert parse(write_header(replace(HEADER, width=1 << 14, height=1 << 14)), max_pixels=1 << 28).header.width == 1 << 14


class Endless(io.RawIOBase):
    """A stream that would never end, and counts what is asked of it."""

    def __init__(self, beginning: bytes) -> None:
        self.beginning, self.given = beginning, 0

    def read(self, n: int = -1) -> bytes:
        piece = self.beginning[self.given : self.given + n] or bytes(n)
        self.given += len(piece)
        return piece


def test_a_lying_length_is_refused_before_its_bytes_are_read() -> None:
    start = write_header(HEADER)
    for kind, index, size in ((STEP, 1, 8 * 3 * 64 * 64 + 65), (ICC, 0, (16 << 20) + 1)):
        chunk = bytes([kind + max(index - 1, 0)]) + container._varint(size)
        crc = container._crc(chunk, int.from_bytes(start[-4:], "little"))
        stream = Endless(start + chunk + (crc & 0xFFFF).to_bytes(2, "little"))
        with pytest.raises(LimitError, match=str(size)):
            list(Reader(stream))  # type: ignore[arg-type]
        assert stream.given == len(stream.beginning)


@pytest.mark.parametrize(
    ("chunks", "error"),
    [
        ([(STEP, 1, b"a"), (STEP, 1, b"a")], "step 1 of 4 is repeated"),
        ([(STEP, 2, b"a")], "step 2 of 4 is out of order"),
        ([(STEP, 1, b"a"), (STEP, 3, b"a")], "step 3 of 4 is out of order"),
        ([(ICC, 0, b"a"), (ICC, 0, b"a")], "second ICC"),
        ([(XMP, 0, b"a"), (EXIF, 0, b"a")], "EXIF is out of order"),
        ([(STEP, 1, b"a"), (EXIF, 0, b"a")], "EXIF is out of order"),
        ([(ALPHA, 0, b"a")], "does not announce"),
        ([*steps(4), (STEP, 5, b"a")], "should end"),
    ],
)
def test_chunks_with_right_checks_in_the_wrong_place_are_refused(chunks: list[tuple[int, int, bytes]], error: str) -> None:
    with pytest.raises(DamagedError, match=error):
        parse(build(HEADER, chunks))


def test_a_missing_alpha_plane_is_noticed() -> None:
    with pytest.raises(DamagedError, match="announces is missing"):
        parse(build(replace(HEADER, alpha=True)))


def test_an_unknown_kind_of_chunk_is_refused() -> None:
    start = write_header(HEADER)
    crc = container._crc(b"\x07\x00", int.from_bytes(start[-4:], "little"))
    with pytest.raises(DamagedError, match="unknown kind 7"):
        parse(start + b"\x07\x00" + (crc & 0xFFFF).to_bytes(2, "little") + crc.to_bytes(4, "little"))


@pytest.mark.parametrize("trailing", [b"\x00", b"\n", b"more than a chunk could be"])
def test_bytes_after_the_last_step_are_noticed(trailing: bytes) -> None:
    data = build()
    with pytest.raises(DamagedError, match=f"should end at byte {len(data)}"):
        parse(data + trailing)
    assert parse(data + trailing, steps=4).chunks == parse(data).chunks


def test_bytes_removed_before_the_end_are_noticed() -> None:
    data = build()
    chunks = parse(data).chunks
    with pytest.raises(DamagedError):
        parse(data[: chunks[1].start] + data[chunks[1].end :])


def test_chunks_of_another_file_do_not_fit_even_under_the_same_header() -> None:
    ours, theirs = build(), build(HEADER, [(kind, index, payload[::-1] + b"!") for kind, index, payload in steps(4)])
    a, b = parse(ours).chunks, parse(theirs).chunks
    for k in range(1, 4):
        with pytest.raises(DamagedError):
            parse(ours[: a[k].start] + theirs[b[k].start :])


def test_a_malformed_length_is_refused() -> None:
    with pytest.raises(DamagedError, match="malformed"):
        parse(write_header(HEADER) + b"\x10\x80\x00")
    with pytest.raises(DamagedError, match="malformed"):
        parse(write_header(HEADER) + b"\x10" + b"\xff" * 9)


@given(st.binary(max_size=200))
def test_noise_after_a_header_is_a_tail_or_an_error_and_never_a_chunk(noise: bytes) -> None:
    with contextlib.suppress(DamagedError, LimitError):
        assert parse(write_header(HEADER) + noise).chunks == []


class Slow(io.RawIOBase):
    """A stream that gives one byte at a time."""

    def __init__(self, data: bytes) -> None:
        self.data = io.BytesIO(data)

    def read(self, n: int = -1) -> bytes:
        return self.data.read(min(n, 1))


def test_a_stream_gives_each_chunk_as_soon_as_its_last_byte_is_there() -> None:
    data = build()
    whole = parse(data).chunks
    stream: BinaryIO = Slow(data)  # type: ignore[assignment]
    reader = Reader(stream)
    for chunk, expected in zip(reader, whole, strict=True):
        assert chunk == expected
        assert reader.position == chunk.end


# --- info, truncate ----------------------------------------------------------------------------------------------------------------


def test_info_counts_every_byte() -> None:
    header = replace(HEADER, alpha=True, seed=7)
    data = build(header, [(ICC, 0, b"profile"), (ALPHA, 0, b"plane"), *steps(4)])
    info = inspect(data)
    assert info.header_bytes + sum(info.metadata_bytes.values()) + sum(info.step_bytes) == len(data) == info.total_bytes
    assert info.bpp[-1] == 8 * len(data) / 64**2
    assert (info.complete, info.steps_available, info.tail_bytes, info.seed) == (True, 4, 0, 7)
    assert json.loads(info.to_json())["fingerprint"] == "0001020304050607"


def test_info_of_a_cut_file_tells_what_is_unverified() -> None:
    info = inspect(build()[:-3])
    assert (info.complete, info.steps_available) == (False, 3)
    assert info.tail_bytes == 14 + 8 - 3  # payload of the last step, what a short chunk adds, what was cut off
    assert inspect(write_header(replace(HEADER, width=1 << 20, height=1 << 20))).width == 1 << 20


def test_truncate_gives_exactly_the_first_bytes() -> None:
    data = build()
    chunks = parse(data).chunks
    for n in range(37, len(data) + 5):
        assert truncate(data, nbytes=n) == data[:n]
    for k, chunk in enumerate(chunks, 1):
        assert truncate(data, step=k) == data[: chunk.end]
        assert truncate(data, bpp=inspect(data).bpp[k - 1]) == data[: chunk.end]
    assert truncate(data, step=0) == data[:37]
    assert truncate(data, bpp=0.1) == data[: int(0.1 * 64 * 64 / 8)]


def test_truncate_to_step_0_keeps_the_metadata_and_notices_damage_in_it() -> None:
    data = build(HEADER, [(ICC, 0, b"profile"), *steps(4)])
    assert truncate(data, step=0) == data[: parse(data).chunks[0].end]
    broken = bytearray(data)
    broken[41] ^= 1
    with pytest.raises(DamagedError):
        truncate(bytes(broken), step=0)


@pytest.mark.parametrize("request_", [{"nbytes": 36}, {"bpp": 0.01}, {"step": 5}, {"step": -1}])
def test_truncate_refuses_what_cannot_be(request_: dict[str, int]) -> None:
    with pytest.raises(LimitError):
        truncate(build(), **request_)  # type: ignore[arg-type]


def test_truncate_refuses_a_step_that_was_cut_off() -> None:
    with pytest.raises(LimitError, match="holds 3 of 4 whole steps"):
        truncate(build()[:-1], step=4)


@pytest.mark.parametrize("request_", [{}, {"nbytes": 50, "step": 1}])
def test_truncate_wants_exactly_one_request(request_: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        truncate(build(), **request_)  # type: ignore[arg-type]


# --- what cannot be written --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"width": 0},
        {"height": (1 << 24) + 1},
        {"mode": "loose"},
        {"precision": "float16"},
        {"model": ""},
        {"model": "a/b"},
        {"model": ".."},
        {"model": "bell\a"},
        {"model": "é" * 33},
        {"fingerprint": b"short"},
        {"steps": 240},
        {"seed": 1 << 64},
        {"seed": -1},
    ],
)
def test_a_header_that_cannot_be_is_not_made(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"expected|slashes"):
        replace(HEADER, **change)  # type: ignore[arg-type]


def test_a_chunk_that_cannot_be_is_not_written() -> None:
    start = write_header(HEADER)
    for kind, index in ((5, 0), (ICC, 1), (STEP, 0), (STEP, 241)):
        with pytest.raises(ValueError, match="expected"):
            write_chunk(kind, index, b"", start)
    with pytest.raises(LimitError, match="at most"):
        write_chunk(ICC, 0, bytes((16 << 20) + 1), start)
    with pytest.raises(ValueError, match="before"):
        write_chunk(STEP, 1, b"", b"abc")


def test_the_bits_of_version_0_stay_still() -> None:
    data = build(replace(HEADER, seed=300), [(STEP, i + 1, random.Random(i).randbytes(4)) for i in range(4)])
    assert data.hex() == GOLDEN


GOLDEN = (
    "895551440d0a1a0a00190440400400010203040506070a7571646d2d6c69676874ac027fd68f4d1004"
    "e09bcd072cd8fd997c4611049a07f5b1652219dbe2141204931073a9bef459e74cd81304fedefd3feb3cdc8cf3eb"
)
