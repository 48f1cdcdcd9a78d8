"""Names to codecs: what `--codec` takes. A spec is small and plain, so that worker processes can
make their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import uqdm
from uqdm import library
from uqdm.errors import EvaluationError, UqdmError
from uqdm.evaluation import external
from uqdm.evaluation.classical import CLASSICAL, has_bpg
from uqdm.evaluation.codecs import Contender
from uqdm.evaluation.ours import Estimated, Gaussian, Progressive, opened_vdm

MODELS = ("uqdm", "uqdm-ancestral", "uqdm-flow")  # each may have :MODEL
GAUSSIAN = {"vdm": "denoise", "vdm-d": "denoise", "vdm-a": "ancestral", "vdm-f": "flow"}  # each may have :RUN and @T
# the run of a VDM without one, if uqdm runs from its repository
BASELINE = Path(uqdm.__file__).parents[2] / "checkpoints" / "tiny-vdm"
APART = (
    "takes seconds a picture: name vdm-d, vdm-a, vdm-f (@1000 for T = 1000), on fewer pictures, and show that with"
    " --beside"
)


@dataclass(frozen=True)
class Spec:
    """A codec by name.

    `paper` counts and sets it as in the paper. `described` is the file with an external codec's
    description. `seed` is for our codecs.
    """

    name: str
    paper: bool = False
    described: str | None = None
    seed: int = 0

    def make(self) -> Contender:
        """The codec. Raises `EvaluationError` if it is not known, or cannot run here."""
        if self.described is not None:
            return external.read(self.described)[self.name]
        kind, _, rest = self.name.partition(":")
        if kind in CLASSICAL and not rest:
            return CLASSICAL[kind](self.paper)
        if kind in MODELS:
            method = kind.partition("-")[2] or "denoise"
            model = rest or library.DEFAULT
            made = Estimated if self.paper else Progressive
            return made(self.name, str(library.find(model)), method=method, seed=self.seed)  # type: ignore[arg-type]
        name, _, last = self.name.partition("@") if self.name.rpartition("@")[2].isdecimal() else (self.name, "", "20")
        kind, _, run = name.partition(":")
        if kind in GAUSSIAN:
            steps, folder = int(last), Path(run) if run else BASELINE
            if steps < 1 or not (folder / "config.json").is_file():
                raise EvaluationError(
                    f"{self.name}: expected {kind}:RUN, perhaps @T, with a run in the folder RUN and T of at least 1"
                )
            opened_vdm(str(folder))
            return Gaussian(self.name, str(folder), GAUSSIAN[kind], steps, seed=self.seed)
        raise EvaluationError(f"codec {self.name!r}; {known()}")


def known() -> str:
    """What there is, in one line."""
    models = ", ".join(f"{m} or {m}:MODEL" for m in MODELS)
    gaussian = ", ".join(f"{g} or {g}:RUN" for g in GAUSSIAN)
    return (
        f"expected all, {', '.join(CLASSICAL)}, {models}, {gaussian} (@T behind it for T steps), or a name of an"
        " --external file"
    )


def specs(
    names: Sequence[str], paper: bool = False, described: Sequence[str] = (), seed: int = 0, lenient: bool = False
) -> tuple[list[Spec], dict[str, str]]:
    """Names to specs, in their order and each once; and the names left out, with the reason.

    `all` stands for every classical codec that can run here, the default model, and what is
    `described`. Of these, what cannot run is left out. Another name that cannot run raises
    `EvaluationError`, or what its model raises, unless `lenient`.
    """
    outside = {name: str(path) for path in described for name in external.read(path)}
    found: dict[str, Spec] = {}
    missing: dict[str, str] = {}
    if "all" in (names or ("all",)) and not any(name.startswith("vdm") for name in names):
        missing["vdm"] = APART
    for name in names or ("all",):
        for one in ("uqdm", *CLASSICAL, *outside) if name == "all" else (name,):
            if name == "all" and one == "heic" and not has_bpg():  # then it stands in BPG's place
                continue
            spec = Spec(one, paper, outside.get(one), seed)
            try:
                spec.make()
            except UqdmError as error:
                if name != "all" and not lenient:
                    raise
                missing[one] = str(error)
            else:
                found.setdefault(one, spec)
    return list(found.values()), missing
