"""The trainer: batches of pictures in, a run's folder out. Knows no files of pictures and writes no
bit streams.

A run is one record with one counter. What happens at a step follows from the seed and the step
alone: which pictures, which noise. So a run that was killed goes on from its last checkpoint as if
nothing had been, bit by bit on a CPU, and the same command with more steps goes on where it
stopped. The folder holds `config.json`, the resolved configuration; `checkpoint.safetensors`,
written beside its place and renamed; `metrics.jsonl`, with one line for each report; and `events/`,
the same for TensorBoard if that is installed.

A checkpoint is written every so many steps, every SAVED minutes, and when Ctrl-C or SIGTERM stops
the run. The current step ends first; a second Ctrl-C does not wait for it. Besides the reports,
lines say how training goes, often at first. No file holds them.

One step is `accumulate` batches a process, each a slice with its own seed. Two processes of one
slice see what one process of two slices sees. `torchrun` starts several processes, one for each
device, and every one gets its own slices of the same stream. How many slices a step has belongs to
the run: it goes on with another number of processes, if they can share the slices out evenly.
"""

import dataclasses
import itertools
import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import get_ema_multi_avg_fn

from uqdm import atomic
from uqdm.config import Config, read_config, to_json
from uqdm.errors import CheckpointError, TrainingError
from uqdm.families import registry
from uqdm.families.floats import Floats
from uqdm.families.torch.held_out import Evaluation
from uqdm.training import runs
from uqdm.training.captured import Captured
from uqdm.training.reports import Log, Occasions, Window
from uqdm.training.state import Objective, TrainingState, mixed

AGAIN = "the same command goes on from there"
EXPLODED = 20  # times the running mean of the loss; no run recovers from there
MAY_CHANGE = (  # keys of the section `training` that may differ when a run goes on
    "n_steps", "log_metrics_every_steps", "checkpoint_every_steps", "eval_every_steps", "eval_steps_to_run", "compile",
)  # fmt: skip
SAVED = 5.0  # minutes after which a checkpoint is written, wherever the steps are
TOGETHER = 8  # steps after which several processes ask one another whether to save or to stop


class Stream(Protocol):
    """Batches as a function of the step. `uqdm.training.data.Batches` is one."""

    batch_size: int

    def ahead(self, numbers: Iterable[int]) -> Iterator[Tensor]:
        """The batches of these numbers, in their order: uint8 (B, C, H, W). Closing the iterator
        ends what reads ahead.
        """


class Stopped(KeyboardInterrupt):
    """A signal stopped the run, and its checkpoint is written. `number` is the signal's."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


class _Listening:
    """Ctrl-C and SIGTERM in this block are kept in `number` until they are asked for. A second one
    raises `KeyboardInterrupt`.

    Only the main thread can listen. In other threads signals do what they always do.
    """

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "_Listening":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._hear) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _hear(self, number: int, frame: Any) -> None:
        if self.number:
            raise KeyboardInterrupt
        self.number = number


def train(
    config: Config,
    data: Stream,
    held: Any,
    out: str | Path,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    device: str | None = None,
    start: runs.Model | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> TrainingState:
    """Trains a model of `config` on `data` in the folder `out`, and evaluates its averages on
    `held`. Goes on if a run is there.

    `steps` is the number of optimiser steps from the run's beginning, by default the config's.
    `minutes` is the time of training from the run's beginning. The run stops at whichever comes
    first. `start` is a model whose weights to begin with. Under `torchrun` every process calls
    this.

    Raises `TrainingError` if the loss is not finite or has exploded (the last checkpoint stays), or
    if `out` is another run's. Raises `Stopped`, a `KeyboardInterrupt`, if Ctrl-C or SIGTERM stopped
    it, once a checkpoint is written.
    """
    out = Path(out)
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    where = torch.device(device or (f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"))
    total = steps if steps is not None else config.training.n_steps
    if minutes is not None and steps is None and config.optim.decay == "constant":
        total = 1 << 62
    check_folder(out, config)
    state = TrainingState.new(config, seed, where, start)
    path = out / runs.CHECKPOINT
    if rank == 0:
        out.mkdir(parents=True, exist_ok=True)
        atomic.sweep(out)
        atomic.write(out / "config.json", to_json(config))
    if world > 1:
        dist.barrier()
    if path.exists():
        state.load(path, seed)
    _check_alike(out, state.step, where)
    share = share_of(out, state.slices or config.training.accumulate * world, world)
    state.slices = share * world
    if state.step and rank == 0:
        each = f"; {world} {'process' if world == 1 else 'processes'}, {share} batches each"
        each *= share != config.training.accumulate
        say(f"{out}: going on from step {state.step}{each}")
    floats: Floats = registry.floats(config.family)
    objective: nn.Module = Objective(state.model, floats, config.training.loss)
    if config.training.compile and floats.network is not None:
        floats.network(state.model).compile()
    if world > 1:
        objective = DistributedDataParallel(objective, device_ids=[where.index] if where.type == "cuda" else None)
    # Some models compute in pixel values, for which the 10 bits of TF32 are too few. What should be
    # fast is in bfloat16 anyway.
    with _Listening() as listening, torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        _Run(config, state, objective, out, seed, rank, world, share, where, total, minutes, held, say, listening)(data)
    return state


@dataclasses.dataclass
class _Run:
    config: Config
    state: TrainingState
    objective: nn.Module
    out: Path
    seed: int
    rank: int
    world: int
    share: int  # batches of a step that are this process's
    device: torch.device
    total: int
    minutes: float | None
    held: Any
    say: Callable[[str], None]
    listening: _Listening
    kept: int = 0  # the step that the checkpoint holds
    captured: Captured | None = None

    def __post_init__(self) -> None:
        c = self.config.training
        recordable = registry.floats(self.config.family).recordable and self.state.slices == 1
        if c.compile and self.device.type == "cuda" and recordable:
            self.captured = Captured(self.objective, self.backward, self.device)

    def __call__(self, data: Stream) -> None:
        log = Log(self.out, self.state.step, self.say) if self.rank == 0 else None
        try:
            self.steps(data, log)
        except Stopped as stopped:
            self.listening.number = 0
            if self.world == 1 and (self.state.step > self.kept or not (self.out / runs.CHECKPOINT).exists()):
                self.save()
            raise Stopped(
                f"stopped after step {self.kept}, which {self.out} holds: {stopped}", stopped.number
            ) from None

    def steps(self, data: Stream, log: "Log | None") -> None:
        """Runs steps up to the end."""
        c, state = self.config.training, self.state
        losses: list[Tensor] = []  # since the last look at them
        window, usual = Window(), math.nan
        word, begun = Occasions(), state.step
        self.kept, saved = begun, time.monotonic()
        with closing(data.ahead(batch_numbers(state.step, self.share, self.rank, self.world))) as stream:  # type: ignore[type-var]
            clock = time.perf_counter()
            while not self.finished():
                loss, norm, sums, counts = self.one_step(stream)
                losses.append(torch.stack([loss, norm.to(loss)]))
                for one in (window, word.window):
                    one.add(loss, norm, sums, counts, data.batch_size * state.slices)
                report, keep, look = (
                    (state.step + 1) % n == 0
                    for n in (c.log_metrics_every_steps, c.checkpoint_every_steps, c.eval_every_steps)
                )
                number, due = self.told(time.monotonic() - saved >= 60 * SAVED)
                keep = keep or due or number > 0
                due = word.due(report)
                # On a CPU looking costs nothing. A GPU would have to be waited for, so there it is
                # done only before something is written.
                if self.device.type == "cpu" or report or keep or look or due or len(losses) >= 100:
                    usual = self.alive(losses, usual)
                    losses.clear()
                state.step += 1
                now = time.perf_counter()
                state.seconds, clock = state.seconds + now - clock, now
                if report and log is not None:
                    self.report(log, window)
                if report:
                    window = Window()
                elif due and log is not None:
                    self.say(self.line(word.window.row(state, self.lr(state.step - 1))))
                if report or due:
                    word.said()
                if keep:
                    self.save()
                    saved = time.monotonic()
                if number:
                    raise Stopped(AGAIN, number)
                if look:
                    self.evaluate(log)
                clock = time.perf_counter()  # evaluating and saving is not training
        if losses:
            self.alive(losses, usual, taken=0)
        if log is not None and window.losses:
            self.report(log, window)
        if state.step > self.kept or not (self.out / runs.CHECKPOINT).exists():
            self.save()
        if state.step > begun and state.step % c.eval_every_steps:
            self.evaluate(log)

    def told(self, due: bool) -> tuple[int, bool]:
        """The signal that has come to any process, or 0, and whether it is time to save, by the
        first process's clock.
        """
        if self.world == 1:
            return self.listening.number, due
        if (self.state.step + 1) % TOGETHER:
            return 0, False
        found = torch.tensor([self.listening.number, due and self.rank == 0], dtype=torch.int32, device=self.device)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        number, due = found.tolist()
        return int(number), bool(due)

    def finished(self) -> bool:
        late = self.minutes is not None and self.state.seconds >= 60 * self.minutes
        if self.world > 1 and self.minutes is not None:  # clocks differ, so the first process's counts
            flag = torch.tensor([float(late)], device=self.device)
            dist.broadcast(flag, 0)
            late = bool(flag.item())
        return self.state.step >= self.total or late

    def lr(self, step: int) -> float:
        o = self.config.optim
        warm = min(1.0, (step + 1) / o.warmup) if o.warmup else 1.0
        if o.decay == "constant":
            return o.lr * warm
        done = step / self.total
        if self.minutes is not None:
            done = max(done, min(1.0, self.state.seconds / (60 * self.minutes)))
        return o.lr * warm * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)

    def one_step(self, stream: Iterator[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gradients of this process's slices, one step of Adam and of the average -> loss, gradient
        norm, term sums and counts.
        """
        state = self.state
        for group in state.optimiser.param_groups:
            group["lr"] = self.lr(state.step)
        if self.captured is not None:
            found = [self.captured(next(stream), self.slice_seed(0))]
        else:
            state.optimiser.zero_grad(set_to_none=True)
            found = [self.one_slice(next(stream), i) for i in range(self.share)]
        norm = nn.utils.clip_grad_norm_(state.model.parameters(), self.config.optim.grad_clip_norm)
        loss, sums, counts = (torch.stack(part).sum(0) for part in zip(*found))
        loss = loss / self.share
        if self.world > 1:
            together = torch.cat([loss[None] / self.world, sums, counts])
            dist.all_reduce(together)
            loss, sums, counts = together[0], *together[1:].chunk(2)
        state.optimiser.step()
        decay = min(self.config.ema_rate, (1 + state.step) / (10 + state.step))
        names, parameters = zip(*state.model.named_parameters())
        get_ema_multi_avg_fn(decay)([state.average[name] for name in names], parameters, None)  # type: ignore[no-untyped-call]
        return loss, norm, sums, counts

    def slice_seed(self, i: int) -> int:
        """Of what slice `i` of this step draws."""
        return mixed(self.seed, 1, self.state.step, self.rank * self.share + i)

    def one_slice(self, x: Tensor, i: int) -> tuple[Tensor, ...]:
        """Adds the gradients of a slice -> loss, term sums and counts."""
        seed = self.slice_seed(i)
        torch.manual_seed(seed)  # for dropout, which takes no generator
        waiting = i < self.share - 1 and isinstance(self.objective, DistributedDataParallel)
        with self.objective.no_sync() if waiting else nullcontext():  # type: ignore[operator]
            return self.backward(x.to(self.device, non_blocking=True), torch.Generator(self.device).manual_seed(seed))

    def backward(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Adds the gradients of a batch on the device -> loss, term sums and counts."""
        c = self.config.training
        with torch.autocast(self.device.type, torch.bfloat16, enabled=c.precision == "bfloat16"):
            loss, sums, counts = self.objective(x, generator)
        (loss / self.share).backward()
        return loss.detach(), sums, counts

    def alive(self, losses: list[Tensor], usual: float, taken: int = 1) -> float:
        """The running mean of the loss, or `TrainingError` if the run cannot recover. `taken` is
        the number of steps not yet counted.
        """
        for i, (loss, norm) in enumerate(torch.stack(losses).tolist()):
            step = self.state.step + taken - len(losses) + i + 1
            if not math.isfinite(loss) or not math.isfinite(norm):
                problem = f"the loss is {loss}, its gradient's norm {norm}"
            elif self.state.step > self.config.optim.warmup and loss > EXPLODED * usual:
                problem = f"the loss is {loss:.4g}, {loss / usual:.0f} times what it was"
            else:
                usual = loss if math.isnan(usual) else 0.98 * usual + 0.02 * loss
                continue
            kept = self.out / runs.CHECKPOINT
            there = f"{kept} holds the last good state" if kept.exists() else "no checkpoint had been written yet"
            raise TrainingError(
                f"step {step}: {problem}; {there}. Try a smaller learning rate (now {self.lr(step):.2g}), or float32"
            )
        return usual

    def save(self) -> None:
        if self.rank == 0:
            self.state.save(self.out / runs.CHECKPOINT, self.seed)
        self.kept = self.state.step
        if self.world > 1:
            dist.barrier()

    def evaluate(self, log: Log | None) -> None:
        if log is not None and self.held is not None:
            how = {"seed": self.seed, "batches": self.config.training.eval_steps_to_run}
            floats: Floats = registry.floats(self.config.family)
            found: Evaluation = floats.held_out(self.state.averaged(), self.heard(), self.config.training.loss, **how)
            log(
                {"step": self.state.step, **_flat(found)}, f"step {self.state.step}, held out, averages: {found.line()}"
            )
        if self.world > 1:
            dist.barrier()

    def heard(self) -> Iterator[Tensor]:
        """The batches to evaluate on, until a signal stops the run. With several processes the
        evaluation ends first.
        """
        for x in self.held:
            if self.listening.number and self.world == 1:
                raise Stopped(AGAIN, self.listening.number)
            yield x

    def report(self, log: Log, window: "Window") -> None:
        """Writes a row of metrics and says its line."""
        row = window.row(self.state, self.lr(self.state.step - 1))
        log(row, self.line(row))

    def line(self, row: dict[str, Any]) -> str:
        """A row in words."""
        left = [math.inf]
        if self.total < 1 << 62:
            left.append((self.total - self.state.step) * self.state.seconds / max(1, self.state.step))
        if self.minutes is not None:
            left.append(60 * self.minutes - self.state.seconds)
        terms = " + ".join(f"{v:.3f}" for v in row.get("terms", []))
        rest = f"{max(0.0, min(left)) / 60:.1f} min left" if min(left) < math.inf else ""
        goal = f"/{self.total}" if self.total < 1 << 62 else ""
        line = (
            f"step {row['step']}{goal}: {row['loss']:.4f} bits/dim{f' = {terms}' if terms else ''}, |g|"
            f" {row['gradient']:.3g}"
        )
        return f"{line}, {row['images_per_second']:.1f} images/s, {rest}"


def batch_numbers(step: int, share: int, rank: int, world: int) -> Iterator[int]:
    """This process's batches of the stream from `step` on. A step takes share x world of them,
    shared out in blocks.
    """
    for n in itertools.count(step):
        yield from range((n * world + rank) * share, (n * world + rank + 1) * share)


def share_of(out: Path, slices: int, world: int) -> int:
    """How many of a step's slices each process takes. Raises `TrainingError` where they differ."""
    if slices % world:
        raise TrainingError(
            f"{out}: a step of this run takes {slices} {'batch' if slices == 1 else 'batches'}, and {world} processes"
            f" cannot share them out: start as many processes as divide {slices}, or another run with --set"
            f" accumulate=N"
        )
    return slices // world


def _check_alike(out: Path, step: int, device: torch.device) -> None:
    """Raises `TrainingError`, in every process, if they do not all see the same checkpoint."""
    if not dist.is_initialized():
        return
    ends = torch.tensor([step, -step], device=device)
    dist.all_reduce(ends, dist.ReduceOp.MAX)
    most, least = int(ends[0]), -int(ends[1])
    if most != least:
        raise TrainingError(
            f"{out} holds step {least} for one process and step {most} for another, and here step {step}: give a folder"
            " that all machines share"
        )


def check_folder(out: str | Path, config: Config) -> None:
    """Raises `TrainingError` if the folder cannot be this run's: it is a file, or holds another
    run.

    Only how long and how often may differ.
    """
    out = Path(out)
    path = out / "config.json"
    if out.exists() and not out.is_dir():
        raise TrainingError(f"{out} is a file; a run needs a folder")
    if path.exists():
        try:
            there = read_config(path)
        except CheckpointError as error:
            raise TrainingError(f"{error}; give another folder") from None
        free = {name: getattr(config.training, name) for name in MAY_CHANGE}
        alike = dataclasses.replace(
            there, training=dataclasses.replace(there.training, **free), restore_ckpt=config.restore_ckpt
        )
        if alike != config:
            a, b = json.loads(to_json(there)), json.loads(to_json(config))
            odd = [
                f"{s}.{k}" for s in a if isinstance(a[s], dict) for k in a[s] if a[s][k] != b[s][k] and k not in free
            ]
            what = ", ".join(f"{k} {a[k.split('.')[0]][k.split('.')[1]]!r}" for k in odd)
            what = f"family {there.family!r}" if there.family != config.family else what
            raise TrainingError(f"{out} holds another run: there {what}; give the same settings, or another folder")


def _flat(found: Evaluation) -> dict[str, Any]:
    return {
        "held/bits_per_dimension": found.bits_per_dimension(),
        "held/bits_per_pixel": found.bits[-1],
        "held/cumulative": found.bits,
    }
