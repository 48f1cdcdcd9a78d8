"""The Pillow plugin: `.uqdm` files in `Image.open` and `Image.save`. `docs/pillow.md` shows its
use.

    import uqdm.pillow                            # registers
    Image.open("photo.uqdm").load()               # reads the head, then decodes
    image.save("photo.uqdm", target_size=20_000)  # or step, bpp, psnr, max_error; lossless without

Importing this imports no model, no runtime and no NumPy, and neither does `Image.open`: it reads
the header and the metadata. What runs networks is imported by `load`, `draft` and `save`. Errors
about files and models are `OSError`, as Pillow's are; their cause is uqdm's own. Wrong options are
`ValueError` or `TypeError`.

A cut file is a file (`docs/format.md`): nothing in it says whether someone cut it on purpose or a
transfer broke. So it loads as the preview that it is, and `info` tells how far that goes.
`register(strict=True)` makes it an error.
"""

import contextlib
import io
import os
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any, BinaryIO, TypedDict, Unpack, cast

from PIL import Image, ImageFile, UnidentifiedImageError

from uqdm import format, goals
from uqdm.errors import NotUqdmError, UqdmError
from uqdm.format import Contents

if TYPE_CHECKING:
    from uqdm.codec import Codec, Decoded
    from uqdm.library import CodecPool
    from uqdm.picture import Picture

__all__ = ["Options", "UqdmImageFile", "register"]

NAME, EXTENSION, MIME = "UQDM", ".uqdm", "image/x-uqdm"
HALVINGS = 6  # the most that a decoder makes
LEFT_OUT = 2  # steps, of a draft that is then shrunk to a quarter of its sides or less


class Options(TypedDict, total=False):
    """What `register` takes. All but `model` and `strict` are as for `uqdm.load`.

    `model`: the name or path of the model that `save` uses. `strict`: a file that is not whole is
    an error, unless `ImageFile.LOAD_TRUNCATED_IMAGES` is set.
    """

    model: str | os.PathLike[str] | None
    strict: bool
    threads: int | None
    device: str
    backend: str | None
    coder: str | None
    max_pixels: int | None


_options: Options = {}
_pool: "CodecPool | None" = None


def register(**options: Unpack[Options]) -> None:
    """Registers the format with Pillow and changes the options that are given (see `Options`).

    Calling it again changes nothing else, and `import uqdm.pillow` has called it once. Raises
    `TypeError` for unknown options.
    """
    global _pool
    if unknown := sorted(set(options) - set(Options.__annotations__)):
        raise TypeError(f"register got {', '.join(unknown)}; expected {', '.join(Options.__annotations__)}")
    before = _machine()
    _options.update(options)
    if _machine() != before:
        _pool = None
    Image.register_open(NAME, UqdmImageFile, _accept)
    Image.register_save(NAME, _save)
    Image.register_save_all(NAME, _save_all)
    Image.register_extension(NAME, EXTENSION)
    Image.register_mime(NAME, MIME)


def _machine() -> dict[str, Any]:
    """The options that codecs are opened with."""
    return {name: value for name, value in _options.items() if name not in ("model", "strict")}


def _codecs() -> "CodecPool":
    """The codecs that are open in this process, with the registered options."""
    global _pool
    if _pool is None:
        from uqdm.library import CodecPool

        _pool = CodecPool(**_machine())
    return _pool


@contextlib.contextmanager
def _as_os_error(what: str) -> Iterator[None]:
    """Pillow's callers expect `OSError` from files."""
    try:
        yield
    except UqdmError as error:
        raise OSError(f"{what}: {error}") from error


# --- reading


def _accept(prefix: bytes) -> bool | str:
    """Whether a file begins as ours do; or what happened to it on the way."""
    if prefix[:4] == format.MAGIC[:4] and not prefix.startswith(format.MAGIC):
        return "a .uqdm file whose line ends were changed cannot be read: transfer it again, in binary mode"
    return prefix.startswith(format.MAGIC)


class UqdmImageFile(ImageFile.ImageFile):
    """A `.uqdm` file in Pillow, of mode L, LA, RGB or RGBA.

    `step`, `bpp`, `target_size`, `psnr`, `max_error`: set one before `load` to decode that beginning
    only (see `Codec.decompress`); by default it is all that is there.

    `info` has `model` (its name, or the beginning of its fingerprint if the file does not name it)
    and `steps` (those of a whole file), and `icc_profile`, `exif` and `xmp` where the file has them.
    After `load` it also has `step` (whole steps decoded), `partial` (whether a part of the next one
    was), `unverified` (bytes at the end that no check covers yet), and, unless `draft` made it
    smaller, `max_error` (no value of a pixel is further from the true one; 0 in a whole file, 255
    where nothing is known).
    """

    format = NAME
    format_description = "UQDM progressive image"

    def _open(self) -> None:
        """The header and the metadata. Damage in the metadata is `load`'s to tell."""
        self.step: int | None = None
        self.bpp: float | None = None
        self.target_size: int | None = None
        self.psnr: float | None = None
        self.max_error: int | None = None
        self._reduce = 0  # halvings, and
        self._fewer: int | None = None  # steps that `draft` has found to be enough
        assert self.fp is not None
        try:
            reader = format.ChunkReader(
                cast(BinaryIO, self.fp), steps=0, max_pixels=None, salvage=True
            )  # Pillow has a limit of its own
        except NotUqdmError as error:
            raise SyntaxError(str(error)) from error
        except UqdmError as error:
            raise UnidentifiedImageError(f"{self._what}: {error}") from error
        self._header = header = reader.header
        self._size = header.width, header.height
        self._mode = ("L" if header.grey else "RGB") + ("A" if header.alpha else "")
        self.info |= {"model": header.model or header.fingerprint.hex(), "steps": header.chunks}
        chunks = iter(reader)
        while (
            not header.compact
            and (tag := self.fp.read(1))
            and tag[0]
            in (
                format.INDEX,
                format.ICC,
                format.EXIF,
                format.XMP,
            )
        ):
            self.fp.seek(-1, os.SEEK_CUR)
            if (chunk := next(chunks, None)) is None:
                break
            if chunk.kind == format.INDEX:
                continue
            name, prefix = {
                format.ICC: ("icc_profile", b""),
                format.EXIF: ("exif", b"Exif\0\0"),
                format.XMP: ("xmp", b""),
            }[chunk.kind]
            self.info[name] = prefix + chunk.payload
        self.tile = [ImageFile._Tile("raw", (0, 0, *self.size), 0, self.mode)]

    @property
    def _what(self) -> str:
        """The file's name in errors."""
        return os.fsdecode(self.filename) if self.filename else "the .uqdm file"

    def draft(self, mode: str | None, size: tuple[int, int] | None) -> tuple[str, tuple[int, int, float, float]] | None:
        """Prepares `load` to decode less, for a picture that will not be larger than `size` (width,
        height), as `thumbnail` does.

        If the file's model can, the sides are halved as often as they stay at least that large.
        With other models the last two steps are left out, where the sides will be a quarter or
        less. Returns the mode and the place of the whole picture in the loaded one (left, top,
        right, bottom), or None if nothing is saved. `mode` is ignored. A second call before `load`
        replaces the first.
        """
        if not self.tile or not size:
            return None
        whole = self._header.width, self._header.height
        self._reduce, self._fewer, self._size = 0, None, whole
        halvings, smaller = 0, whole
        while halvings < HALVINGS and max(smaller) > 2:
            after = (smaller[0] + 1) // 2, (smaller[1] + 1) // 2
            if after[0] < size[0] or after[1] < size[1]:
                break
            halvings, smaller = halvings + 1, after
        if not halvings:
            return None
        try:
            walk = self._codec().match(self._header)
        except UqdmError:
            return None  # `load` says it
        if walk.reduced(halvings) is not None:
            self._reduce, self._size = halvings, smaller
            # A value of a reduced picture stands for the first pixel of each square, not for its
            # middle.
            scale = 2**halvings
            shift = 0.5 - 0.5 / scale
            box: Any = (
                shift,
                shift,
                min(whole[0] / scale + shift, smaller[0]),
                min(whole[1] / scale + shift, smaller[1]),
            )
            return self.mode, box
        if halvings < 2 or self._header.chunks <= LEFT_OUT:
            return None
        self._fewer = self._header.chunks - LEFT_OUT
        return self.mode, (0, 0, *whole)

    def load(self) -> Any:
        """Decodes the pixels, once. Of a cut file it is the preview of what is there.

        Raises `OSError` for a damaged file, for one that ends before its picture begins, and with
        `register(strict=True)` for one that is not whole. `ImageFile.LOAD_TRUNCATED_IMAGES` gives
        the preview of what there is in each case. Raises it too where the file's model is not here.
        """
        if self.tile:
            with _as_os_error(self._what):
                pixels = self._decoded()
            if self.fp and self._exclusive_fp:
                self.fp.close()
            self.fp = io.BytesIO(pixels)
            self.tile = [ImageFile._Tile("raw", (0, 0, *self.size), 0, self.mode)]
        return super().load()

    def load_seek(self, pos: int) -> None:
        """Pillow maps no file into memory where this is."""

    def verify(self) -> None:
        """Checks every byte and decodes nothing; then the file is closed. Raises `OSError` where
        `load` would.
        """
        try:
            with _as_os_error(self._what):
                self._checked(self._bytes(), lenient=False)
        finally:
            super().verify()

    def _bytes(self) -> bytes:
        if self.fp is None:
            raise OSError(f"{self._what}: the file is closed; open it again")
        self.fp.seek(0)
        return self.fp.read()

    def _codec(self) -> "Codec":
        return _codecs().open_for(format.write_header(self._header))

    def _checked(self, data: bytes, lenient: bool) -> Contents:
        """The chunks, if `load` may decode them (see there)."""
        if lenient:
            return format.parse(data, max_pixels=None, salvage=True)
        help = "ImageFile.LOAD_TRUNCATED_IMAGES = True gives the preview of what is there"
        try:
            contents = format.parse(data, max_pixels=None)
        except UqdmError as error:
            raise OSError(f"{self._what} is damaged: {error}. {help}") from error
        header, there = contents.header, len(contents.steps)
        if not goals.shows(contents):
            raise OSError(f"{self._what} is truncated: it ends at byte {len(data)}, before the picture begins. {help}")
        if _options.get("strict") and there < header.chunks and contents.payload(format.CORRECTION) is None:
            raise OSError(
                f"{self._what} is not whole: it ends at byte {len(data)}, after step {there} of {header.chunks}. {help}"
            )
        return contents

    def _decoded(self) -> bytes:
        """The pixels as Pillow's raw decoder takes them: row by row, `mode` says how many bytes
        each.
        """
        import numpy as np

        lenient, data = ImageFile.LOAD_TRUNCATED_IMAGES, self._bytes()
        contents = self._checked(data, lenient)
        goal = {name: value for name in goals.EXPECTED if (value := getattr(self, name)) is not None}
        if not goal and self._fewer is not None and self._fewer <= len(contents.steps):
            goal = {"step": self._fewer}
        found: Decoded = self._codec().decode(data, reduce=self._reduce, salvage=lenient, **goal)
        array = found.image
        if self._header.alpha and found.picture.alpha is None:  # the file ends before it
            array = np.dstack([array, np.full(array.shape[:2], 255, np.uint8)])
        self._size = array.shape[1], array.shape[0]
        self.info |= {"step": found.step, "partial": found.partial, "unverified": found.tail}
        if not self._reduce:
            self.info["max_error"] = found.bound
        return array.tobytes()


# --- writing


def _save_all(image: Image.Image, file: IO[bytes], name: str | bytes) -> None:
    raise ValueError(
        "a .uqdm file holds one picture: save_all and append_images are not supported; save each picture to a file of"
        " its own"
    )


def _save(image: Image.Image, file: IO[bytes], name: str | bytes) -> None:
    """Pillow's save handler. Raises `OSError` for modes that are not written and whatever cannot be
    made, and `ValueError` or `TypeError` for options.
    """
    options = image.encoderinfo
    goal = {name: options[name] for name in goals.EXPECTED if options.get(name) is not None}
    goals.Goal(**goal)
    picture = _picture(image)
    what = f"cannot write {os.fsdecode(name)}" if name else "cannot write UQDM"
    with _as_os_error(what):
        data = _chosen(options.get("model")).compress(picture, index=options.get("index", True), **goal)
        if not goals.shows(format.parse(data, max_pixels=None)):
            raise OSError(f"{what}: with {goal} nothing is left of the picture; ask for more")
    file.write(data)


def _chosen(model: Any) -> "Codec":
    """The codec of a model, or of the registered one, or of the default."""
    model = model or _options.get("model")
    return _codecs().load() if model is None else _codecs().load(model)


def _picture(image: Image.Image) -> "Picture":
    """What an image shows, in 8-bit grey or RGB, with its metadata. Raises `OSError` for modes that
    these do not hold exactly.
    """
    import numpy as np

    from uqdm.picture import Picture, from_array

    modes = {"1": "L", "L": "L", "LA": "L", "P": "RGB", "PA": "RGB", "RGB": "RGB", "RGBA": "RGB"}
    if image.mode not in modes:
        raise OSError(
            f"cannot write mode {image.mode} as UQDM; expected {', '.join(modes)}: convert the image first, with"
            " image.convert"
        )
    if 0 in image.size:
        raise OSError(f"cannot write an image of {image.width} × {image.height} as UQDM; expected at least one pixel")
    mode = modes[image.mode] + ("A" if image.has_transparency_data else "")
    bare = from_array(np.asarray(image if image.mode == mode else image.convert(mode)))
    info, options = image.info, image.encoderinfo
    icc = options.get("icc_profile", info.get("icc_profile"))
    exif = options.get("exif", info.get("exif"))
    if isinstance(exif, Image.Exif):
        exif = exif.tobytes() if exif else None
    xmp = options.get("xmp", info.get("xmp") or info.get("XML:com.adobe.xmp"))
    return Picture(bare.pixels, bare.alpha, _blob("icc_profile", icc), _blob("exif", exif), _blob("xmp", xmp))


def _blob(name: str, value: Any) -> bytes | None:
    if isinstance(value, str):
        value = value.encode()
    if not isinstance(value, bytes | bytearray | memoryview | None):
        raise TypeError(f"save got {name} of type {type(value).__name__}; expected bytes, or None to leave it out")
    return bytes(value or b"").removeprefix(b"Exif\0\0" if name == "exif" else b"") or None


register()
