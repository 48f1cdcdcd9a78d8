"""Picture files in, uint8 arrays and metadata out, and back; knows nothing of models or of the .uqdm format.

A picture is taken as it is or refused: whatever would change its values (16 bits, palettes, CMYK, more than one frame) happens only
with `convert=True`. Orientation from EXIF is carried with the metadata, not applied, so the pixels stay those of the file.
"""

import io
import os
import stat
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, PngImagePlugin, UnidentifiedImageError

from uqdm import atomic
from uqdm.errors import DamagedError, ImageError, LimitError, OutputError

MAX_PIXELS = 1 << 26  # the same as the container's

Bytes8 = NDArray[np.uint8]

# What a format is told besides the metadata: lossless where it can be, else close to it.
_SAVE: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True, "exact": True},
    "TIFF": {"compression": "tiff_deflate"},
}
_EXIF_MARK = b"Exif\x00\x00"  # JPEG's prefix; the metadata is carried without it


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels and what came with them.

    `pixels`: uint8 (H, W, C), C = 1 (grey) or 3 (RGB). `alpha`: uint8 (H, W), 255 is opaque, or None. `icc`, `exif` (from its TIFF
    header on), `xmp`: as found in the file, or None. Raises `ImageError` for arrays of other shapes or types.
    """

    pixels: Bytes8
    alpha: Bytes8 | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 3 or shape[2] not in (1, 3) or 0 in shape:
            raise ImageError(f"pixels are {self.pixels.dtype} of shape {shape}; expected uint8 (H, W, 1) or (H, W, 3), not empty")
        if self.alpha is not None and (self.alpha.dtype != np.uint8 or self.alpha.shape != shape[:2]):
            raise ImageError(f"alpha is {self.alpha.dtype} of shape {self.alpha.shape}; expected uint8 {shape[:2]}")


# --- arrays ----------------------------------------------------------------------------------------------------------------------


def from_array(array: NDArray[Any]) -> Picture:
    """A picture from uint8 (H, W) or (H, W, 1) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB, (H, W, 4) RGB and alpha.

    Raises `ImageError` for other shapes and for other types, which are never converted: a float image may mean anything.
    """
    array = np.asarray(array)
    if array.dtype != np.uint8:
        raise ImageError(f"the array is {array.dtype}; expected uint8, 0 to 255")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or not 1 <= array.shape[2] <= 4 or 0 in array.shape:
        raise ImageError(f"the array has shape {array.shape}; expected (H, W) or (H, W, C) with C from 1 to 4, not empty")
    channels = 1 if array.shape[2] <= 2 else 3
    has_alpha = array.shape[2] in (2, 4)
    return Picture(np.ascontiguousarray(array[:, :, :channels]), np.ascontiguousarray(array[:, :, -1]) if has_alpha else None)


def is_pillow(value: object) -> bool:
    """Whether `value` is a Pillow image."""
    return isinstance(value, Image.Image)


def from_pillow(image: Image.Image) -> Picture:
    """A picture from a Pillow image of mode L, LA, RGB or RGBA, with its transparency and metadata.

    Raises `ImageError` for other modes and for 16-bit files. Pillow forgets that a colour file had 16 bits once it is loaded; `read`,
    which opens the file itself, does not.
    """
    why = _needs_conversion(image, b"")
    if why:
        raise ImageError(f"the Pillow image has {why}; only 8-bit grey or RGB, with or without alpha, is taken: convert it first")
    return _picture(image, sixteen=False)


def to_array(picture: Picture) -> Bytes8:
    """uint8 (H, W) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB, or (H, W, 4) RGB and alpha."""
    if picture.alpha is not None:
        return np.concatenate([picture.pixels, picture.alpha[:, :, None]], axis=2)
    return picture.pixels[:, :, 0] if picture.pixels.shape[2] == 1 else picture.pixels


# --- reading ---------------------------------------------------------------------------------------------------------------------


def read(source: str | os.PathLike[str] | bytes | BinaryIO, convert: bool = False, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """A picture from a path, from the bytes of a picture file, or from an open binary file.

    Taken as they are: 8-bit grey and RGB, each with or without alpha or one transparent colour. With `convert`, also: 16 bits (the
    high byte is kept), 1 bit, palettes (RGB, or RGBA where entries are transparent), CMYK and other colour spaces (by Pillow's
    formulas, not by their ICC profile, which is dropped), floats (0 to 1 is taken as 0 to 255; other ranges are clipped), and the
    first frame of several. Raises `ImageError` for anything else, for files that are empty, broken or not pictures, and `LimitError`
    above `max_pixels`.
    """
    name, data = _bytes_of(source)
    if not data:
        raise ImageError(f"{name} is empty; expected a picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is ours
            image = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise LimitError(f"{name}: {error}") from error
    except Exception as error:
        raise ImageError(f"{name} is not a picture that can be read: {_reason(error)}") from error
    with image:
        if image.width * image.height > max_pixels:
            raise LimitError(
                f"{name} is {image.width} × {image.height}, {image.width * image.height} pixels; the limit is {max_pixels}: "
                "raise it with max_pixels"
            )
        try:
            why = _needs_conversion(image, data)
            if why and not convert:
                raise ImageError(f"{name} has {why}; only 8-bit grey or RGB, with or without alpha, is taken as it is: use --convert")
            image.load()
            return _picture(image, sixteen=why is not None and why.startswith("16 bits"))
        except (ImageError, MemoryError):
            raise
        except Image.DecompressionBombError as error:
            raise LimitError(f"{name}: {error}") from error
        except Exception as error:  # what Pillow raises for a broken file depends on its format and on where it is broken
            raise ImageError(f"{name} is broken or cut, it cannot be decoded: {_reason(error)}") from error


def _bytes_of(source: str | os.PathLike[str] | bytes | BinaryIO) -> tuple[str, bytes]:
    if isinstance(source, bytes):
        return "the picture", source
    if isinstance(source, str | os.PathLike):
        try:
            return os.fspath(source), Path(source).read_bytes()
        except OSError as error:
            raise ImageError(f"{os.fspath(source)} cannot be read: {error.strerror}") from error
    return str(getattr(source, "name", "the picture")), source.read()


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return "of no known format" if isinstance(error, UnidentifiedImageError) else text


def _needs_conversion(image: Image.Image, data: bytes) -> str | None:
    """Why the picture would not come out as it went in, or None."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # MPO is what phones write: a JPEG with a second picture for depth or preview
        return f"{frames} frames"
    if _bits(image, data) == 16:
        # Pillow gives 16-bit colour as mode RGB, with the low bytes thrown away: it must be asked before that.
        return f"16 bits a channel (mode {image.mode})"
    names = {"1": "1 bit a pixel", "P": "a palette", "PA": "a palette", "F": "float values", "I": "32-bit integers"}
    if image.mode in names:
        return f"{names[image.mode]} (mode {image.mode})"
    return None if image.mode in ("L", "LA", "RGB", "RGBA") else f"mode {image.mode}"


def _bits(image: Image.Image, data: bytes) -> int:
    """16 where the file has more than 8 bits a channel, else 8."""
    if image.mode.startswith("I;16"):
        return 16
    if image.format == "PNG" and len(data) > 24:
        return 16 if data[24] == 16 else 8  # IHDR is always first; its ninth byte is the depth
    # (decoder, box, offset, arguments): the raw mode, and for PPM the greatest value
    for tile in image.tile if isinstance(image, ImageFile.ImageFile) else ():
        for argument in tile[3] if isinstance(tile[3], tuple) else (tile[3],):
            if (isinstance(argument, str) and ";16" in argument) or (
                tile[0].startswith("ppm") and isinstance(argument, int) and argument > 255
            ):
                return 16
    return 8


def _picture(image: Image.Image, sixteen: bool) -> Picture:
    icc, exif, xmp = (image.info.get(key) for key in ("icc_profile", "exif", "xmp"))
    xmp = xmp or image.info.get("XML:com.adobe.xmp")
    transparent = "transparency" in image.info
    mode = image.mode
    if mode.startswith("I") and sixteen:
        array = (np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8)
    elif mode.startswith("I"):
        array = np.asarray(image).astype(np.int64).clip(0, 255).astype(np.uint8)
    elif mode == "F":
        values = np.nan_to_num(np.asarray(image, dtype=np.float64), nan=0.0)
        array = np.rint((values * 255 if values.max() <= 1 else values).clip(0, 255)).astype(np.uint8)
    elif mode in ("1", "L", "LA", "La"):
        array = np.asarray(image.convert("LA" if transparent or mode in ("LA", "La") else "L"))
    else:
        array = np.asarray(image.convert("RGBA" if transparent or mode in ("RGBA", "RGBa", "PA") else "RGB"))
        if mode not in ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX"):
            icc = None  # of another colour space
    bare = from_array(array)
    return Picture(bare.pixels, bare.alpha, _blob(icc), _blob(exif), _blob(xmp))


def _blob(value: Any) -> bytes | None:
    data: bytes = value.encode() if isinstance(value, str) else bytes(value or b"")
    return data.removeprefix(_EXIF_MARK) or None


# --- writing ---------------------------------------------------------------------------------------------------------------------


def encode(picture: Picture, format: str = "PNG") -> bytes:
    """The bytes of a picture file, with the metadata that the format and the installed Pillow carry.

    `format`: one of Pillow's names. PNG, TIFF and WebP are written lossless. Raises `OutputError` where the format cannot hold the
    picture, such as alpha in JPEG.
    """
    format = format.upper()
    image = Image.fromarray(to_array(picture))
    options = dict(_SAVE.get(format, {}))
    if picture.icc:
        options["icc_profile"] = picture.icc
    if picture.exif:
        options["exif"] = _EXIF_MARK + picture.exif
    if picture.xmp and format == "PNG":
        chunks = PngImagePlugin.PngInfo()
        chunks.add_itxt("XML:com.adobe.xmp", picture.xmp.decode("utf-8", "replace"))
        options["pnginfo"] = chunks
    elif picture.xmp:
        options["xmp"] = picture.xmp
    out = io.BytesIO()
    try:
        image.save(out, format, **options)
    except (OSError, KeyError, ValueError) as error:
        raise OutputError(f"the picture (mode {image.mode}) cannot be written as {format}: {error}") from error
    return out.getvalue()


def write(picture: Picture, target: str | os.PathLike[str] | BinaryIO, format: str | None = None, *, force: bool = False) -> None:
    """Writes a picture file, to a path (whole or not at all) or to an open binary file.

    `format`: one of Pillow's names; by default that of the path's suffix, else PNG. `force`: replace what is at the path. Raises
    `OutputError`, for an unknown suffix too.
    """
    if not isinstance(target, str | os.PathLike):
        target.write(encode(picture, format or "PNG"))
        return
    write_atomic(target, encode(picture, format or format_of(target)), force)


def format_of(path: str | os.PathLike[str]) -> str:
    """Pillow's name of the format that a path's suffix asks for; PNG without a suffix. Raises `OutputError` for unknown ones."""
    suffix = Path(path).suffix.lower()
    if not suffix:
        return "PNG"
    name = Image.registered_extensions().get(suffix)
    if name is None or name not in Image.SAVE:
        raise OutputError(f"{os.fspath(path)}: pictures cannot be written with the suffix {suffix}; use .png")
    return name


def check_target(path: str | os.PathLike[str], force: bool) -> None:
    """Raises the `OutputError` that `write_atomic` would raise, as far as it can be known before the work is done."""
    target = Path(path)
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        mode = None
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror}") from error
    if mode is not None and stat.S_ISDIR(mode):
        raise OutputError(f"{target} is a folder; expected the name of a file to write")
    if mode is not None and stat.S_ISREG(mode) and not force:
        raise OutputError(f"{target} exists already; use --force to replace it")
    if mode is not None and not os.access(target, os.W_OK):
        raise OutputError(f"{target} is write-protected")
    folder = target.resolve().parent
    if mode is None or stat.S_ISREG(mode):
        if not folder.is_dir():
            raise OutputError(f"{target} cannot be written: the folder {folder} does not exist")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(f"{target} cannot be written: the folder {folder} is write-protected")


def write_atomic(path: str | os.PathLike[str], data: bytes, force: bool = False) -> None:
    """Writes a file beside its place and then renames it, so that it is there whole or not at all.

    Raises `OutputError`: something is there already and not `force`, it or its folder is write-protected, the folder is missing, the
    disk is full. Devices and pipes are written to directly.
    """
    check_target(path, force)
    try:
        atomic.write(path, data)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"{os.fspath(path)} cannot be written: {error.strerror}") from error


# --- alpha -----------------------------------------------------------------------------------------------------------------------

_CONSTANT, _PLAIN, _LEFT, _UP, _BOTH = 0, 1, 2, 3, 4


def pack_alpha(alpha: Bytes8) -> bytes:
    """An alpha plane, uint8 (H, W), losslessly: one byte that names the filter, then the value of a constant plane, or the filtered
    plane in zlib's format. Of the four filters the shortest result is taken, the first of equals."""
    if (alpha == alpha.flat[0]).all():
        return bytes([_CONSTANT, int(alpha.flat[0])])
    candidates = [bytes([kind]) + zlib.compress(_filtered(alpha, kind).tobytes(), 9) for kind in (_PLAIN, _LEFT, _UP, _BOTH)]
    return min(candidates, key=len)


def unpack_alpha(data: bytes, height: int, width: int) -> Bytes8:
    """The alpha plane, uint8 (height, width). Allocates nothing beyond it: a plane that would unpack to more is refused.

    Raises `DamagedError`: unknown filter, broken data, too few or too many values.
    """
    kind = data[0] if data else -1
    if kind == _CONSTANT and len(data) == 2:
        return np.full((height, width), data[1], np.uint8)
    if kind not in (_PLAIN, _LEFT, _UP, _BOTH):
        raise DamagedError(f"alpha plane: unknown filter {kind}, or a length of {len(data)} that does not fit it")
    size = height * width
    unpacker = zlib.decompressobj()
    try:
        values = unpacker.decompress(data[1:], size + 1)
    except zlib.error as error:
        raise DamagedError(f"alpha plane: broken data ({error})") from error
    if len(values) != size or not unpacker.eof or unpacker.unused_data:
        raise DamagedError(f"alpha plane: {len(values)} values or data left over; expected exactly {size} values")
    plane = np.frombuffer(values, np.uint8).reshape(height, width)
    if kind in (_LEFT, _BOTH):
        plane = np.cumsum(plane, axis=1, dtype=np.uint8)  # wraps at 256, as the differences did
    if kind in (_UP, _BOTH):
        plane = np.cumsum(plane, axis=0, dtype=np.uint8)
    return plane.copy() if kind == _PLAIN else plane


def _filtered(alpha: Bytes8, kind: int) -> Bytes8:
    """Differences modulo 256 to the left neighbour, to the one above, or one after the other."""
    if kind in (_LEFT, _BOTH):
        alpha = np.diff(alpha, axis=1, prepend=np.uint8(0)).astype(np.uint8)
    if kind in (_UP, _BOTH):
        alpha = np.diff(alpha, axis=0, prepend=np.uint8(0)).astype(np.uint8)
    return alpha
