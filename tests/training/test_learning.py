"""Some steps of a pyramid learn alone, as they would learn among all."""

import dataclasses

import pytest

torch = pytest.importorskip("torch")

from uqdm.families.pyramid.config import PyramidConfig  # noqa: E402
from uqdm.families.pyramid.torch.model import Pyramid  # noqa: E402
from uqdm.training import presets  # noqa: E402

NONE, SMALL = (0, 0, 0, 0), (6, 1, 8, 1)
CONFIG = PyramidConfig(bases=(32, 8, 1), networks=((NONE, SMALL, SMALL), (SMALL, SMALL, SMALL), (SMALL, SMALL, SMALL)))


def gradients(learning: tuple[int, ...]) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Bits by step, and the gradient of each weight that has one."""
    torch.manual_seed(3)
    model = Pyramid(dataclasses.replace(presets.preset("photo"), model=CONFIG))
    with torch.no_grad():  # heads begin at 0, and then nothing below them learns
        for p in model.parameters():
            p.add_(torch.randn_like(p) / 50)
    model.config = dataclasses.replace(model.config, model=dataclasses.replace(CONFIG, learning=learning))
    x = torch.randint(0, 256, (2, 3, 24, 16), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    _, bits = model.bits_of_all(x, torch.Generator().manual_seed(7))
    bits.sum(0).mean().backward()
    return bits.detach().mean(1).tolist(), {k: p.grad for k, p in model.named_parameters() if p.grad is not None}


def test_steps_that_learn_alone_get_the_gradients_of_all_steps_together() -> None:
    whole, all_gradients = gradients(())
    bits, found = gradients((2,))
    assert bits == [*whole[:2], 0]
    assert {name.split(".")[1] for name in found} == {"1"}
    assert any(float(g.abs().max()) > 0 for g in found.values())
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, all_gradients[name])


@pytest.mark.parametrize("learning", [(0,), (4,), (1, 9)])
def test_steps_that_are_not_there_cannot_learn(learning: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"learning is .*expected steps from 1 to 3"):
        dataclasses.replace(CONFIG, learning=learning)
