"""Our settings as transformers' TrainingArguments: what Trainer must do, and what it must leave to us."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from ..config import RunConfig
from ..runs.store import RunFolder

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from .setup import RunSetup


def training_arguments(config: RunConfig, setup: RunSetup, folder: RunFolder, model: Any) -> TrainingArguments:
    """Arguments for one planned run.

    Trainer sees one epoch, since the sampler's sequence is the whole run; logging, saving and evaluating follow our plan.
    """
    from transformers import TrainingArguments

    device = next(model.parameters()).device.type
    training = config.training
    wanted: dict[str, Any] = {
        "output_dir": str(folder.path),
        "num_train_epochs": 1,
        "per_device_train_batch_size": setup.sampler.plan.batch_size,
        "per_device_eval_batch_size": setup.sampler.plan.batch_size,
        "gradient_accumulation_steps": setup.sampler.plan.accumulation,
        "learning_rate": training.learning_rate,
        "optim": "sgd",  # unused: PlannedTrainer makes its own, and this name asks for no package
        "max_grad_norm": training.max_grad_norm,
        "seed": training.seed,
        "bf16": setup.precision == "bfloat16",
        "fp16": setup.precision == "float16",
        "use_cpu": device == "cpu",
        "logging_strategy": "no",
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "eval_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "average_tokens_across_devices": True,
        "dataloader_num_workers": config.run.workers,
        "dataloader_pin_memory": device == "cuda",
        "ddp_find_unused_parameters": False,
        # batches differ in size and are cut for whole windows already: accelerate must hand them on as they are
        "accelerator_config": {"even_batches": False, "split_batches": False, "dispatch_batches": False},
    }
    known = inspect.signature(TrainingArguments).parameters
    # the name changed within transformers 5
    checkpointing = "activation_checkpointing" if "activation_checkpointing" in known else "gradient_checkpointing"
    wanted[checkpointing] = training.gradient_checkpointing
    wanted[f"{checkpointing}_kwargs"] = {"use_reentrant": False}
    unknown = [name for name in wanted if name not in known]
    assert not unknown, f"this transformers has no TrainingArguments {unknown}"
    args = TrainingArguments(**wanted)
    if args.n_gpu > 1:
        args._n_gpu = 1  # the model is on one device; DataParallel would copy it to every other one
    return args
