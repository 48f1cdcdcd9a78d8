"""Names to codecs: what `--codec` takes. A spec is small and plain, so that worker processes can make their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from uqdm import package
from uqdm.errors import EvaluationError, UqdmError
from uqdm.evaluation import external
from uqdm.evaluation.classical import CLASSICAL, has_bpg
from uqdm.evaluation.codecs import Codec
from uqdm.evaluation.ours import Estimated, Gaussian, Progressive

MODELS = ("uqdm", "uqdm-ancestral", "uqdm-flow")  # each perhaps with :MODEL
GAUSSIAN = {"vdm": "denoised", "vdm-d": "denoised", "vdm-a": "ancestral", "vdm-f": "flow"}  # each with :RUN, perhaps :RUN@T


@dataclass(frozen=True)
class Spec:
    """A codec by name. `paper`: counted and set as in the paper; `described`: the file that has it, of an external one."""

    name: str
    paper: bool = False
    described: str | None = None

    def make(self) -> Codec:
        """The codec. Raises `EvaluationError` for what is not known, or cannot run here."""
        if self.described is not None:
            return external.read(self.described)[self.name]
        kind, _, rest = self.name.partition(":")
        if kind in CLASSICAL and not rest:
            return CLASSICAL[kind](self.paper)
        if kind in MODELS:
            method = kind.partition("-")[2] or "denoise"
            model = rest or package.DEFAULT
            made = Estimated if self.paper else Progressive
            return made(self.name, str(package.find(model)), method=method)  # type: ignore[arg-type]
        if kind in GAUSSIAN and rest:
            run, _, steps = rest.partition("@")
            if not (Path(run) / "config.json").is_file():
                raise EvaluationError(f"{self.name}: no run in {run}")
            return Gaussian(self.name, run, GAUSSIAN[kind], int(steps) if steps else 20)
        raise EvaluationError(f"codec {self.name!r}; {known()}")


def known() -> str:
    """What there is, in a line."""
    models = ", ".join(f"{m} or {m}:MODEL" for m in MODELS)
    gaussian = ", ".join(f"{g}:RUN" for g in GAUSSIAN)
    return f"expected all, {', '.join(CLASSICAL)}, {models}, {gaussian} (RUN@T for T steps), or a name of an --external file"


def specs(names: Sequence[str], paper: bool = False, described: Sequence[str] = ()) -> tuple[list[Spec], dict[str, str]]:
    """Names to specs, in their order, each once; and what `all` leaves out, with the reason.

    `all`: every classical codec that can run here, and the default model. Raises `EvaluationError` for others that cannot.
    """
    outside = {name: str(path) for path in described for name in external.read(path)}
    found: dict[str, Spec] = {}
    missing: dict[str, str] = {}
    for name in names or ("all",):
        if name in outside:
            found[name] = Spec(name, paper, outside[name])
        elif name == "all":
            for one in ("uqdm", *CLASSICAL, *outside):
                if one == "heic" and not has_bpg():  # then it stands in BPG's place
                    continue
                spec = Spec(one, paper, outside.get(one))
                try:
                    spec.make()
                except UqdmError as error:
                    missing[one] = str(error)
                else:
                    found.setdefault(one, spec)
        else:
            spec = Spec(name, paper)
            spec.make()
            found[name] = spec
    return list(found.values()), missing
