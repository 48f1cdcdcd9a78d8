"""Places in a file and their PSNR: what the curve under the slider shows. Knows no codec.

Places are measured one after the other in the background: the ends of steps first, then some inside
each step. Whatever else knows places and their PSNR belongs behind `QualityCurve` too.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from uqdm.format import Contents, ends
from uqdm.walk import Progress

INSIDE = 2  # places inside each step


@dataclass(frozen=True)
class PrefixQuality:
    """The first `size` bytes, and the PSNR in dB of what they show: infinite for an exact picture,
    None where there is nothing to compare with (yet).
    """

    size: int
    psnr: float | None


Measure = Callable[[int, Progress], PrefixQuality]


def places(contents: Contents, first: int) -> list[int]:
    """Sizes that are worth measuring, in that order; none is below `first` or ends behind what is
    there.
    """
    found = ends(contents)
    inside = [
        low + (high - low) * i // (INSIDE + 1) for low, high in itertools.pairwise(found) for i in range(1, INSIDE + 1)
    ]
    last = [contents.chunks[-1].end] if contents.chunks else []  # a correction ends behind the last step
    return [size for size in dict.fromkeys([*found[1:], *last, *inside]) if size >= first]


class QualityCurve:
    """The points of one file. `places`: see there. `measure`: measures one. `comparable`: whether
    there is something to compare with by now.
    """

    def __init__(self, places: Callable[[], list[int]], measure: Measure, comparable: Callable[[], bool]) -> None:
        self._places, self._measure, self._comparable = places, measure, comparable
        self._found: dict[int, PrefixQuality] = {}

    def advance(self, progress: Progress) -> bool:
        """Measures one more place. Returns whether there was one."""
        for size in self._places():
            point = self._found.get(size)
            if point is None or (point.psnr is None and self._comparable()):
                self._found[size] = self._measure(size, progress)
                return True
        return False

    def points(self) -> list[PrefixQuality]:
        """What has been measured, by ascending size."""
        return [self._found[size] for size in sorted(self._found)]

    @property
    def done(self) -> bool:
        """Whether all that can be measured now has been."""
        comparable = self._comparable()
        return all(
            size in self._found and not (comparable and self._found[size].psnr is None) for size in self._places()
        )
