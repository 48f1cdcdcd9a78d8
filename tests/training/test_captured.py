"""A recorded step gives what a step that is not recorded gives. Needs a GPU."""

import pytest

torch = pytest.importorskip("torch")

from uqdm.config import override  # noqa: E402
from uqdm.families import registry  # noqa: E402
from uqdm.training import presets  # noqa: E402
from uqdm.training.captured import Captured  # noqa: E402
from uqdm.training.state import Objective, TrainingState  # noqa: E402

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")


@pytest.mark.parametrize("sizes", [(16, 64), (6, 128)])
def test_a_recorded_step_is_the_step(sizes: tuple[int, int]) -> None:
    config = override(presets.preset("photo"), {"training.precision": "float32"})
    device = torch.device("cuda", 0)
    model = TrainingState.new(config, 0, device).model
    objective = Objective(model, registry.floats(config.family), "full")

    def run(x: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        loss, *rest = objective(x, generator)
        loss.backward()
        return loss.detach(), *rest

    captured = Captured(objective, run, device)
    batch, side = sizes
    x = torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    captured(x, 4)
    got = captured(x, 5)
    other = captured(x, 6)
    assert got[0] != other[0]
    captured(x, 5)
    recorded = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    for p in model.parameters():
        p.grad = None
    found = run(x.to(device), torch.Generator(device).manual_seed(5))
    torch.testing.assert_close(got[0], found[0], rtol=1e-5, atol=0)
    for name, p in model.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(recorded[name], p.grad, rtol=1e-3, atol=1e-5 * float(p.grad.abs().max()))
