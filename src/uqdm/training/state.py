"""All that a run is at one step: weights, their averages, the optimiser's moments, counters.
Knows no data.
"""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from uqdm.config import Config
from uqdm.errors import TrainingError
from uqdm.families.floats import Floats
from uqdm.training import runs

SLOTS = ("exp_avg", "exp_avg_sq", "step")  # of Adam


class Objective(nn.Module):
    """A model's loss as one forward call, as distributed training needs it."""

    def __init__(self, model: nn.Module, floats: Floats, loss: str) -> None:
        super().__init__()
        self.model, self.floats, self.loss = model, floats, loss

    def forward(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 (B, C, H, W) -> mean bits per pixel (), and for the report sums and counts of each
        term.
        """
        return self.floats.loss(self.model, x, generator, self.loss)


@dataclasses.dataclass
class TrainingState:
    """All that a run is, and all that a checkpoint holds: weights and averages by name, Adam's
    moments, counters.
    """

    model: runs.Model
    average: dict[str, Tensor]
    optimiser: torch.optim.Optimizer
    step: int = 0  # optimiser steps taken
    seconds: float = 0.0  # spent training
    slices: int = 0  # batches that a step takes, of all processes; 0 where that is not known

    @classmethod
    def new(cls, config: Config, seed: int, device: torch.device, start: runs.Model | None = None) -> "TrainingState":
        torch.manual_seed(mixed(seed, 0))
        model = runs.new_model(config)
        if start is not None:
            runs.fill(
                model, {k: p.detach().cpu() for k, p in start.named_parameters()}, "", Path("the model to start from")
            )
        model.to(device).train()
        if device.type == "cuda":
            model.to(memory_format=torch.channels_last)
        o = config.optim
        optimiser = torch.optim.AdamW(
            model.parameters(), o.lr, (o.beta1, o.beta2), o.eps, o.weight_decay, fused=device.type == "cuda"
        )
        return cls(model, {k: p.detach().clone() for k, p in model.named_parameters()}, optimiser)

    def save(self, path: Path, seed: int) -> None:
        tensors: dict[str, Tensor] = {f"model/{k}": p for k, p in self.model.named_parameters()}
        tensors |= {f"average/{k}": p for k, p in self.average.items()}
        for name, parameter in self.model.named_parameters():
            slots = self.optimiser.state.get(parameter, {})
            tensors |= {f"optimiser/{slot}/{name}": torch.as_tensor(slots[slot]) for slot in SLOTS if slot in slots}
        runs.write(path, tensors, {"step": self.step, "seconds": self.seconds, "seed": seed, "slices": self.slices})

    def load(self, path: Path, seed: int) -> None:
        tensors, counters = runs.read(path)
        if counters["seed"] != seed:
            raise TrainingError(
                f"{path} is a run with seed {counters['seed']}, not {seed}; give that seed, or another folder"
            )
        runs.fill(self.model, tensors, "model/", path)
        for name, parameter in self.model.named_parameters():
            self.average[name].copy_(tensors[f"average/{name}"])
            self.optimiser.state[parameter] = {
                slot: torch.empty_like(parameter, requires_grad=False).copy_(
                    tensors[key]
                )  # in the parameter's memory format
                if slot != "step"
                else tensors[key].to(parameter.device if self.optimiser.defaults["fused"] else "cpu")
                for slot in SLOTS
                if (key := f"optimiser/{slot}/{name}") in tensors
            }
        self.step, self.seconds = counters["step"], counters["seconds"]
        self.slices = counters.get("slices", 0)  # older checkpoints do not say

    def averaged(self) -> runs.Model:
        """A copy of the model with the averages as weights, in eval mode."""
        model = runs.new_model(self.model.config).to(self.model.device)
        runs.fill(model, self.average, "", Path("the averages"))
        return model.eval()


def mixed(*numbers: int) -> int:
    """One well-mixed seed from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
