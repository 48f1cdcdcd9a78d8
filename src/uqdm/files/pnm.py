"""What a file of the PNM family holds: PBM, PGM, PPM, plain or binary."""

from uqdm.files.facts import Facts, depth, frames

_SPACE = b" \t\n\r\v\f"


def look(data: bytes) -> Facts:
    """Raises `ValueError`, `IndexError` if the file is broken."""
    kind = data[1] - ord("0")
    count = 2 if kind in (1, 4) else 3
    numbers: list[int] = []
    at, comment = 2, False
    while len(numbers) < count:
        if data[at] in _SPACE:
            at += 1
        elif data[at] == ord("#"):
            comment = True
            while data[at] not in b"\r\n":
                at += 1
        else:
            begin = at
            while at < len(data) and data[at] not in _SPACE and data[at] != ord("#"):
                at += 1
            numbers.append(int(data[begin:at]))
    width, height = numbers[:2]
    most = numbers[2] if count == 3 else 1
    if width < 1 or height < 1 or not 1 <= most <= 65535:
        raise ValueError(f"a size of {width} × {height} and a greatest value of {most}")
    bits = most.bit_length()
    samples = 3 if kind in (3, 6) else 1
    several = False
    if kind > 3:
        row = (width + 7) // 8 if kind == 4 else width * samples * (2 if most > 255 else 1)
        # After the pixels there may be another picture, and not only an end of line.
        several = bool(data[at + 1 + row * height :].strip(_SPACE))
    reasons, _ = frames(2 if several else 1)
    lost = ("what comes after the first picture",) if several else ()
    if kind in (1, 4):
        reasons += (depth(1),)
    elif most > 255:
        reasons += (f"{depth(16)} (greatest value {most})",)
    elif most != 255:
        reasons += (f"a greatest value of {most}, not 255",)
    return Facts(
        "PNM", width, height, bits, samples == 1, reasons=reasons, dropped=("a comment",) if comment else (), lost=lost
    )
