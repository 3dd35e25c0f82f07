"""Settings of the run: batches, steps, saves, sample prompts, places."""

from __future__ import annotations

from ..batching.course import LOSS_RANGES, MINIMUM_EPOCHS, MODES, SMOOTHING_STEPS, TRIGGERS
from ..custom_scheduler import NO_WARMUP, OPTIONS, RAMP_DOWN, SCHEDULES
from ..data.embedding import EMBEDDINGS
from ..data.packing import NEEDS_VECTORS, PACKERS
from ..train_utils import OPTIMIZERS, PRECISIONS
from .field import Section, setting

# what other settings must be for some to have an effect (see field.setting)
_HYBRID = {"batching.mode": ("hybrid",)}
_BY_LOSS = {**_HYBRID, "batching.switch_by": ("loss",)}
_RELATED = {"batching.packing": tuple(NEEDS_VECTORS)}
_RAMP = {"training.schedule": (RAMP_DOWN,)}


class BatchingSettings(Section):
    """How samples form batches."""

    true_batch_size: int = setting(
        4,
        "True Batch Size",
        "Samples that are processed at once; with Packing: packs of the cutoff's length. As many as the memory takes.",
        unit="samples",
        ge=1,
        le=4096,
    )
    gradient_accumulation: int = setting(
        1,
        "Gradient Accumulation Steps",
        "Batches that are added up before the weights move; a larger batch without more memory.",
        ge=1,
        le=4096,
    )
    mode: str = setting(
        "shuffled",
        "Batching mode",
        "shuffled: a random order each epoch. length: samples of like length together, least padding. sequential: the order of the data, "
        "conversation by conversation, text by text. hybrid: first length, then sequential; the settings below say when.",
        choices=tuple(MODES),
    )
    switch_by: str = setting(
        "epochs",
        "Switch to sequential by",
        "Hybrid batching: what ends the phase by length. epochs or steps: after so many. loss: when the smoothed training loss comes into "
        "a range or falls below it.",
        choices=tuple(TRIGGERS),
        only_if=_HYBRID,
    )
    switch_epochs: float = setting(
        1.0,
        "Switch after epochs",
        "Hybrid batching by epochs: length of the first phase; parts are possible.",
        unit="epochs",
        gt=0,
        le=10_000,
        only_if={**_HYBRID, "batching.switch_by": ("epochs",)},
    )
    switch_steps: int = setting(
        100,
        "Switch after steps",
        "Hybrid batching by steps: length of the first phase.",
        unit="optimizer steps",
        ge=1,
        le=100_000_000,
        only_if={**_HYBRID, "batching.switch_by": ("steps",)},
    )
    switch_loss_low: float = setting(
        LOSS_RANGES[0][0],
        "Switch at loss, from",
        "Hybrid batching by loss: lower end of the range; below it counts too.",
        ge=0,
        le=100,
        only_if=_BY_LOSS,
    )
    switch_loss_high: float = setting(
        LOSS_RANGES[0][1],
        "Switch at loss, to",
        "Hybrid batching by loss: upper end of the range.",
        ge=0,
        le=100,
        only_if=_BY_LOSS,
    )
    switch_smoothing: int = setting(
        SMOOTHING_STEPS,
        "Smoothing of the switch loss",
        "Hybrid batching by loss: steps over which the loss is averaged, each weighted by its trained tokens.",
        unit="optimizer steps",
        ge=2,
        le=10_000,
        advanced=True,
        only_if=_BY_LOSS,
    )
    switch_minimum: float = setting(
        MINIMUM_EPOCHS,
        "Switch at the earliest",
        "Hybrid batching by loss: the first phase lasts at least this long.",
        unit="epochs",
        ge=0,
        le=10_000,
        advanced=True,
        only_if=_BY_LOSS,
    )
    switch_latest: float = setting(
        2.0,
        "Switch at the latest",
        "Hybrid batching by loss: the next phase begins then, whatever the loss is; 0 = it waits for the loss.",
        unit="epochs",
        ge=0,
        le=10_000,
        only_if=_BY_LOSS,
    )
    switch_gradual: float = setting(
        0.0,
        "Switch gradually over",
        "Hybrid batching: the share of batches of the next phase grows from 0 to 1 over so many epochs; 0 = at once.",
        unit="epochs",
        ge=0,
        le=10_000,
        advanced=True,
        only_if=_HYBRID,
    )
    sequential_overlaps: bool = setting(
        True,
        "Overlap blocks in sequential",
        "Off: the sequential phase leaves out text blocks that only repeat what others hold too.",
        advanced=True,
        only_if={"batching.mode": ("sequential", "hybrid")},
    )
    packing: str = setting(
        "none",
        "Packing",
        "Puts several samples into one row of the cutoff's length, so that every step trains as many tokens. best_fit: fullest packs; "
        "ordered: keeps the order of the data; related: samples of related content. True Batch Size counts packs then: lower it.",
        choices=tuple(PACKERS),
    )
    pack_attention: str = setting(
        "isolated",
        "Attention in packs",
        "isolated: packed samples do not see each other, as if each stood alone. shared: a sample sees those before it in its pack; "
        "related packs are made for that.",
        choices=("isolated", "shared"),
        advanced=True,
        only_if={"batching.packing": tuple(name for name in PACKERS if name != "none")},
    )
    pack_threshold: float = setting(
        0.3,
        "Distance of related samples",
        "Related packing: samples nearer than this to the last ones are passed over (they say nearly the same). 0 passes over none; "
        "0 = same words, 1 = nothing in common.",
        ge=0,
        le=2,
        advanced=True,
        only_if=_RELATED,
    )
    pack_window: int = setting(
        4,
        "Window of related samples",
        "Related packing: how many of the last samples must be that far away.",
        unit="samples",
        ge=1,
        le=1000,
        advanced=True,
        only_if=_RELATED,
    )
    pack_embedding: str = setting(
        "input embeddings",
        "Embedding of related samples",
        "Related packing: what decides who is near. input embeddings: words, by the loaded model. sentence-transformers: meaning, by a "
        "model of that kind in a folder.",
        choices=tuple(EMBEDDINGS),
        advanced=True,
        only_if=_RELATED,
    )
    pack_embedding_folder: str = setting(
        "",
        "Embedding folder",
        "Folder of the sentence-transformers model; nothing is downloaded.",
        advanced=True,
        only_if={**_RELATED, "batching.pack_embedding": ("sentence-transformers",)},
    )
    route: str = setting(
        "auto",
        "Batch route",
        "How a batch is computed; the result is the same. auto: the fastest that is exact for the model, which is tried before the "
        "first step. flat: one row without padding. masked: packs as rows with a mask. padded: one row a sample.",
        choices=("auto", "flat", "masked", "padded"),
        advanced=True,
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
