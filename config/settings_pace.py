"""Settings of how long, how fast and by which optimizer the weights move; :class:`settings_training.TrainingSettings` goes on with them."""

from __future__ import annotations

from ..adapting.optimizers import taking
from ..custom_scheduler import NO_WARMUP, OPTIONS, RAMP_DOWN, SCHEDULES
from ..train_utils import OPTIMIZERS
from .field import Section, sentence, setting

# what other settings must be for some to have an effect (see field.setting)
_RAMP = {"training.schedule": (RAMP_DOWN,)}


class PaceSettings(Section):
    """How long and how fast the weights move."""

    epochs: float = setting(
        3.0, "Epochs", "How often every sample is seen. Parts such as 1.5 are possible.", unit="epochs", gt=0, le=10_000
    )
    learning_rate: float = setting(
        3e-4, "Learning Rate", "3e-4 is a good start for LoRA. 1e-2 is extremely high, 1e-6 extremely low.", gt=0, le=1
    )
    schedule: str = setting(
        "FP_low_epoch_annealing",
        "LR Scheduler",
        "How the learning rate changes over the run.",
        choices={name: sentence((schedule.__doc__ or "").split("\n")[0]) for name, schedule in SCHEDULES.items()},
    )
    warmup_steps: int = setting(
        0,
        "Warmup Steps",
        f"The learning rate rises from 0 over this many steps. No effect with {', '.join(NO_WARMUP)}.",
        unit="optimizer steps",
        ge=0,
        le=1_000_000,
    )
    warmup_share: float = setting(
        0.0, "Warmup Ratio", "The same as a share of the run; counts if Warmup Steps is 0.", ge=0, le=0.9
    )
    lr_cycles: int = setting(
        int(OPTIONS["lr_cycles"]),
        "LR Cycles",
        "For cosine_with_restarts: how many times the rate comes down; 1 = no restart.",
        ge=1,
        le=1000,
        advanced=True,
        only_if={"training.schedule": ("cosine_with_restarts",)},
    )
    lr_floor: float = setting(
        OPTIONS["lr_floor"],
        "LR Floor",
        "For cosine_with_min_lr: the rate at the end, as a share of Learning Rate.",
        ge=0,
        le=1,
        advanced=True,
        only_if={"training.schedule": ("cosine_with_min_lr",)},
    )
    lr_power: float = setting(
        OPTIONS["lr_power"],
        "LR Power",
        "For polynomial: 1 is a straight line, 2 falls early, 0.5 falls late.",
        ge=0.1,
        le=10,
        advanced=True,
        only_if={"training.schedule": ("polynomial",)},
    )
    lr_decay_share: float = setting(
        OPTIONS["lr_decay_share"],
        "LR Decay share",
        "For warmup_stable_decay: the last part of the run, in which the rate comes down.",
        ge=0,
        le=1,
        advanced=True,
        only_if={"training.schedule": ("warmup_stable_decay",)},
    )
    lr_trigger_loss: float = setting(
        0.0,
        "Ramp-down at loss",
        f"For {RAMP_DOWN}: the rate begins to come down when the smoothed training loss is at or under this.",
        ge=0,
        le=100,
        advanced=True,
        only_if=_RAMP,
    )
    lr_ramp_share: float = setting(
        OPTIONS["lr_ramp_share"],
        "LR Ramp share",
        f"For {RAMP_DOWN}: how long the rate takes to come down, as a share of the run so far; then the run ends.",
        ge=0.01,
        le=10,
        advanced=True,
        only_if=_RAMP,
    )


class OptimizerSettings(PaceSettings):
    """How a gradient becomes a step."""

    optimizer: str = setting(
        "adamw_torch",
        "Optimizer",
        "How a gradient becomes a step. Check says what has to be installed.",
        choices={name: sentence(info.words) for name, info in OPTIMIZERS.items()},
        advanced=True,
    )
    beta1: float = setting(
        0.0,
        "Beta 1",
        "Share of its past that the optimizer's momentum keeps at each step. 0 = the optimizer's own, mostly 0.9.",
        ge=0,
        le=0.99999,
        advanced=True,
        only_if={"training.optimizer": taking("beta1")},
    )
    beta2: float = setting(
        0.0,
        "Beta 2",
        "The same for the size of the gradient. 0 = the optimizer's own, mostly 0.999; 0.95 to 0.99 follow faster.",
        ge=0,
        le=0.99999,
        advanced=True,
        only_if={"training.optimizer": taking("beta2")},
    )
    epsilon: float = setting(
        0.0,
        "Epsilon",
        "Smallest size of the gradient that the optimizer divides by. 0 = the optimizer's own, mostly 1e-8.",
        ge=0,
        le=1,
        advanced=True,
        only_if={"training.optimizer": taking("epsilon")},
    )
    momentum: float = setting(
        0.0,
        "Momentum",
        "Share of the last step that goes into the next. 0 = the optimizer's own: none for sgd and rmsprop, 0.95 for muon.",
        ge=0,
        le=0.99999,
        advanced=True,
        only_if={"training.optimizer": taking("momentum")},
    )
    adafactor_scale: bool = setting(
        False,
        "Adafactor scales by weights",
        "Steps are as large as the weights they change: the rate is a share of them. Then try 1e-3 to 1e-2.",
        advanced=True,
        only_if={"training.optimizer": taking("adafactor_scale")},
    )
    adafactor_relative: bool = setting(
        False,
        "Adafactor's own rate",
        "The rate falls with the root of the steps, at most 0.01; Learning Rate and LR Scheduler have no effect.",
        advanced=True,
        only_if={"training.optimizer": taking("adafactor_relative")},
    )
    projection_rank: int = setting(
        128,
        "Projection rank",
        "For galore and apollo: how many directions of each matrix the optimizer's states see. Less is less memory.",
        ge=1,
        le=8192,
        advanced=True,
        only_if={"training.optimizer": taking("projection_rank")},
    )
    projection_gap: int = setting(
        200,
        "Projection kept for",
        "For galore and apollo: after so many steps the directions are chosen anew.",
        unit="optimizer steps",
        ge=1,
        le=1_000_000,
        advanced=True,
        only_if={"training.optimizer": taking("projection_gap")},
    )
    weight_decay: float = setting(0.0, "Weight decay", "Pulls weights towards 0; 0 = off.", ge=0, le=1, advanced=True)
    max_grad_norm: float = setting(
        1.0, "Gradient clipping", "Longest gradient that is let through; 0 = off.", ge=0, le=1000, advanced=True
    )
