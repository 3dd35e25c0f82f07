"""A step of a model that FSDP (fully_shard) cuts over two processes, started by test_shards.py: the loss and gradient of the whole model.

Usage: python -m torch.distributed.run --nproc_per_node 2 two_shards.py FILE. The main process writes FILE: case -> error.
"""

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
import tiny  # noqa: E402
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from training_pro import train_utils  # noqa: E402
from training_pro.training.noise import BatchPlace  # noqa: E402
from training_pro.training.step import BatchLoss, Extras, Route  # noqa: E402

EXTRAS = Extras(neftune_alpha=5.0, label_smoothing=0.1)


def batch_of(computer: BatchLoss, rank: int) -> Any:
    """Two samples of this process."""
    rng, entries = np.random.default_rng(rank), []
    for length in (20, 9):
        ids = rng.integers(3, 100, length)
        entries.append({"input_ids": ids, "labels": np.where(np.arange(length) % 3 == 0, -100, ids), "lengths": [length]})
    return computer.collator(0)(entries)


def model_of(method: str, checkpointing: bool) -> Any:
    model = tiny.model(tie_word_embeddings=False)
    model.config.use_cache = False
    if method == "lora":
        model = train_utils.add_lora(model, rank=4, alpha=8, dropout=0.0, targets=["q_proj", "down_proj"])
        torch.manual_seed(1)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.data.normal_(0, 0.05)
    model.train()
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def step(model: Any, called: Any, route: Route) -> torch.Tensor:
    computer = BatchLoss(model, route, EXTRAS)
    place = BatchPlace(3, 0, dist.get_rank())
    with computer.attached():
        objective = computer.training_losses(called, batch_of(computer, dist.get_rank()), place).objective
        objective.backward()
    return objective.detach()


def error(method: str, layout: str, checkpointing: bool) -> float:
    """Largest difference of loss and gradients between the whole model and the one that is cut."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    route = Route(layout, "segments" if layout == "flat" else "", "chunked")
    whole, cut = model_of(method, checkpointing), model_of(method, checkpointing)
    wanted = step(whole, whole, route)
    mesh = init_device_mesh("cpu", (2,))
    for layer in (cut.get_base_model() if method == "lora" else cut).model.layers:
        fully_shard(layer, mesh=mesh)
    got = step(cut, fully_shard(cut, mesh=mesh), route)
    found = [abs(float(got / wanted) - 1)]
    for mine, theirs in zip(whole.parameters(), cut.parameters(), strict=True):
        if mine.grad is not None:
            dist.all_reduce(mine.grad)
            summed: torch.Tensor = theirs.grad.full_tensor() * 2  # type: ignore[union-attr]
            found.append(float((summed - mine.grad).norm() / mine.grad.norm()))
    assert len(found) > 5
    return max(found)


def main() -> None:
    dist.init_process_group("gloo")
    cases = [("full", "flat", False), ("full", "flat", True), ("full", "padded", False), ("lora", "flat", False)]
    errors = {" ".join(map(str, case)): error(*case) for case in cases}
    if dist.get_rank() == 0:
        Path(sys.argv[1]).write_text(json.dumps(errors))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
