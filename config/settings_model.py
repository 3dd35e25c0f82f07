"""Settings of the model and of the adapter that is put on it."""

from __future__ import annotations

from ..adapting.quantization import COMPUTE_DTYPES, FOUR_BITS, QUANTIZATIONS, Loading
from ..train_utils import (
    BIASES,
    CHAT_TEMPLATES,
    DTYPES,
    FULL_COPIES,
    FULL_WEIGHTS,
    INITIALISATIONS,
    METHODS,
    TARGET_PRESETS,
    Method,
)
from .field import Section, sentence, setting, worded

# how a run takes a name that there is already, in words
IF_EXISTS = {
    "stop": "Refuses to start, so that nothing is overwritten.",
    "resume": "Goes on with an unfinished run exactly where it was.",
    "continue": "Trains the existing adapter further; a copy of it is kept.",
    "replace": "Moves the existing one into a dated backup and begins anew.",
    "new name": "Adds a number to the name.",
}

# patterns of the files that are the result of a run; one of these sets is there, whatever method made it
RESULT_FILES = tuple(dict.fromkeys(method.files for method in METHODS.values()))

# what other settings must be for some to have an effect (see field.setting)
_LORA = {"adapter.method": ("lora", "dora")}
_WITH_TARGETS = {"adapter.method": tuple(name for name, method in METHODS.items() if method.uses_targets)}
_FULL = {"adapter.method": ("full",)}
_SIFT = {"adapter.method": ("sift",)}
_HEAD = {"adapter.method": ("lora", "dora", "sift")}
_FOUR_BITS = {"model.quantization": FOUR_BITS}


def _method_words(method: Method) -> str:
    """A sentence on a method, and where its result can be used."""
    place = "" if method.in_peft else " Not for the WebUI's LoRA menu."
    return sentence(method.words) + place


class ModelSettings(Section):
    """Which model is trained."""

    path: str = setting(
        "",
        "Model",
        "Folder of a Hugging Face model. Empty: the model that is loaded in the WebUI, or the embedded small model elsewhere.",
    )
    dtype: str = setting(
        "auto",
        "Load model in",
        "Number format of the base model's weights. auto: as stored on a GPU, float32 on a CPU.",
        choices=("auto", *DTYPES),
        advanced=True,
    )
    quantization: str = setting(
        "none",
        "Quantization",
        "Packs the weights of the base while it is loaded, by bitsandbytes. For LoRA and its kin.",
        choices=worded(
            QUANTIZATIONS,
            {
                "none": "As they are stored.",
                "nf4": "A quarter of 16 bits; the usual choice for small GPUs (QLoRA).",
                "fp4": "A quarter of 16 bits, a little less exact than nf4.",
                "int8": "Half of 16 bits, more exact.",
            },
        ),
        advanced=True,
    )
    double_quantization: bool = setting(
        True,
        "Double quantization",
        "Packs the scales of 4-bit weights too: 0.4 bits a weight less, hardly less exact.",
        advanced=True,
        only_if=_FOUR_BITS,
    )
    compute_dtype: str = setting(
        "auto",
        "Compute 4-bit in",
        "What 4-bit weights are unpacked to. auto: bfloat16 or what the GPU has, float32 on a CPU.",
        choices=COMPUTE_DTYPES,
        advanced=True,
        only_if=_FOUR_BITS,
    )
    max_memory: list[str] = setting(
        [],
        "Maximum memory",
        "Spreads the model over several GPUs, each with at most so much of it: 0: 10GiB, 1: 20GiB. Empty: all on the first. Parts on the "
        "CPU or the disk are refused, since they cannot be trained.",
        advanced=True,
    )
    chat_template: str = setting(
        "",
        "Chat template",
        f"Used instead of the model's own: a name ({', '.join(CHAT_TEMPLATES)}) or a file (.jinja, or a WebUI .yaml). Models without "
        "any need one for conversations; alpaca, plain and vicuna need no tokens of their own. The model gets its own back afterwards.",
        advanced=True,
    )

    @property
    def loading(self) -> Loading:
        """How the folder's weights come into memory."""
        memory = tuple(self.max_memory)
        return Loading(self.dtype, self.quantization, self.double_quantization, self.compute_dtype, memory)


class AdapterSettings(Section):
    """What is trained, how, and its name."""

    name: str = setting(
        "my-lora", "Name", "Name of the adapter and of its folder. Letters, digits, '-' and '_' are safe; no dots."
    )
    if_exists: str = setting(
        "stop",
        "If the name exists",
        "What to do if there is a run or an adapter of that name.",
        choices=IF_EXISTS,
    )
    resume_from: str = setting(
        "",
        "Resume from",
        "The checkpoint to resume from, by the name of its folder, such as checkpoint-120. Empty = the newest.",
        only_if={"adapter.if_exists": ("resume",)},
    )
    resume_changed: bool = setting(
        False,
        "Resume with changes",
        "Resume also where data, seed, batches, packing or the number of processes changed. Weights, optimizer and learning rate go on; "
        "the order of the samples is a new one, and what is not exact is said. Model and adapter must be the same.",
        advanced=True,
        only_if={"adapter.if_exists": ("resume",)},
    )
    method: str = setting(
        "lora",
        "Method",
        "How the weights move.",
        choices={name: _method_words(method) for name, method in METHODS.items()},
    )
    rank: int = setting(
        16, "LoRA Rank", "Size of the adapter: 8 for style, 32 and more to teach facts.", ge=1, le=65536, only_if=_LORA
    )
    alpha: float = setting(
        32,
        "LoRA Alpha",
        "Strength of the adapter; the scale is alpha / rank. Usual: 1 to 2 times the rank.",
        gt=0,
        le=65536,
        only_if={**_LORA, "adapter.rslora": (False,)},
    )
    dropout: float = setting(
        0.05,
        "LoRA Dropout",
        "Share of the adapter's inputs that is dropped while training, against over-fitting.",
        ge=0,
        lt=1,
        only_if={"adapter.method": ("lora", "dora", "vera")},
    )
    targets: list[str] = setting(
        ["all-linear"],
        "Target modules",
        f"A ready choice ({', '.join(TARGET_PRESETS)}) or names of modules of the model, such as q_proj.",
        only_if=_WITH_TARGETS,
    )
    exclude: list[str] = setting(
        [], "Exclude modules", "Names of modules that are left out, such as down_proj.", advanced=True, only_if=_WITH_TARGETS
    )
    first_layer: int = setting(
        1, "Layers from", "First layer of the model that is trained; the first is 1.", ge=1, advanced=True, only_if=_WITH_TARGETS
    )
    last_layer: int = setting(
        0, "Layers to", "Last layer that is trained; 0 = to the end.", ge=0, advanced=True, only_if=_WITH_TARGETS
    )
    initialisation: str = setting(
        "default",
        "Initialisation",
        "How a LoRA begins. pissa and olora change the model for the time of the run and keep a copy of what they change in the "
        "computer's memory.",
        choices={name: sentence(words) for name, words in INITIALISATIONS.items()},
        advanced=True,
        only_if={"adapter.method": ("lora",)},
    )
    lora_plus: float = setting(
        0.0,
        "LoRA+ ratio",
        "How many times faster the matrices B learn, which begin at zero; 16 is usual, 0 = as fast as the others.",
        ge=0,
        le=1000,
        advanced=True,
        only_if=_LORA,
    )
    rslora: bool = setting(
        False,
        "Use rsLoRA",
        "The scale is Alpha of rsLoRA / the root of the rank, so that high ranks learn as fast as low ones.",
        advanced=True,
        only_if=_LORA,
    )
    rslora_alpha: float = setting(
        8,
        "Alpha of rsLoRA",
        "Strength of the adapter with rsLoRA: 8 at rank 16 is as strong as LoRA Alpha 32.",
        gt=0,
        le=65536,
        advanced=True,
        only_if={**_LORA, "adapter.rslora": (True,)},
    )
    bias: str = setting(
        "none",
        "Train biases",
        "Biases of the model that are trained too. Few models have any.",
        choices=worded(
            BIASES, {"none": "No biases.", "all": "All biases of the model.", "lora_only": "Those of the target modules."}
        ),
        advanced=True,
        only_if=_LORA,
    )
    train_embeddings: bool = setting(
        False,
        "Train embeddings",
        "The input embeddings are trained too, whole, for new words or another language. The adapter grows by all of them; Check says how "
        "much. SIFT trains components of them. Models that share them with the head train both.",
        advanced=True,
        only_if=_HEAD,
    )
    train_head: bool = setting(
        False,
        "Train head",
        "The same with the output head.",
        advanced=True,
        only_if=_HEAD,
    )
    vera_rank: int = setting(
        256,
        "VeRA Rank",
        "Size of the shared random matrices of VeRA; its own weights are few at any rank.",
        ge=1,
        le=65536,
        only_if={"adapter.method": ("vera",)},
    )
    oft_block_size: int = setting(
        32,
        "OFT block size",
        "How many inputs OFT rotates together; must divide the inputs of every target module.",
        ge=2,
        le=4096,
        only_if={"adapter.method": ("oft",)},
    )
    merge_first: list[str] = setting(
        [],
        "Merge first",
        "Adapters that are made part of the model for this run, by name or folder: what is learned comes on top of them. The model gets "
        "its own weights back afterwards.",
        advanced=True,
    )
    full_weights: str = setting(
        "float32",
        "Weights in training",
        "Full fine-tuning of a 16-bit model: what the steps are added to.",
        choices=worded(
            FULL_WEIGHTS,
            {
                "float32": "Master weights of 4 bytes; nothing is lost.",
                "as the model": "Half the memory, but in bfloat16 a step smaller than 1/256 of a weight is lost.",
            },
        ),
        advanced=True,
        only_if=_FULL,
    )
    full_copy: str = setting(
        "memory",
        "Give back from",
        "Full fine-tuning in place: how the loaded model gets its weights back.",
        choices=worded(
            FULL_COPIES,
            {
                "memory": "From a copy in the computer's memory, as large as the model.",
                "disk": "Its folder is read again, after it was compared before the run.",
            },
        ),
        advanced=True,
        only_if=_FULL,
    )
    sift_rate: float = setting(
        0.05,
        "SIFT Rate",
        "Share of each target weight's components that is trained: those with the largest gradient in the first batches. Memory of "
        "gradients and optimizer, and the size of the result, are in proportion. Usual: 0.05 with a Learning Rate of 2e-4.",
        gt=0,
        le=1,
        only_if=_SIFT,
    )
    sift_steps: int = setting(
        1,
        "Steps to choose by",
        "The components are chosen by the gradient of so many optimizer steps' batches, before the first step. More make the choice less "
        "dependent on which samples come first.",
        unit="optimizer steps",
        ge=1,
        le=1000,
        advanced=True,
        only_if=_SIFT,
    )
    sift_norms: bool = setting(
        False,
        "Train normalisation layers",
        "SIFT: components of the normalisation layers are chosen and trained too.",
        advanced=True,
        only_if=_SIFT,
    )
