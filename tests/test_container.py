"""What the container promises (docs/format.md), each fault with its own error and its own broken
file.
"""

import contextlib
import io
import json
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uqdm import format
from uqdm.errors import DamagedError, FormatError, LimitError, NotUqdmError, TruncatedError, VersionError
from uqdm.format import (
    ALPHA,
    EXIF,
    ICC,
    PIECE,
    STEP,
    XMP,
    ChunkReader,
    Header,
    inspect,
    parse,
    write_chunk,
    write_header,
)
from uqdm.library import truncate

HEADER = Header(64, 64, False, False, "exact", "uqdm-light", bytes(range(8)), 4, b"\0")
FIELDS = 10  # bytes of magic, version and size
Chunks = Sequence[tuple[int, int, bytes]]


def build(header: Header = HEADER, chunks: Chunks | None = None) -> bytes:
    data = write_header(header)
    for kind, index, payload in steps(header.chunks) if chunks is None else chunks:
        data += write_chunk(kind, index, payload, data)
    return data


def steps(count: int) -> list[tuple[int, int, bytes]]:
    return [(STEP, i + 1, bytes([i]) * (5 + 3 * i)) for i in range(count)]


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def resealed(body: bytes | bytearray, version: int = format.VERSION) -> bytes:
    """A header with this body and a checksum that fits."""
    data = format.MAGIC + bytes([version, len(body)]) + body
    return data + format.fields.crc32(data, 0).to_bytes(4, "little")


def body(header: Header = HEADER) -> bytearray:
    return bytearray(write_header(header)[FIELDS:-4])


def flipped(data: bytes, bit: int) -> bytes:
    broken = bytearray(data)
    broken[bit // 8] ^= 1 << bit % 8
    return bytes(broken)


def head_size(payload: bytes) -> int:
    return 1 + len(format.varint(len(payload))) + 2


def verified_at(payload: bytes, there: int) -> tuple[int, int]:
    """Of a chunk that ends after `there` bytes behind its head: bytes of payload, and those of them
    under a check that is there.
    """
    pieces = [payload[i : i + PIECE] for i in range(0, max(len(payload), 1), PIECE)]
    got = verified = 0
    for piece in pieces:
        got += min(there, len(piece))
        if there < len(piece) + 4:
            break
        verified += len(piece)
        there -= len(piece) + 4
    return got, verified


LONG_HEADER = replace(HEADER, alpha=True, chunks=3)
LONG = [
    (ICC, 0, noise(5000, 1)),
    (ALPHA, 0, b"plane"),
    (STEP, 1, b"first"),
    (STEP, 2, noise(9000)),
    (STEP, 3, b"third"),
]
LONG_FILE = build(LONG_HEADER, LONG)


def is_prefix_of(found: format.Contents, whole: format.Contents) -> bool:
    """What is said to be checked in `found` is what is there in `whole`."""
    if found.header != whole.header or found.chunks != whole.chunks[: len(found.chunks)]:
        return False
    if found.partial is None or found.partial.verified == 0:
        return True
    true, sure = whole.chunks[len(found.chunks)], found.partial.verified
    return (found.partial.index, found.partial.payload[:sure]) == (true.index, true.payload[:sure])


headers = st.builds(
    Header,
    width=st.integers(1, 1 << 24),
    height=st.integers(1, 1 << 24),
    grey=st.booleans(),
    alpha=st.booleans(),
    arithmetic=st.sampled_from(format.ARITHMETIC),
    model=st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="/\\."), min_size=1, max_size=16),
    fingerprint=st.binary(min_size=8, max_size=8),
    chunks=st.integers(1, format.MAX_CHUNKS),
    extra=st.binary(max_size=format.MAX_EXTRA),
    seed=st.integers(0, (1 << 64) - 1),
)


@given(headers)
@settings(deadline=None)
def test_a_header_comes_back(header: Header) -> None:
    contents = parse(write_header(header), max_pixels=None)
    assert contents.header == header
    assert (contents.chunks, contents.partial, contents.tail, contents.damage) == ([], None, 0, None)


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_a_file_comes_back(data: st.DataObject) -> None:
    header = replace(data.draw(headers), width=40, height=30, chunks=data.draw(st.integers(1, 6)))
    kinds = sorted(data.draw(st.sets(st.sampled_from([ICC, EXIF, XMP]))) | ({ALPHA} if header.alpha else set()))
    payloads = st.one_of(st.binary(max_size=300), st.integers(0, 3 * PIECE).map(noise))
    alpha = st.binary(max_size=300)
    chunks = [(kind, 0, data.draw(alpha if kind == ALPHA else payloads)) for kind in kinds]
    chunks += [(STEP, i + 1, data.draw(payloads)) for i in range(header.chunks)]
    file = build(header, chunks)
    contents = parse(file)
    assert contents.header == header
    assert [(chunk.kind, chunk.index, chunk.payload) for chunk in contents.chunks] == chunks
    assert all(chunk.whole and chunk.size == chunk.verified == len(chunk.payload) for chunk in contents.chunks)
    assert (contents.partial, contents.tail, contents.damage) == (None, 0, None)
    assert parse(file, salvage=True) == contents


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_whatever_is_done_to_a_file_nothing_wrong_is_called_checked(data: st.DataObject) -> None:
    """Bytes replaced, removed, put in or repeated: an error, or less than there was, and never
    something else.
    """
    whole = parse(LONG_FILE)
    broken = bytearray(LONG_FILE)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(broken)))
        span = data.draw(st.integers(0, 40))
        new = data.draw(st.one_of(st.binary(max_size=40), st.just(bytes(broken[max(at - span, 0) : at]))))
        broken[at : at + span] = new
    salvaged = None
    try:
        salvaged = parse(bytes(broken), salvage=True)
    except FormatError:
        with pytest.raises(FormatError):
            parse(bytes(broken))
        return
    assert is_prefix_of(salvaged, whole)
    if salvaged.damage is None:
        assert parse(bytes(broken)) == salvaged
        assert bytes(broken) == LONG_FILE or len(salvaged.chunks) < len(whole.chunks)
    else:
        with pytest.raises(type(salvaged.damage), match=re.escape(str(salvaged.damage))):
            parse(bytes(broken))


def test_the_header_of_a_small_picture_takes_at_most_40_bytes() -> None:
    assert len(write_header(HEADER)) == 39


def test_flags_tell_the_arithmetic() -> None:
    assert [body(replace(HEADER, arithmetic=a))[0] for a in ("exact", "float64", "float32")] == [0, 8, 16]


# --- pieces

SIZES = [0, 1, 4095, 4096, 4097, 8192, 10000]


@pytest.mark.parametrize(
    ("size", "cost"), [(0, 8), (127, 8), (128, 9), (4096, 9), (4097, 13), (8192, 13), (8193, 17), (10000, 17)]
)
def test_a_step_costs_8_or_9_bytes_and_4_more_for_each_further_piece(size: int, cost: int) -> None:
    assert len(write_chunk(STEP, 4, bytes(size), write_header(HEADER))) - size == cost


@pytest.mark.parametrize("size", SIZES)
def test_every_piece_ends_with_a_check_that_continues_the_one_before(size: int) -> None:
    payload, start = noise(size), write_header(HEADER)
    data = write_chunk(STEP, 1, payload, start)
    head = head_size(payload)
    crc = format.fields.crc32(data[: head - 2], int.from_bytes(start[-4:], "little"))
    assert data[head - 2 : head] == (crc & 0xFFFF).to_bytes(2, "little")
    at = head
    for i in range(0, max(size, 1), PIECE):
        piece = payload[i : i + PIECE]
        crc = format.fields.crc32(piece, crc)
        assert data[at : at + len(piece) + 4] == piece + crc.to_bytes(4, "little")
        at += len(piece) + 4
    assert at == len(data)


@pytest.mark.parametrize("size", SIZES)
def test_a_payload_of_any_number_of_pieces_comes_back(size: int) -> None:
    payload = noise(size)
    header = replace(HEADER, chunks=2)
    first, second = parse(build(header, [(STEP, 1, payload), (STEP, 2, b"next")])).chunks
    assert (first.payload, first.size, first.verified, first.whole) == (payload, size, size, True)
    assert second.payload == b"next"


# --- cut files


def check_cut(data: bytes, whole: format.Contents, n: int) -> None:
    """The file's first n bytes: the chunks that are whole, what is there of a step that is not, and
    what is under no check.
    """
    found = parse(data[:n])
    assert found.chunks == [chunk for chunk in whole.chunks if chunk.end <= n]
    end = found.chunks[-1].end if found.chunks else found.header_size
    if n == end:
        assert (found.partial, found.tail) == (None, 0)
        return
    true = whole.chunks[len(found.chunks)]
    there = n - end - head_size(true.payload)
    if there < 0:
        assert (found.partial, found.tail) == (None, n - end)
        return
    got, verified = verified_at(true.payload, there)
    checks = 4 * (verified // PIECE)
    assert found.tail == there - verified - checks
    if true.kind != STEP:
        assert found.partial is None
        return
    assert found.partial == format.Chunk(
        STEP, true.index, true.payload[:got], end, n, len(true.payload), False, verified
    )


def test_cut_after_any_byte_a_small_file_gives_what_is_there() -> None:
    header = replace(HEADER, alpha=True, chunks=5)
    data = build(header, [(ICC, 0, b"profile"), (ALPHA, 0, b"plane"), *steps(4), (STEP, 5, b"")])
    whole = parse(data)
    for n in range(len(data) + 1):
        if n < whole.header_size:
            with pytest.raises(TruncatedError if n else NotUqdmError):
                parse(data[:n])
        else:
            check_cut(data, whole, n)


def test_cut_after_any_byte_a_file_with_long_chunks_gives_what_is_there() -> None:
    whole = parse(LONG_FILE)
    for n in range(whole.header_size, len(LONG_FILE) + 1):
        check_cut(LONG_FILE, whole, n)


def test_a_file_of_one_long_step_cut_at_its_seams() -> None:
    data = build(replace(HEADER, chunks=1), [(STEP, 1, noise(8192))])
    start = len(write_header(HEADER)) + head_size(bytes(8192))

    def at(n: int) -> tuple[int, int, int]:
        found = parse(data[: start + n])
        assert found.partial is not None
        return len(found.partial.payload), found.partial.verified, found.tail

    assert at(0) == (0, 0, 0)
    assert at(1) == (1, 0, 1)
    assert at(4096) == (4096, 0, 4096)
    assert at(4099) == (4096, 0, 4099)
    assert at(4100) == (4096, 4096, 0)
    assert at(4101) == (4097, 4096, 1)
    assert at(8195) == (8191, 4096, 4095)
    assert at(8199) == (8192, 4096, 4099)
    assert parse(data[: start + 8200]).partial is None


def test_steps_stops_before_what_is_cut() -> None:
    data = build()
    second = parse(data).chunks[1]
    cut = data[: second.end + 9]
    assert parse(cut, steps=3).partial is not None
    for k in (0, 1, 2):
        contents = parse(cut, steps=k)
        assert (len(contents.chunks), contents.partial, contents.tail) == (k, None, 0)
    with pytest.raises(ValueError, match="expected 0 or more"):
        parse(cut, steps=-1)


# --- damage


def check_flip(data: bytes, whole: format.Contents, bit: int) -> None:
    broken = flipped(data, bit)
    try:
        contents = parse(broken)
    except FormatError:
        return
    # A changed length may look like a cut; then the chunk is missing, never wrong.
    assert is_prefix_of(contents, whole)
    assert len(contents.chunks) < len(whole.chunks)
    assert contents.tail > 0


def test_any_flipped_bit_is_noticed() -> None:
    data = build(replace(HEADER, alpha=True), [(EXIF, 0, b"exif"), (ALPHA, 0, b"plane"), *steps(4)])
    whole = parse(data)
    for bit in range(8 * len(data)):
        check_flip(data, whole, bit)


def test_a_flipped_bit_in_any_byte_of_a_file_with_long_chunks_is_noticed() -> None:
    whole = parse(LONG_FILE)
    for at in range(len(LONG_FILE)):
        check_flip(LONG_FILE, whole, 8 * at + at % 8)


def test_a_flipped_bit_of_a_cut_file_is_noticed_or_in_its_unverified_tail() -> None:
    data = LONG_FILE[: parse(LONG_FILE).chunks[3].start + 4 + 4096 + 4 + 100]
    whole = parse(data)
    assert whole.tail == 99
    for at in range(len(data)):
        broken = flipped(data, 8 * at + at % 8)
        if at < len(data) - whole.tail:
            with pytest.raises(FormatError):
                parse(broken)
        else:
            contents = parse(broken)
            assert contents.partial is not None
            assert contents.partial != whole.partial
            assert is_prefix_of(contents, parse(LONG_FILE))


def test_a_damaged_piece_names_its_step_its_bytes_and_both_checks() -> None:
    step = parse(LONG_FILE).chunks[3]
    start = step.start + 5 + 4100  # of the second piece: behind the head, the first piece and its check
    broken = flipped(LONG_FILE, 8 * (start + 4096))
    stored, true = (int.from_bytes(data[start + 4096 : start + 4100], "little") for data in (broken, LONG_FILE))
    with pytest.raises(DamagedError) as error:
        parse(broken)
    assert (
        str(error.value)
        == f"step 2 of 3 (byte {step.start}): checksum differs in bytes {start} to {start + 4099}, 4096 of the payload"
        f" and their check: that is {stored:08x}, but the bytes give {true:08x}. Earlier previews still decode with"
        " --step 1, everything before the damage with --salvage"
    )


def test_damage_in_metadata_names_its_kind() -> None:
    with pytest.raises(DamagedError, match=r"ICC profile \(byte 39\): checksum differs .* No step .*--salvage"):
        parse(flipped(LONG_FILE, 8 * 5000))


def test_salvage_gives_what_passed_its_checks_before_any_damaged_byte() -> None:
    whole = parse(LONG_FILE)
    for at in range(len(LONG_FILE)):
        broken = flipped(LONG_FILE, 8 * at + at % 8)
        if at < whole.header_size:
            with pytest.raises(FormatError):
                parse(broken, salvage=True)
            continue
        found = parse(broken, salvage=True)
        assert found.chunks == [chunk for chunk in whole.chunks if chunk.end <= at]
        hit = whole.chunks[len(found.chunks)]
        piece = (at - hit.start - head_size(hit.payload)) // (PIECE + 4)
        if found.damage is None:  # a longer length in the last head looks like a cut
            assert piece < 0
            assert (hit.index, found.partial) == (3, None)
            assert found.tail > 0
            continue
        assert isinstance(found.damage, DamagedError)
        assert found.tail == 0
        sure = max(piece, 0) * PIECE
        if hit.kind != STEP or not sure:
            assert found.partial is None
        else:
            end = hit.start + head_size(hit.payload) + piece * (PIECE + 4)
            assert found.partial == format.Chunk(
                STEP, hit.index, hit.payload[:sure], hit.start, end, hit.size, False, sure
            )


def test_salvage_ends_at_bytes_after_the_end_and_at_impossible_lengths() -> None:
    data = build()
    found = parse(data + b"\n", salvage=True)
    assert found.chunks == parse(data).chunks
    assert "should end" in str(found.damage)
    start = write_header(HEADER)
    found = parse(start + lying(STEP, 8 * 3 * 64 * 64 + 65, start), salvage=True)
    assert isinstance(found.damage, LimitError)
    assert (found.chunks, found.partial, found.tail) == ([], None, 0)


def test_salvage_of_a_cut_file_is_the_cut_file() -> None:
    for n in (60, 6000, 9500, len(LONG_FILE) - 1):
        assert parse(LONG_FILE[:n], salvage=True) == parse(LONG_FILE[:n])


def test_salvage_does_not_excuse_the_header() -> None:
    with pytest.raises(TruncatedError):
        parse(LONG_FILE[:20], salvage=True)
    with pytest.raises(LimitError):
        parse(write_header(replace(HEADER, width=1 << 24)), salvage=True)


def test_damage_names_its_place_and_keeps_what_came_before() -> None:
    data = build()
    third = parse(data).chunks[2]
    broken = bytearray(data)
    broken[third.end - 5] ^= 1
    with pytest.raises(
        DamagedError, match=rf"step 3 of 4 .*checksum differs in bytes {third.start + 4} to {third.end - 1}, .*--step 2"
    ):
        parse(bytes(broken))
    assert parse(bytes(broken), steps=2).chunks == parse(data).chunks[:2]
    assert truncate(bytes(broken), step=2) == data[: third.start]


def test_chunks_are_given_before_the_damage_behind_them_is_met() -> None:
    data = bytearray(build())
    data[-1] ^= 1
    chunks = iter(ChunkReader(io.BytesIO(bytes(data))))
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


def test_another_version_is_refused_by_both_numbers() -> None:
    with pytest.raises(VersionError, match=r"version 1\.2; this reader knows versions 1\.0 to 1\.1: update uqdm"):
        parse(resealed(body(), version=0x12))
    with pytest.raises(VersionError, match=r"version 0\.9; this reader knows versions 1\.0 to 1\.1: a draft"):
        parse(resealed(body(), version=0x09))


def test_a_damaged_header_is_refused() -> None:
    data = bytearray(build())
    data[12] ^= 1
    with pytest.raises(DamagedError, match="header"):
        parse(bytes(data))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({0: 0x40}, "unknown bits"),
        ({0: 0x80}, "unknown bits"),
        ({0: 0x18}, "arithmetic 3 is unknown"),
        ({0: 0x04, 23: 0}, "seed is malformed"),  # flagged, and 0
        ({12: 9}, "too short"),  # the name ends early, its last byte is taken for the sub-header's size
        ({12: 11}, "control characters"),
        ({12: 64}, "too short"),
        ({23: 0}, "left over"),
        ({23: 2}, "too short"),
        ({23: 65}, "too short"),
        ({3: 0}, "chunks is 0"),
        ({3: 241}, "chunks is 241"),
        ({15: 0x2F}, "slashes"),
        ({15: 0xFF}, "decode"),
        ({1: 0x80, 2: 0}, "malformed"),
    ],
)
def test_a_header_that_was_written_wrong_is_refused(change: dict[int, int], error: str) -> None:
    wrong = body()
    for at, value in change.items():
        wrong[at] = value
    with pytest.raises(DamagedError, match=error):
        parse(resealed(wrong))


@pytest.mark.parametrize("count", range(25))
def test_a_header_without_its_last_fields_is_refused(count: int) -> None:
    with pytest.raises(DamagedError, match=r"too short|malformed"):
        parse(resealed(body()[:count]))


def test_a_header_with_more_than_its_fields_is_refused() -> None:
    with pytest.raises(DamagedError, match="1 bytes left over"):
        parse(resealed(body() + b"\0"))


def test_a_sub_header_above_its_limit_is_refused() -> None:
    with pytest.raises(DamagedError, match="extra has 65 bytes"):
        parse(resealed(body()[:-2] + bytes([65]) + bytes(65)))


def test_impossible_sizes_are_refused() -> None:
    wrong = body()
    wrong[1] = 0
    with pytest.raises(LimitError, match="0 × 64"):
        parse(resealed(wrong))
    with pytest.raises(LimitError, match=r"268435456 pixels.*max_pixels=268435456"):
        parse(write_header(replace(HEADER, width=1 << 14, height=1 << 14)))
    wide = body(replace(HEADER, width=(1 << 24) - 1))
    wide[4] = 0x0F
    with pytest.raises(LimitError, match="each side"):
        parse(resealed(wide))


def test_the_largest_size_without_asking_is_64_megapixels() -> None:
    assert parse(write_header(replace(HEADER, width=1 << 13, height=1 << 13))).header.width == 1 << 13
    with pytest.raises(LimitError, match="limit is 67108864"):
        parse(write_header(replace(HEADER, width=(1 << 13) + 1, height=1 << 13)))


def test_a_size_above_the_limit_is_read_on_request() -> None:
    assert (
        parse(write_header(replace(HEADER, width=1 << 14, height=1 << 14)), max_pixels=1 << 28).header.width == 1 << 14
    )


class Endless(io.RawIOBase):
    """A stream that would never end, and counts what is asked of it."""

    def __init__(self, beginning: bytes) -> None:
        self.beginning, self.given = beginning, 0

    def read(self, n: int = -1) -> bytes:
        piece = self.beginning[self.given : self.given + n] or bytes(n)
        self.given += len(piece)
        return piece


def lying(kind: int, size: int, before: bytes) -> bytes:
    """A head with a right check and any length."""
    head = bytes([kind]) + format.varint(size)
    return head + (format.fields.crc32(head, int.from_bytes(before[-4:], "little")) & 0xFFFF).to_bytes(2, "little")


@pytest.mark.parametrize(
    ("kind", "size"),
    [(STEP, 8 * 3 * 64 * 64 + 65), (ICC, (16 << 20) + 1), (XMP, (1 << 63) - 1), (ALPHA, 64 * 64 + 64 + 1025)],
)
def test_a_lying_length_is_refused_before_its_bytes_are_read(kind: int, size: int) -> None:
    start = write_header(replace(HEADER, alpha=True))
    if kind == STEP:
        start += write_chunk(ALPHA, 0, b"plane", start)
    stream = Endless(start + lying(kind, size, start))
    with pytest.raises(LimitError, match=rf"payload of {size} bytes; at most"):
        list(ChunkReader(stream))  # type: ignore[arg-type]
    assert stream.given == len(stream.beginning)


def test_a_length_that_is_allowed_allocates_only_what_arrives() -> None:
    asked: list[int] = []

    class Watched(io.BytesIO):
        def read(self, n: int | None = -1) -> bytes:
            asked.append(n or 0)
            return super().read(n)

    header = replace(HEADER, width=1 << 20, height=1 << 20)
    start = write_header(header)
    size = 8 * 3 << 40
    reader = ChunkReader(Watched(start + lying(STEP, size, start) + bytes(10)), max_pixels=None)
    assert list(reader) == []
    assert reader.partial is not None
    assert (len(reader.partial.payload), reader.partial.size) == (10, size)
    assert max(asked) <= PIECE
    assert inspect(start + lying(STEP, size, start) + bytes(10)).partial_bytes == 10


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
def test_chunks_with_right_checks_in_the_wrong_place_are_refused(
    chunks: list[tuple[int, int, bytes]], error: str
) -> None:
    with pytest.raises(DamagedError, match=error):
        parse(build(HEADER, chunks))


def test_a_missing_alpha_plane_is_noticed() -> None:
    with pytest.raises(DamagedError, match="announces is missing"):
        parse(build(replace(HEADER, alpha=True)))


def test_an_unknown_kind_of_chunk_is_refused() -> None:
    start = write_header(HEADER)
    crc = format.fields.crc32(b"\x07\x00", int.from_bytes(start[-4:], "little"))
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
@settings(deadline=None)
def test_noise_after_a_header_is_a_tail_or_an_error_and_never_a_chunk(noise: bytes) -> None:
    with contextlib.suppress(DamagedError, LimitError):
        assert parse(write_header(HEADER) + noise).chunks == []


class Slow(io.RawIOBase):
    """A stream that gives one byte at a time."""

    def __init__(self, data: bytes) -> None:
        self.data = io.BytesIO(data)

    def read(self, n: int = -1) -> bytes:
        return self.data.read(min(n, 1))


def slow(data: bytes) -> BinaryIO:
    return Slow(data)  # type: ignore[return-value]


def test_a_stream_gives_each_chunk_as_soon_as_its_last_byte_is_there() -> None:
    data = build()
    whole = parse(data).chunks
    reader = ChunkReader(slow(data))
    for chunk, expected in zip(reader, whole, strict=True):
        assert chunk == expected
        assert reader.position == chunk.end


def points(size: int) -> list[int]:
    return [1, 2, 4095, 4096, 4097, 8192, 8193, size - 1] if size > 8194 else [0, 3, 3, size, size + 1]


def test_a_growing_step_is_given_at_every_point_and_no_byte_too_many_is_read() -> None:
    whole = parse(LONG_FILE).chunks
    reader = ChunkReader(slow(LONG_FILE))
    found = []
    for chunk in reader.growing(points):
        assert reader.position == chunk.end
        found.append((chunk.kind, chunk.index, len(chunk.payload), chunk.whole, chunk.verified))
        true = next(one for one in whole if (one.kind, one.index) == (chunk.kind, chunk.index))
        if chunk.whole:
            assert chunk == true
        else:
            assert (chunk.start, chunk.size) == (true.start, true.size)
            assert chunk.payload == true.payload[: len(chunk.payload)]
            checks = 4 * (chunk.verified // PIECE)
            assert chunk.end == true.start + head_size(true.payload) + len(chunk.payload) + checks
    assert found == [
        (ICC, 0, 5000, True, 5000),
        (ALPHA, 0, 5, True, 5),
        (STEP, 1, 3, False, 0),
        (STEP, 1, 5, True, 5),
        (STEP, 2, 1, False, 0),
        (STEP, 2, 2, False, 0),
        (STEP, 2, 4095, False, 0),
        (STEP, 2, 4096, False, 0),
        (STEP, 2, 4097, False, 4096),
        (STEP, 2, 8192, False, 4096),
        (STEP, 2, 8193, False, 8192),
        (STEP, 2, 8999, False, 8192),
        (STEP, 2, 9000, True, 9000),
        (STEP, 3, 3, False, 0),
        (STEP, 3, 5, True, 5),
    ]
    assert (reader.partial, reader.tail) == (None, 0)


@pytest.mark.parametrize("parts", [1, 2, 7, 20])
def test_a_number_of_parts_is_that_many_equal_ones(parts: int) -> None:
    found = list(ChunkReader(io.BytesIO(LONG_FILE)).growing(parts))
    assert [chunk for chunk in found if chunk.whole] == parse(LONG_FILE).chunks
    assert [len(chunk.payload) for chunk in found if chunk.index == 2] == [
        9000 * i // parts for i in range(1, parts + 1)
    ]
    assert [len(chunk.payload) for chunk in found if chunk.index == 3] == sorted(
        {5 * i // parts for i in range(1, parts + 1)} - {0}
    )


def test_fewer_than_one_part_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 1 or more"):
        ChunkReader(io.BytesIO(LONG_FILE)).growing(0)


@pytest.mark.parametrize("cut", [1, 5, 2000, 4900, 9020])
def test_the_rest_of_a_growing_step_that_never_ends_is_partial(cut: int) -> None:
    step = parse(LONG_FILE).chunks[3]
    data = LONG_FILE[: step.start + 5 + cut]
    reader = ChunkReader(slow(data))
    found = list(reader.growing(4))
    assert [chunk for chunk in found if chunk.whole] == parse(data).chunks
    assert reader.partial == parse(data).partial
    assert reader.tail == parse(data).tail


def test_growing_meets_damage_after_what_it_gave_before() -> None:
    step = parse(LONG_FILE).chunks[3]
    broken = flipped(LONG_FILE, 8 * (step.start + 5 + 6000))
    for salvage in (False, True):
        reader, found = ChunkReader(io.BytesIO(broken), salvage=salvage), []
        with contextlib.nullcontext() if salvage else pytest.raises(DamagedError, match="step 2 of 3"):
            for chunk in reader.growing(lambda size: range(1000, size, 1000)):
                found.append((len(chunk.payload), chunk.verified))
        damaged = [(size, 4096 if size > 4096 else 0) for size in range(1000, 9000, 1000)]
        assert found == [(5000, 5000), (5, 5), (5, 5), *damaged]
        assert (reader.damage is not None) is salvage
        assert (
            reader.partial is not None and reader.partial.verified == len(reader.partial.payload) == 4096
        ) is salvage


def test_growing_stops_after_the_steps_that_are_wanted() -> None:
    step = parse(LONG_FILE).chunks[3]
    stream = io.BytesIO(LONG_FILE)
    found = list(ChunkReader(stream, steps=1).growing(2))
    assert [len(chunk.payload) for chunk in found if chunk.kind == STEP] == [2, 5]
    assert stream.tell() == step.start


# --- info, truncate


def test_info_counts_every_byte() -> None:
    header = replace(HEADER, alpha=True, seed=7)
    data = build(header, [(ICC, 0, b"profile"), (ALPHA, 0, b"plane"), *steps(4)])
    info = inspect(data)
    assert info.header_bytes + sum(info.metadata_bytes.values()) + sum(info.step_bytes) == len(data) == info.total_bytes
    assert info.bpp[-1] == 8 * len(data) / 64**2
    assert (info.complete, info.steps_available, info.tail_bytes, info.seed) == (True, 4, 0, 7)
    told = json.loads(info.to_json())
    assert (told["fingerprint"], told["version"], told["arithmetic"], told["extra"]) == (
        "0001020304050607",
        "1.0",
        "exact",
        "00",
    )
    assert (info.partial_bytes, info.verified_bytes) == (0, 0)


def test_info_of_a_cut_file_tells_what_is_unverified() -> None:
    info = inspect(build()[:-3])
    assert (info.complete, info.steps_available) == (False, 3)
    assert info.tail_bytes == 14 + 4 - 3  # payload of the last step and its check, less what was cut off
    assert (info.partial_bytes, info.verified_bytes) == (14, 0)
    info = inspect(LONG_FILE[: parse(LONG_FILE).chunks[3].start + 5 + 4100 + 7])
    assert (info.partial_bytes, info.verified_bytes, info.tail_bytes) == (4103, 4096, 7)
    assert inspect(write_header(replace(HEADER, width=1 << 20, height=1 << 20))).width == 1 << 20


def test_truncate_gives_exactly_the_first_bytes() -> None:
    data = build()
    chunks = parse(data).chunks
    for n in range(39, len(data) + 5):
        assert truncate(data, target_size=n) == data[:n]
    for k, chunk in enumerate(chunks, 1):
        assert truncate(data, step=k) == data[: chunk.end]
        assert truncate(data, bpp=inspect(data).bpp[k - 1]) == data[: chunk.end]
    assert truncate(data, step=0) == data[:39]
    assert truncate(data, bpp=0.1) == data[: int(0.1 * 64 * 64 / 8)]


def test_truncate_to_step_0_keeps_the_metadata_and_notices_damage_in_it() -> None:
    data = build(HEADER, [(ICC, 0, b"profile"), *steps(4)])
    assert truncate(data, step=0) == data[: parse(data).chunks[0].end]
    broken = bytearray(data)
    broken[45] ^= 1
    with pytest.raises(DamagedError):
        truncate(bytes(broken), step=0)


def test_truncate_to_step_0_does_not_judge_step_1() -> None:
    data = build()
    for at in range(40, len(data)):
        assert truncate(flipped(data, 8 * at), step=0) == data[:39]


@pytest.mark.parametrize("request_", [{"target_size": 38}, {"bpp": 0.01}, {"step": 5}])
def test_truncate_refuses_what_cannot_be(request_: dict[str, int]) -> None:
    with pytest.raises(LimitError):
        truncate(build(), **request_)  # type: ignore[arg-type]


def test_truncate_refuses_a_step_that_was_cut_off() -> None:
    with pytest.raises(LimitError, match="holds 3 of 4 whole steps"):
        truncate(build()[:-1], step=4)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({}, "give exactly one of step, bpp"),
        ({"target_size": 50, "step": 1}, "step=1 and target_size=50 cannot be used together"),
        ({"step": -1}, "step -1; expected a whole number of 0 or more"),
        ({"target_size": 0}, "target_size 0; expected a whole number of bytes above 0"),
        ({"bpp": -1.0}, "bpp -1.0; expected a number of bits per pixel above 0"),
    ],
)
def test_truncate_wants_exactly_one_request(request_: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        truncate(build(), **request_)  # type: ignore[arg-type]


# --- what cannot be written


@pytest.mark.parametrize(
    "change",
    [
        {"width": 0},
        {"height": (1 << 24) + 1},
        {"arithmetic": "float16"},
        {"model": ""},
        {"model": "a/b"},
        {"model": ".."},
        {"model": "bell\a"},
        {"model": "é" * 33},
        {"fingerprint": b"short"},
        {"chunks": 0},
        {"chunks": 241},
        {"extra": bytes(65)},
        {"seed": 1 << 64},
        {"seed": -1},
    ],
)
def test_a_header_that_cannot_be_is_not_made(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"expected|slashes"):
        replace(HEADER, **change)  # type: ignore[arg-type]


def test_a_chunk_that_cannot_be_is_not_written() -> None:
    start = write_header(HEADER)
    for kind, index in ((7, 0), (ICC, 1), (STEP, 0), (STEP, 241)):
        with pytest.raises(ValueError, match="expected"):
            write_chunk(kind, index, b"", start)
    with pytest.raises(LimitError, match="at most"):
        write_chunk(ICC, 0, bytes((16 << 20) + 1), start)
    with pytest.raises(ValueError, match="before"):
        write_chunk(STEP, 1, b"", b"abc")


def test_the_bits_of_version_1_0_stay_still() -> None:
    data = build(replace(HEADER, arithmetic="float64", seed=300), [(STEP, i + 1, noise(4, i)) for i in range(4)])
    assert data.hex() == GOLDEN
    long = write_chunk(STEP, 1, noise(10000), write_header(HEADER))
    assert [long[at : at + 4].hex() for at in (1, 5 + 4096, 5 + 8196, len(long) - 4)] == LONG_GOLDEN


GOLDEN = (
    "895551440d0a1a0a101b0c40400400010203040506070a7571646d2d6c69676874ac0201005cddf4d8"
    "100472a0cd072cd8f28272f71104b763f5b165224b2cc7d61204df8a73a9bef4cadfd96613042c01fd3feb3cfad90ea4"
)
LONG_GOLDEN = ["904e3d14", "ed11da73", "e712a65b", "68ae28b8"]
