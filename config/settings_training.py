"""Settings of the run: batches, steps, saves, sample prompts, places."""

from __future__ import annotations

from ..batching.course import LOSS_RANGES, MINIMUM_EPOCHS, MODES, SMOOTHING_STEPS, TRIGGERS
from ..data.packing import NEEDS_VECTORS, PACKERS
from ..data.packing.embedding import EMBEDDINGS
from ..train_utils import PRECISIONS
from .field import Section, setting, worded
from .log_packages import LOG_PACKAGES
from .settings_pace import OptimizerSettings

# what other settings must be for some to have an effect (see field.setting)
_HYBRID = {"batching.mode": tuple(mode for mode, phases in MODES.items() if len(phases) > 1)}
_BY_LOSS = {**_HYBRID, "batching.switch_by": ("loss",)}
_TWO_STAGE = {"batching.mode": tuple(mode for mode, phases in MODES.items() if len(phases) > 2)}
_SECOND_BY_LOSS = {**_TWO_STAGE, "batching.second_by": ("loss",)}
_IN_ORDER = {"batching.mode": tuple(mode for mode, phases in MODES.items() if "sequential" in phases)}
_RELATED = {"batching.packing": tuple(NEEDS_VECTORS)}

_TRIGGER_WORDS = {
    "epochs": "After so many epochs.",
    "steps": "After so many optimizer steps.",
    "loss": "When the smoothed training loss comes into a range or falls below it.",
}


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
        "Which samples come together, and in which order.",
        choices=worded(
            MODES,
            {
                "shuffled": "A random order each epoch.",
                "length": "Samples of like length together: least padding.",
                "paired": "Two neighbours of a conversation or text as one sample.",
                "sequential": "The order of the data, as much of a conversation or text together as fits.",
                "hybrid": "First length, then sequential; the settings below say when.",
                "hybrid two-stage": "First length, then paired, then sequential; the settings below say when.",
            },
        ),
    )
    switch_by: str = setting(
        "epochs",
        "Switch by",
        "Hybrid batching: what ends the phase by length.",
        choices=worded(TRIGGERS, _TRIGGER_WORDS),
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
    second_by: str = setting(
        "epochs",
        "Second switch by",
        "Two-stage hybrid batching: what ends the paired phase.",
        choices=worded(TRIGGERS, _TRIGGER_WORDS),
        only_if=_TWO_STAGE,
    )
    second_epochs: float = setting(
        1.0,
        "Second switch after epochs",
        "Length of the paired phase, counted from its begin; parts are possible.",
        unit="epochs",
        gt=0,
        le=10_000,
        only_if={**_TWO_STAGE, "batching.second_by": ("epochs",)},
    )
    second_steps: int = setting(
        100,
        "Second switch after steps",
        "Length of the paired phase, counted from its begin.",
        unit="optimizer steps",
        ge=1,
        le=100_000_000,
        only_if={**_TWO_STAGE, "batching.second_by": ("steps",)},
    )
    second_loss_low: float = setting(
        LOSS_RANGES[1][0],
        "Second switch at loss, from",
        "Lower end of the range that ends the paired phase; below it counts too.",
        ge=0,
        le=100,
        only_if=_SECOND_BY_LOSS,
    )
    second_loss_high: float = setting(
        LOSS_RANGES[1][1],
        "Second switch at loss, to",
        "Upper end of the range that ends the paired phase.",
        ge=0,
        le=100,
        only_if=_SECOND_BY_LOSS,
    )
    second_smoothing: int = setting(
        SMOOTHING_STEPS,
        "Smoothing of the second switch loss",
        "Steps of the paired phase over which its loss is averaged, each weighted by its trained tokens.",
        unit="optimizer steps",
        ge=2,
        le=10_000,
        advanced=True,
        only_if=_SECOND_BY_LOSS,
    )
    second_minimum: float = setting(
        MINIMUM_EPOCHS,
        "Second switch at the earliest",
        "The paired phase lasts at least this long.",
        unit="epochs",
        ge=0,
        le=10_000,
        advanced=True,
        only_if=_SECOND_BY_LOSS,
    )
    second_latest: float = setting(
        2.0,
        "Second switch at the latest",
        "The paired phase lasts at most this long, whatever the loss is; 0 = it waits for the loss.",
        unit="epochs",
        ge=0,
        le=10_000,
        only_if=_SECOND_BY_LOSS,
    )
    second_gradual: float = setting(
        0.0,
        "Second switch gradually over",
        "The share of sequential batches grows from 0 to 1 over so many epochs; 0 = at once.",
        unit="epochs",
        ge=0,
        le=10_000,
        advanced=True,
        only_if=_TWO_STAGE,
    )
    sequential_joins: bool = setting(
        True,
        "Join in sequential",
        "On: the sequential phase makes one sample of as many neighbours of a conversation or text as the cutoff takes. Off: single "
        "entries in their order.",
        only_if=_IN_ORDER,
    )
    sequential_overlaps: bool = setting(
        True,
        "Overlap blocks in sequential",
        "Off: the sequential phase leaves out text blocks that only repeat what others hold too.",
        advanced=True,
        only_if=_IN_ORDER,
    )
    packing: str = setting(
        "none",
        "Packing",
        "Puts several samples into one row of the cutoff's length, so that every step trains as many tokens. True Batch Size counts "
        "packs then: lower it.",
        choices=worded(
            PACKERS,
            {
                "none": "One sample is one row.",
                "ordered": "Neighbours in the order of the data, as many as fit.",
                "best_fit": "The fullest packs. Batching by length packs samples of like length, sequential keeps the order.",
                "related": "Samples of related content together.",
            },
        ),
    )
    pack_attention: str = setting(
        "isolated",
        "Attention in packs",
        "Whether packed samples see each other.",
        choices={
            "isolated": "They do not, as if each stood alone.",
            "shared": "A sample sees those before it in its pack; related packs are made for that.",
        },
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
        "Related packing: what decides who is near.",
        choices=worded(
            EMBEDDINGS,
            {
                "input embeddings": "Words, by the loaded model.",
                "sentence-transformers": "Meaning, by a model of that kind in a folder.",
            },
        ),
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
        "How a batch is computed; the result is the same.",
        choices={
            "auto": "The fastest that is exact for the model, which is tried before the first step.",
            "flat": "One row without padding.",
            "masked": "Packs as rows with a mask.",
            "padded": "One row a sample.",
        },
        advanced=True,
    )


class TrainingSettings(OptimizerSettings):
    """How the weights move."""

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
    neftune_alpha: float = setting(
        0.0,
        "NEFTune noise",
        "Noise on the embeddings while training, against parroting of small sets of instructions; 5 is usual, 0 = off. The shorter a "
        "sample, the more.",
        ge=0,
        le=100,
        advanced=True,
    )
    label_smoothing: float = setting(
        0.0,
        "Label smoothing",
        "Share of the target that all words have in equal parts, against over-confidence; 0.1 is usual, 0 = off. The loss that is shown "
        "stays the plain one.",
        ge=0,
        le=0.9,
        advanced=True,
    )
    seed: int = setting(42, "Seed", "The same seed gives the same run.", ge=0, le=2**31 - 1, advanced=True)


class CheckpointSettings(Section):
    """Saves, evaluations and stops on the way."""

    save_every_steps: int = setting(
        0, "Save every n steps", "A checkpoint every so many steps; 0 = off.", unit="optimizer steps", ge=0
    )
    save_every_epoch: bool = setting(True, "Save at every epoch's end", "A checkpoint at the end of each epoch.")
    save_every_minutes: float = setting(
        0.0,
        "Save every n minutes",
        "A checkpoint when the last one is so many minutes of training old; pauses do not count. 0 = off.",
        unit="minutes",
        ge=0,
        le=100_000,
    )
    save_on_loss_fall: float = setting(
        0.0,
        "Save when the loss falls by",
        "A checkpoint each time the smoothed loss has fallen by this share since the last of them; 10 is what Training PRO does. 0 = off.",
        unit="percent",
        ge=0,
        le=90,
    )
    save_loss_start: float = setting(
        0.0,
        "Save from loss",
        "For Save when the loss falls by: the first checkpoint comes when the smoothed loss is at or under this. 0 = the fall is counted "
        "from the first loss that is averaged over enough steps.",
        ge=0,
        le=100,
    )
    save_best_eval: bool = setting(
        False,
        "Save the best evaluation",
        "A checkpoint whenever an evaluation is better than all before it; needs evaluation data.",
    )
    keep_last: int = setting(
        3, "Keep checkpoints", "Older ones are deleted, but never those you saved yourself; 0 keeps all.", ge=0
    )
    keep_best: bool = setting(
        True,
        "Keep the best checkpoint",
        "The checkpoint with the lowest evaluation loss is not deleted, however old it is; it comes on top of Keep checkpoints.",
    )
    eval_every_steps: int = setting(
        0, "Evaluate every n steps", "0: at the end of each epoch, if there is evaluation data.", unit="optimizer steps", ge=0
    )
    understanding_samples: int = setting(
        64,
        "Context understanding samples",
        "Held-out replies on which is measured, with each evaluation, what the earlier conversation tells the model (context, order and "
        "distance gain). More are more exact and take longer; 0 = off.",
        unit="replies",
        ge=0,
        le=100_000,
        advanced=True,
    )
    stop_at_loss: float = setting(
        0.0, "Stop at loss", "Stop when the smoothed training loss is at or under this; 0 = off.", ge=0, le=100
    )
    stop_at_epoch: float = setting(
        0.0,
        "Stop at epoch",
        "Stop when so many epochs are done. The learning rate stays the one planned for all Epochs, so that it has not come down yet. "
        "0 = off.",
        unit="epochs",
        ge=0,
        le=10_000,
    )


class SampleSettings(Section):
    """Prompts that the model answers before and after, and on the way."""

    prompts: list[str] = setting(
        [], "Sample prompts", "Questions that the model answers before and after the training, side by side."
    )
    every_steps: int = setting(
        0,
        "Answer every n steps",
        "The Sample prompts are answered on the way too, every so many steps. The training is the same with and without; it waits for the "
        "answers. 0 = off.",
        unit="optimizer steps",
        ge=0,
        le=100_000_000,
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
    log_to: str = setting(
        "none",
        "Detailed logs",
        "Writes the run's numbers also for a program of yours, into the folder 'logs' of the run. Needs its package.",
        choices=worded(
            LOG_PACKAGES,
            {
                "none": "Only the run's own diary.",
                "tensorboard": "Look at them with tensorboard --logdir.",
                "wandb": "Weights & Biases, offline; nothing is sent.",
            },
        ),
        advanced=True,
    )
