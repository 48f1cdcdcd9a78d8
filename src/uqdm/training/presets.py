"""Every preset of `uqdm train` in one table. Knows no torch."""

import dataclasses

from uqdm.config import Config, DataConfig, OptimConfig, TrainingConfig
from uqdm.families.nested.config import NestedConfig
from uqdm.families.pyramid.config import PyramidConfig
from uqdm.families.uqdm.config import ModelConfig

# The published sizes, ImageNet 64x64, T = 4. All that differs is the three columns; appendix C.3
# gives 128 channels for medium, but the published file has 256, and only these give the size that
# is stated there.
#   name:  embedding_dim, n_blocks, norm_groups   parameters of the network
_SIZES = {
    "tiny": (32, 1, 8),  #      167,494
    "small": (64, 8, 16),  #    2,238,150
    "medium": (256, 32, 32),  # 122,143,494
    "big": (256, 64, 32),  #    237,609,734
}
SIZES: dict[str, ModelConfig] = {
    name: ModelConfig(embedding_dim=d, n_blocks=n, norm_groups=g) for name, (d, n, g) in _SIZES.items()
}

_GAUSSIAN = {
    "learned_prior_scale": False,
    "base_prior_scale": "default",
    "prior_type": "gaussian",
}  # sigma_Q, as a VDM has it
_CIFAR = ModelConfig(embedding_dim=128, n_blocks=8, norm_groups=32, dropout_prob=0.1)  # appendix C.2
_SWIRL = ModelConfig(  # appendix C.1; the ends of gamma are those of VDM's example
    network="points", n_channels=2, embedding_dim=512, gamma_min=-13.3, gamma_max=5.0, fix_gamma_max=False,
    base_prior_scale="default",
    ema_rate=0.999, n_timesteps=5,
)  # fmt: skip
_HALF = ModelConfig(embedding_dim=40, downsample=2, ema_rate=0.999)  # ours, for two cores


def _preset(
    family: str, model: ModelConfig, loss: str, batch: int, lr: float, warmup: int, steps: int, crop: int, flip: bool
) -> Config:
    every = max(1, steps // 50)
    training = TrainingConfig(steps, max(1, every // 5), every, every, max(1, 500 // batch), loss)
    return Config(
        model,
        training,
        OptimConfig(lr=lr, warmup=warmup),
        DataConfig(True, batch_size=batch, crop=crop, flip=flip),
        family=family,
    )


def _vdm(model: ModelConfig, steps: int = 1000) -> ModelConfig:
    return dataclasses.replace(model, n_timesteps=steps, **_GAUSSIAN)  # type: ignore[arg-type]


def _nested(model: NestedConfig, batch: int, lr: float, warmup: int, steps: int, crop: int) -> Config:
    every = max(1, steps // 50)
    training = TrainingConfig(steps, max(1, every // 5), every, every, max(1, 500 // batch), precision="bfloat16")
    optim = OptimConfig(lr=lr, warmup=warmup, beta2=0.98, decay="cosine")
    return Config(model, training, optim, DataConfig(True, batch_size=batch, crop=crop, flip=True), family="nested")


def _pyramid(model: PyramidConfig, batch: int, lr: float, warmup: int, steps: int, crop: int) -> Config:
    every = max(1, steps // 50)
    training = TrainingConfig(steps, max(1, every // 5), every, every, max(1, 500 // batch), precision="bfloat16")
    optim = OptimConfig(lr=lr, warmup=warmup, beta2=0.98, decay="cosine")
    data = DataConfig(True, batch_size=batch, crop=crop, flip=True, large=2 * crop, even=True)
    return Config(model, training, optim, data, family="pyramid")


_BASE = NestedConfig(  # ratios of 3, so twice the steps, and wide networks
    widths=((405, 1053, 810), (135, 351, 270), (45, 117, 90), (15, 39, 30), (5, 13, 10), (1, 1, 1)),
    trunks=((0, 0), (64, 2), (96, 2), (96, 2), (108, 2), (106, 2)),
    passes=((48, 0), (64, 1), (96, 1), (96, 2), (108, 2), (106, 2)),
)

_LARGE = PyramidConfig(  # five times the arithmetic of `photo`
    networks=(
        ((0, 0, 0, 0), (64, 1, 80, 1), (96, 1, 96, 2)),
        ((48, 1, 48, 1), (96, 1, 96, 1), (96, 1, 96, 1)),
        ((48, 1, 48, 1), (96, 1, 96, 1), (96, 1, 96, 2)),
        ((64, 1, 80, 1), (96, 1, 112, 1), (96, 1, 96, 2)),
        ((64, 1, 80, 1), (96, 1, 112, 1), (96, 1, 96, 2)),
        ((128, 1, 144, 1), (128, 1, 128, 2), (96, 1, 96, 2)),
        ((160, 2, 176, 2), (128, 1, 128, 2), (96, 1, 96, 2)),
    ),
)

# Everything that `uqdm train --preset` knows, to be read down a column.
PRESETS: dict[str, Config] = {
    #                     family  model             loss          batch   lr    warm-up  steps   crop  flip
    "tiny":        _preset("uqdm", SIZES["tiny"],   "full",          16, 2e-4,  1000,  500_000,  64, True),
    "small":       _preset("uqdm", SIZES["small"],  "full",          64, 2e-4,  1000,  500_000,  64, True),
    "medium":      _preset("uqdm", SIZES["medium"], "full",         128, 2e-4,  1000,  500_000,  64, True),
    "big":         _preset("uqdm", SIZES["big"],    "full",         128, 2e-4,  1000,  500_000,  64, True),
    "cifar10":     _preset("uqdm", _CIFAR,          "full",         128, 2e-4,  1000,  500_000,  32, True),
    "half":        _preset("uqdm", _HALF,           "single",        32, 2e-3,   300,   30_000,  32, True),
    "swirl":       _preset("uqdm", _SWIRL,          "single",      1024, 1e-3,   200,   12_000,   0, False),
    "tiny-vdm":    _preset("vdm",  _vdm(SIZES["tiny"]), "continuous", 16, 2e-4, 1000,  500_000,  64, True),
    "cifar10-vdm": _preset("vdm",  _vdm(_CIFAR),    "continuous",   128, 2e-4,  1000,  500_000,  32, True),
    "nano":        _nested(NestedConfig(),                           16, 4e-3,   300,   60_000,  32),
    "base":        _nested(_BASE,                                    64, 2e-3,   500,  100_000,  64),
    "photo":       _pyramid(PyramidConfig(),                          8, 3e-3,   300,   60_000,  64),
    "photo-large": _pyramid(_LARGE,                                   8, 2e-3,   300,   60_000,  64),
    "swirl-vdm":   _preset("vdm",  _vdm(_SWIRL),    "continuous",  1024, 1e-3,   200,   12_000,   0, False),
}  # fmt: skip


def preset(name: str) -> Config:
    """The configuration of that name. Raises `ValueError`, naming the presets, if there is none."""
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}; known are {', '.join(PRESETS)}")
    return PRESETS[name]
