"""Settings of the run: batches, steps, saves, sample prompts, places."""

from __future__ import annotations

from ..batching.course import LOSS_RANGES, MINIMUM_EPOCHS, MODES, SMOOTHING_STEPS, TRIGGERS
from ..data.embedding import EMBEDDINGS
from ..data.packing import NEEDS_VECTORS, PACKERS
from ..train_utils import PRECISIONS
from .field import Section, setting
from .settings_pace import OptimizerSettings

# what other settings must be for some to have an effect (see field.setting)
_HYBRID = {"batching.mode": tuple(mode for mode, phases in MODES.items() if len(phases) > 1)}
_BY_LOSS = {**_HYBRID, "batching.switch_by": ("loss",)}
_TWO_STAGE = {"batching.mode": tuple(mode for mode, phases in MODES.items() if len(phases) > 2)}
_SECOND_BY_LOSS = {**_TWO_STAGE, "batching.second_by": ("loss",)}
_IN_ORDER = {"batching.mode": tuple(mode for mode, phases in MODES.items() if "sequential" in phases)}
_RELATED = {"batching.packing": tuple(NEEDS_VECTORS)}


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
        "shuffled: a random order each epoch. length: samples of like length together, least padding. paired: two neighbours of a "
        "conversation or text as one sample. sequential: the order of the data, as much of a conversation or text together as fits. "
        "hybrid: first length, then sequential. hybrid two-stage: length, then paired, then sequential. The settings below say when.",
        choices=tuple(MODES),
    )
    switch_by: str = setting(
        "epochs",
        "Switch by",
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
    second_by: str = setting(
        "epochs",
        "Second switch by",
        "Two-stage hybrid batching: what ends the paired phase, as under Switch by.",
        choices=tuple(TRIGGERS),
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
        "Puts several samples into one row of the cutoff's length, so that every step trains as many tokens. best_fit: fullest packs; "
        "ordered: keeps the order of the data; related: samples of related content. True Batch Size counts packs then: lower it. Batching "
        "by length packs samples of like length together, sequential always keeps the order.",
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
    keep_last: int = setting(3, "Keep checkpoints", "Older ones are deleted; 0 keeps all.", ge=0)
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
