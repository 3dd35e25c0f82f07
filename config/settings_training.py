"""Settings of the run: batches, steps, saves, sample prompts, places."""

from __future__ import annotations

from ..custom_scheduler import SCHEDULES
from ..train_utils import OPTIMIZERS, PRECISIONS
from .field import Section, setting


class BatchingSettings(Section):
    """How samples form batches."""

    true_batch_size: int = setting(
        4, "True Batch Size", "Samples that are processed at once. As many as the memory takes.", unit="samples", ge=1, le=4096
    )
    gradient_accumulation: int = setting(
        1,
        "Gradient Accumulation Steps",
        "Batches that are added up before the weights move; a larger batch without more memory.",
        ge=1,
        le=4096,
    )


class TrainingSettings(Section):
    """How long and how fast the weights move."""

    epochs: float = setting(
        3.0, "Epochs", "How often every sample is seen. Parts such as 1.5 are possible.", unit="epochs", gt=0, le=10_000
    )
    learning_rate: float = setting(
        3e-4, "Learning Rate", "3e-4 is a good start for LoRA. 1e-2 is extremely high, 1e-6 extremely low.", gt=0, le=1
    )
    schedule: str = setting(
        "FP_low_epoch_annealing", "LR Scheduler", "How the learning rate changes over the run.", choices=tuple(SCHEDULES)
    )
    warmup_steps: int = setting(
        0, "Warmup Steps", "The learning rate rises from 0 over this many steps.", unit="optimizer steps", ge=0, le=1_000_000
    )
    warmup_share: float = setting(
        0.0, "Warmup Ratio", "The same as a share of the run; counts if Warmup Steps is 0.", ge=0, le=0.9
    )
    optimizer: str = setting(
        "adamw_torch", "Optimizer", "adamw_torch is the safe choice.", choices=tuple(OPTIMIZERS), advanced=True
    )
    weight_decay: float = setting(0.0, "Weight decay", "Pulls weights towards 0; 0 = off.", ge=0, le=1, advanced=True)
    max_grad_norm: float = setting(
        1.0, "Gradient clipping", "Longest gradient that is let through; 0 = off.", ge=0, le=1000, advanced=True
    )
    precision: str = setting(
        "auto",
        "Precision",
        "Number format of the computation. auto: what the device and the model call for.",
        choices=PRECISIONS,
        advanced=True,
    )
    gradient_checkpointing: bool = setting(
        False, "Use Gradient Checkpoint", "Less memory, about a quarter slower; the result is the same."
    )
    seed: int = setting(42, "Seed", "The same seed gives the same run.", ge=0, le=2**31 - 1, advanced=True)


class CheckpointSettings(Section):
    """Saves, evaluations and stops on the way."""

    save_every_steps: int = setting(
        0, "Save every n steps", "A checkpoint every so many steps; 0 = off.", unit="optimizer steps", ge=0
    )
    save_every_epoch: bool = setting(True, "Save at every epoch's end", "A checkpoint at the end of each epoch.")
    keep_last: int = setting(3, "Keep checkpoints", "Older ones are deleted; 0 keeps all.", ge=0)
    eval_every_steps: int = setting(
        0, "Evaluate every n steps", "0: at the end of each epoch, if there is evaluation data.", unit="optimizer steps", ge=0
    )
    stop_at_loss: float = setting(
        0.0, "Stop at loss", "Stop when the smoothed training loss is at or under this; 0 = off.", ge=0, le=100
    )


class SampleSettings(Section):
    """Prompts that the model answers before and after."""

    prompts: list[str] = setting(
        [], "Sample prompts", "Questions that the model answers before and after the training, side by side."
    )
    max_new_tokens: int = setting(
        60, "Longest answer", "Longest answer to a sample prompt.", unit="tokens", ge=1, le=4096, advanced=True
    )


class RunSettings(Section):
    """Where the result goes and how the machine is used."""

    adapters_dir: str = setting(
        "loras", "Adapter folder", "Folder in which each adapter gets a folder of its own. The WebUI sets its own."
    )
    workers: int = setting(
        0, "Data workers", "Extra processes that prepare batches; 0 is right for almost everybody.", ge=0, le=64, advanced=True
    )
