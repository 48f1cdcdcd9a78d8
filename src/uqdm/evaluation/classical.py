"""Classical image codecs: how each is set, and which of its bytes are payload. Knows no model.

By default each codec is set to be at its best for small photographs: 4:4:4, or with its colour
transform. `paper` sets them as Yang, Will and Mandt (2025) did. This was found by calibration
against their published curves: JPEG and BPG at 4:2:0, JPEG2000 in JP2 boxes and without its colour
transform. Pillow does the work where it can. JPEG XL needs imagecodecs, HEIC needs pillow-heif, and
BPG and FLIF need their programs on the PATH.
"""

import dataclasses
import io
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL
from PIL import Image, features

from uqdm.errors import EvaluationError
from uqdm.evaluation.codecs import Coded, Contender, Ladder, Pixels, best_within, rgb, timed
from uqdm.evaluation.external import Command

JPEG_QUALITIES = (1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100)  # the paper's
PAPER_LAYERS = (20, 10, 5, 3, 2, 1)  # compression ratios of its JPEG2000; the last is lossless
LAYERS = (240, 120, 80, 50, 35, 25, 18, 14, 11, 9, 7.5, 6, 5, 4.2, 3.5, 3, 2.5, 2.1, 1.8, 1)
WEBP_QUALITIES = (0, 10, 25, 40, 55, 70, 80, 90, 96, 100)
AVIF_QUALITIES = (5, 20, 35, 50, 62, 72, 80, 87, 93, 97, 100)
HEIC_QUALITIES = (1, 10, 25, 40, 52, 63, 72, 80, 87, 93, 100)
JXL_DISTANCES = (25, 15, 10, 6, 4, 2.5, 1.6, 1.0, 0.6, 0.35, 0.2, 0.1, 0.05)
BPG_QUANTISERS = (51, 45, 40, 35, 30, 25, 20, 15, 10, 5, 0)
PAPER_BPG_QUANTISERS = (51, 40, 30, 20, 10, 0)
RATIOS = (240, 160, 120, 80, 50, 35, 25, 18, 14, 11, 9, 7.5, 6, 5, 4.2, 3.5, 3, 2.5, 2.1, 1.8)  # of JPEG2000 with 9/7


# --- Pillow's formats


def saved(pixels: Pixels, format: str, **options: Any) -> bytes:
    """A picture in one of Pillow's formats."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format, **options)
    return out.getvalue()


def opened(data: bytes) -> Pixels:
    """Pillow's reading of what it wrote itself, in the formats measured here. Other files go
    through `uqdm.files`.
    """
    with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP", "AVIF", "JPEG2000")) as image:
        return np.asarray(image.convert("RGB"))


def jpeg_payload(data: bytes) -> int:
    """Bytes of the scans: entropy-coded segments with their restart markers and stuffing, without
    any header or table.
    """
    at, found = 2, 0
    while data[at + 1] != 0xD9:
        marker, at = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker != 0xDA:
            continue
        begin = at
        while data[at] != 0xFF or data[at + 1] == 0 or 0xD0 <= data[at + 1] <= 0xD7:
            at += 1
        found += at - begin
    return found


def png_payload(data: bytes) -> int:
    """Bytes of the IDAT chunks' contents."""
    at, found = 8, 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found += size * (data[at + 4 : at + 8] == b"IDAT")
        at += 12 + size
    return found


def webp_payload(data: bytes) -> int:
    """Bytes of the VP8 or VP8L chunk's contents."""
    at = 12
    while at < len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] in (b"VP8 ", b"VP8L"):
            return size
        at += 8 + size + size % 2
    raise ValueError("a WebP file without a picture")


def box_payload(data: bytes) -> int:
    """Bytes in the mdat boxes of a file of boxes (AVIF, HEIC). Headers are in other boxes."""
    at, found = 0, 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big") or len(data) - at
        found += (size - 8) * (data[at + 4 : at + 8] == b"mdat")
        at += size
    return found


def _qualities(values: tuple[int, ...], **options: Any) -> dict[str, dict[str, Any]]:
    return {f"q {q}": {"quality": q} | options for q in values}


def _pillow(
    name: str,
    label: str,
    format: str,
    settings: Mapping[str, Mapping[str, Any]],
    payload: Callable[[bytes], int],
    dial: Sequence[Mapping[str, Any]] = (),
) -> Ladder:
    library = {"JPEG": "jpg", "WEBP": "webp", "AVIF": "avif", "PNG": "zlib"}[format]
    feature = {"AVIF": "avif", "WEBP": "webp"}.get(format)
    if feature and not features.check(feature):
        raise EvaluationError(
            f"{name}: this Pillow ({PIL.__version__}) was built without {format}; install one that has it"
        )
    versions = {"pillow": PIL.__version__, library: str(features.version(library))}
    with_format = {key: {"format": format} | dict(value) for key, value in settings.items()}
    return Ladder(
        name, label, with_format, saved, opened, payload, versions, [{"format": format} | dict(one) for one in dial]
    )


def _dial(least: int = 1, **options: Any) -> list[dict[str, Any]]:
    """A setting for every quality."""
    return [{"quality": q} | options for q in range(least, 101)]


def jpeg(paper: bool) -> Ladder:
    """JPEG, Huffman tables optimised."""
    options: dict[str, Any] = {"subsampling": 2 if paper else 0, "optimize": True}
    label = f"JPEG {'4:2:0' if paper else '4:4:4'}"
    return _pillow("jpeg", label, "JPEG", _qualities(JPEG_QUALITIES, **options), jpeg_payload, _dial(**options))


def png(paper: bool) -> Ladder:
    """PNG, written with Pillow's `optimize`."""
    return _pillow("png", "PNG", "PNG", {"lossless": {"optimize": True}}, png_payload)


def webp(paper: bool) -> Ladder:
    """WebP with most effort: lossy (4:2:0 is all it has) and lossless."""
    lossless = {"lossless": {"lossless": True, "quality": 100, "method": 6, "exact": True}}
    dial = [*_dial(0, method=6), *lossless.values()]
    return _pillow("webp", "WebP", "WEBP", _qualities(WEBP_QUALITIES, method=6) | lossless, webp_payload, dial)


def avif(paper: bool) -> Ladder:
    """AVIF at 4:4:4."""
    options: dict[str, Any] = {"subsampling": "4:4:4", "speed": 4, "max_threads": 1}
    return _pillow("avif", "AVIF 4:4:4", "AVIF", _qualities(AVIF_QUALITIES, **options), box_payload, _dial(**options))


# --- JPEG2000: one stream, cut at its layers


@dataclass(frozen=True)
class Codestream:
    """Where the parts of a JPEG2000 file of one tile part are, as byte offsets."""

    style: int  # the COD segment, of which bytes 6 and 7 are the number of layers
    part: int  # the SOT segment, of which bytes 6 to 9 are the length of the tile part
    begin: int  # packets
    end: int

    @classmethod
    def of(cls, data: bytes) -> "Codestream":
        """Raises `ValueError` for more than one tile part."""
        at = data.index(b"\xff\x4f\xff\x51") + 2
        style = 0
        while data[at : at + 2] != b"\xff\x90":
            style = at if data[at : at + 2] == b"\xff\x52" else style
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        part, length = at, int.from_bytes(data[at + 6 : at + 10], "big")
        end = part + length
        if data[end : end + 2] != b"\xff\xd9":
            raise ValueError("expected one tile in one part")
        at += 12
        while data[at : at + 2] != b"\xff\x93":
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        return cls(style, part, at + 2, end)

    def cut(self, data: bytes, layers: int, size: int) -> bytes:
        """The file with `size` bytes of packets, and a header that says so many layers. By the
        standard it is a whole file.
        """
        out = bytearray(data[: self.begin + size])
        out[self.style + 6 : self.style + 8] = layers.to_bytes(2, "big")
        out[self.part + 6 : self.part + 10] = (len(out) - self.part).to_bytes(4, "big")
        return bytes(out) + b"\xff\xd9"

    def packets(self, data: bytes) -> bytes:
        """All packets of a file."""
        return data[self.begin : self.end]

    def lengths(self, data: bytes) -> list[int]:
        """How many bytes each packet has, where the tile part lists it in PLT segments."""
        at, found, value = self.part + 12, [], 0
        while (marker := data[at : at + 2]) != b"\xff\x93":
            size = int.from_bytes(data[at + 2 : at + 4], "big")
            for byte in data[at + 5 : at + 2 + size] if marker == b"\xff\x58" else b"":
                value = value << 7 | byte & 127  # a number's last byte is below 128
                if byte < 128:
                    found.append(value)
                    value = 0
            at += 2 + size
        return found


NEAR = 8  # bytes at the end of a layer that are tried one by one
OPENJPEG = {"pillow": PIL.__version__, "openjpeg": str(features.version("jpg_2000"))}


def packets(data: bytes) -> int:
    """Number of bytes of the packets, with the heads of empty ones."""
    stream = Codestream.of(data)
    return stream.end - stream.begin


@dataclass(frozen=True)
class Layered:
    """JPEG2000 with quality layers: one stream.

    A layer's point is the shortest beginning that decodes to it. A list of packet lengths says
    where the layer ends. Its last bytes may say nothing, so they are tried one by one.
    """

    name: str
    label: str
    layers: tuple[float, ...]  # compression ratios
    options: tuple[tuple[str, Any], ...]
    progressive: bool = True
    hypothetical: bool = False

    @property
    def identity(self) -> Mapping[str, Any]:
        """See `Contender`."""
        return {
            "name": self.name,
            "label": self.label,
            "layers": self.layers,
            "options": dict(self.options),
            "versions": OPENJPEG,
        }

    def code(self, pixels: Pixels) -> Iterator[Coded]:
        """See `Contender`."""
        options = dict(self.options) | {
            "quality_mode": "rates",
            "quality_layers": list(self.layers),
            "irreversible": False,
        }
        options |= {"num_resolutions": resolutions(pixels)}
        data, encoding = timed(saved, pixels, "JPEG2000", **options)
        stream, size, before = Codestream.of(data), 0, None
        for k, end in enumerate(self._ends(data, pixels, options), 1):
            whole, decoding = timed(opened, stream.cut(data, k, end))
            if before is None or not np.array_equal(whole, before) or not self.same(stream.cut(data, k, size), whole):
                size = self._shortest(data, stream, k, whole, size, end)
            before, bytes_in_all = whole, len(stream.cut(data, k, size))
            yield Coded(f"layer {k}", 8 * bytes_in_all, 8 * size, rgb(whole, pixels.shape), encoding, decoding)

    def _ends(self, data: bytes, pixels: Pixels, options: Mapping[str, Any]) -> list[int]:
        """How many bytes the packets of the first 1, 2, ... layers have.

        The same picture is coded again with a list of the packets' lengths. Packets are ordered by
        layer, and each layer has as many. If the lists were not those of `data`, all layers would
        end at its end, and the search below would only take longer.
        """
        listed = saved(pixels, "JPEG2000", plt=True, **options)
        own, other = Codestream.of(data), Codestream.of(listed)
        lengths, count = other.lengths(listed), len(self.layers)
        if own.packets(data) != other.packets(listed) or not lengths or len(lengths) % count:
            return [own.end - own.begin] * count
        ends: list[int] = np.cumsum(lengths)[len(lengths) // count - 1 :: len(lengths) // count].tolist()
        return ends

    def _shortest(self, data: bytes, stream: Codestream, k: int, whole: Pixels, least: int, most: int) -> int:
        """The fewest bytes of packets, from `least` to `most`, that decode to layer k."""
        for size in range(most - 1, max(least, most - NEAR) - 1, -1):
            if not self.same(stream.cut(data, k, size), whole):
                return size + 1
        low, high = least, max(least, most - NEAR)
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.same(stream.cut(data, k, middle), whole) else (middle + 1, high)
        return low

    def within(self, pixels: Pixels, bits: float) -> Coded:
        """See `Contender`. A stream with one layer for that rate is made; if it is too large, one for a
        little less.
        """
        found = list(self.code(pixels))
        lossless = found[-1]
        if lossless.bits <= bits:
            return lossless
        for share in (1.0, 0.97, 0.94, 0.9):
            ratio = max(1.01, 24 * pixels.shape[0] * pixels.shape[1] / (share * bits))
            found.append(next(dataclasses.replace(self, layers=(ratio, 1)).code(pixels)))
            if found[-1].bits <= bits:
                break
        return dataclasses.replace(best_within(found, pixels, bits), setting="a layer for the rate")

    def same(self, data: bytes, whole: Pixels) -> bool:
        try:
            return np.array_equal(opened(data), whole)
        except (OSError, ValueError):
            return False


def jpeg2000(paper: bool) -> Contender:
    """One lossless JPEG2000 stream, progressive by quality. As published: for each k a file of its
    own with the first k layers.
    """
    if paper:
        common = {"format": "JPEG2000", "quality_mode": "rates", "irreversible": False}
        settings = {
            f"layer {k}": common | {"quality_layers": list(PAPER_LAYERS[:k])} for k in range(1, len(PAPER_LAYERS) + 1)
        }
        label = "JPEG2000, JP2, no colour transform"
        return Ladder("jpeg2000", label, settings, saved, opened, packets, OPENJPEG)
    return Layered("jpeg2000", "JPEG2000, 5/3, progressive", LAYERS, (("mct", 1), ("no_jp2", True)))


def jpeg2000_97(paper: bool) -> Ladder:
    """JPEG2000 with the irreversible 9/7 wavelet and colour transform: a file for each rate."""
    common = {"format": "JPEG2000", "quality_mode": "rates", "irreversible": True, "mct": 1, "no_jp2": True}

    def encode(pixels: Pixels, **options: Any) -> bytes:
        return saved(pixels, num_resolutions=resolutions(pixels), **options)

    settings = {f"ratio {r:g}": common | {"quality_layers": [r]} for r in RATIOS}
    dial = [common | {"quality_layers": [240 / 1.03**k]} for k in range(166)]
    versions = OPENJPEG | {"resolutions": "6, or down to eight pixels a side"}
    return Ladder("jpeg2000-97", "JPEG2000, 9/7", settings, encode, opened, packets, versions, dial)


def resolutions(pixels: Pixels) -> int:
    """Number of resolutions of a wavelet transform: the smallest has some eight pixels a side. It
    is 3 at 64 × 64, and 6 from 512 on.
    """
    smallest: int = min(pixels.shape[:2])
    return min(6, max(1, smallest.bit_length() - 4))


# --- other libraries


def jxl(paper: bool) -> Ladder:
    """JPEG XL as a bare codestream: lossy by distance, and lossless.

    Its headers, some ten bytes, are packed in bits. They count as payload.
    """
    try:
        import imagecodecs
    except ImportError as error:
        raise EvaluationError(f"jxl: {error}; pip install '.[eval]' in uqdm's folder") from None

    def encode(pixels: Pixels, **options: Any) -> bytes:
        return bytes(imagecodecs.jpegxl_encode(pixels, usecontainer=False, numthreads=1, **options))

    def decode(data: bytes) -> Pixels:
        return np.asarray(imagecodecs.jpegxl_decode(data, numthreads=1))

    lossless: dict[str, Any] = {"lossless": True, "effort": 7}
    settings = {f"d {d}": {"distance": float(d), "effort": 7} for d in JXL_DISTANCES} | {"lossless": lossless}
    versions = {"imagecodecs": str(imagecodecs.__version__), "libjxl": str(imagecodecs.jpegxl_version())}
    dial = [*({"distance": 25 / 1.05**k, "effort": 7} for k in range(140)), lossless]
    return Ladder("jxl", "JPEG XL", settings, encode, decode, len, versions, dial)


def heic(paper: bool, name: str = "heic", place: str = "") -> Ladder:
    """HEIC at 4:4:4 by x265; with `paper`, at 4:2:0."""
    try:
        import pillow_heif
    except ImportError as error:
        raise EvaluationError(f"{name}: {error}; pip install '.[eval]' in uqdm's folder") from None

    chroma = 420 if paper else 444

    def encode(pixels: Pixels, quality: int) -> bytes:
        out = io.BytesIO()
        pillow_heif.from_pillow(Image.fromarray(pixels)).save(out, quality=quality, chroma=chroma)
        return out.getvalue()

    def decode(data: bytes) -> Pixels:
        return np.asarray(pillow_heif.open_heif(io.BytesIO(data)).to_pillow().convert("RGB"))

    versions = {"pillow-heif": str(pillow_heif.__version__), "libheif": str(pillow_heif.libheif_version())}
    label = f"HEIC {':'.join(str(chroma))}{place}"
    return Ladder(name, label, _qualities(HEIC_QUALITIES), encode, decode, box_payload, versions, _dial())


def has_bpg() -> bool:
    """Whether its programs are on the PATH."""
    return shutil.which("bpgenc") is not None and shutil.which("bpgdec") is not None


def bpg(paper: bool) -> Contender:
    """BPG by `bpgenc` and `bpgdec` if they are on the PATH. Otherwise HEIC by x265, which is HEVC
    in other boxes, with a label that says so.
    """
    if not has_bpg():
        return heic(paper, "bpg", " in BPG's place")
    chroma, quantisers = ("420", PAPER_BPG_QUANTISERS) if paper else ("444", BPG_QUANTISERS)
    settings = {f"q {q}": f"-q {q}" for q in quantisers} | {"lossless": "-lossless"}
    encode = f"bpgenc -e jctvc -f {chroma} {{setting}} -o {{output}} {{input}}"
    label = f"BPG {':'.join(chroma)}"
    return Command("bpg", label, encode, "bpgdec -o {output} {input}", settings, suffix=".bpg")


def flif(paper: bool) -> Contender:
    """FLIF by its program, if that is on the PATH."""
    if shutil.which("flif") is None:
        raise EvaluationError("flif: the program is not on the PATH")
    settings = {"lossless": ""}
    return Command(
        "flif", "FLIF", "flif -e -E100 {setting} {input} {output}", "flif -d {input} {output}", settings, suffix=".flif"
    )


CLASSICAL: Mapping[str, Callable[[bool], Contender]] = {
    "jpeg": jpeg,
    "jpeg2000": jpeg2000,
    "jpeg2000-97": jpeg2000_97,
    "bpg": bpg,
    "jxl": jxl,
    "webp": webp,
    "avif": avif,
    "heic": heic,
    "png": png,
    "flif": flif,
}
