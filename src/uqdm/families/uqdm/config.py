"""The `model` section of a config.json: what a UQDM or a VDM is made of. Knows no torch."""

import dataclasses

from uqdm.records import check_types, one_of


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The `model` section of a published config.json: everything that the weights' names and shapes
    follow from.

    Raises `ValueError` for values that no network can be built from.
    """

    n_timesteps: int = 4  # T, that the model was trained with
    prior_type: str = "logistic"  # g of eq. 6 ("gaussian") or eq. 7 ("logistic")
    learned_prior_scale: bool = True  # section 3.2: a factor s_theta(z_t) on the scale of g, per coordinate
    base_prior_scale: str = "forward_kernel"  # sigma_t sqrt(e), or "default": sigma_Q = sigma_s sqrt(e)
    noise_schedule: str = "learned_linear"  # see schedule.py
    fix_gamma_max: bool = True
    gamma_min: float = -12.3  # -log SNR at t = 0, nats
    gamma_max: float = 6.0  # and at t = 1
    attention_everywhere: bool = False
    use_fourier_features: bool = True
    ema_rate: float = 0.9999
    n_attention_heads: int = 1
    n_channels: int = 3  # of the picture
    vocab_size: int = 256  # values that a pixel's channel can have
    embedding_dim: int = 32  # D: channels of every block
    n_blocks: int = 1  # residual blocks on the way down; one more on the way up
    norm_groups: int = 8
    dropout_prob: float = 0.0
    # Ours; a published config.json has none of these.
    network: str = "unet"  # or "points": two hidden layers, for data of one pixel (appendix C.1)
    downsample: int = 1  # pixels a side that are one position of the network

    def __post_init__(self) -> None:
        check_types(self)
        one_of(self, "network", ("unet", "points"))
        one_of(self, "prior_type", ("logistic", "gaussian"))
        one_of(self, "base_prior_scale", ("forward_kernel", "default"))
        one_of(self, "noise_schedule", ("fixed_linear", "learned_linear", "learned_monotone"))
        # Far above every model there is, and low enough that a hostile file cannot keep the machine
        # busy building one.
        most = {"n_timesteps": 10_000, "n_attention_heads": 1024, "n_channels": 16, "vocab_size": 65536}
        for name, limit in {
            **most,
            "embedding_dim": 4096,
            "n_blocks": 1024,
            "norm_groups": 4096,
            "downsample": 8,
        }.items():
            if not 1 <= getattr(self, name) <= limit:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 1 to {limit}")
        for name in ("norm_groups", "n_attention_heads"):
            if self.embedding_dim % getattr(self, name):
                raise ValueError(
                    f"embedding_dim is {self.embedding_dim}, not a multiple of {name}, {getattr(self, name)}"
                )
        if self.embedding_dim < 4 or self.embedding_dim % 2:
            raise ValueError(f"embedding_dim is {self.embedding_dim}; expected an even number from 4")
        if not -100 < self.gamma_min < self.gamma_max < 100:
            raise ValueError(
                f"gamma_min is {self.gamma_min}, gamma_max {self.gamma_max}; expected an increase within -100 .. 100"
            )
        if not 0 <= self.dropout_prob < 1 or not 0 <= self.ema_rate < 1:
            raise ValueError(f"dropout_prob is {self.dropout_prob}, ema_rate {self.ema_rate}; expected 0 <= both < 1")


OURS = ("network", "downsample")  # keys of the section that a published config.json lacks
