"""Runs on two processes, started by the fixture ``two_ranks``: several trainings after each other, and what each process saw of them.

Usage: python -m torch.distributed.run --nproc_per_node 2 two_ranks.py FOLDER. Each process writes FOLDER/seen-RANK.json.
"""

import errno
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import talks  # noqa: E402
import trials  # noqa: E402

RANK = int(os.environ["RANK"])
FOLDER = Path(sys.argv[1])


def plain(name: str, **changes: Any) -> Any:
    """Settings without dropout, so that one process can be compared with two."""
    return trials.settings(FOLDER, adapter={"name": name, "dropout": 0.0}, **changes)


def result(config: Any, **how: Any) -> dict[str, Any]:
    """Train; how it ended and what was seen here."""
    with trials.watched() as seen:
        try:
            outcome, events = trials.run(config, **how)
        except Exception as error:
            return {"raised": type(error).__name__, "message": str(error)}
    return {
        "status": outcome.status,
        "message": outcome.message,
        "step": outcome.step,
        "adapter_saved": outcome.adapter_saved,
        "seen": seen,
        "events": len(events),
        "evaluations": events.all("evaluation"),
        "understanding": events.all("understanding"),
        "steps": events.all("step"),
        "reports": [entry["report"] for entry in events.all("prepared")],
        "checkpoints": sorted(path.name for path in outcome.folder.path.glob("checkpoint-*")),
    }


def resumes(accumulation: int, stop: int, workers: int = 0) -> dict[str, Any]:
    """A whole run, and one that is stopped and resumed."""
    changes: dict[str, Any] = {"batching": {"gradient_accumulation": accumulation}}
    results = {}
    for part, if_exists, stop_at in (("whole", "stop", 0), ("first", "stop", stop), ("second", "resume", 0)):
        place = "whole" if part == "whole" else "parts"
        changes["run"] = {"workers": workers, "adapters_dir": str(FOLDER / f"resume-{accumulation}-{workers}-{place}")}
        results[part] = result(trials.settings(FOLDER, adapter={"if_exists": if_exists}, **changes), stop_at=stop_at)
    return results


def hybrid() -> dict[str, Any]:
    """A switch by loss within the first epoch; the run is stopped between decision and effect and resumed."""
    loss = {"switch_by": "loss", "switch_loss_low": 0, "switch_loss_high": 99, "switch_smoothing": 2, "switch_minimum": 0.2}
    batching = {"true_batch_size": 1, "mode": "hybrid", **loss}
    results = {}
    for part, if_exists, stop_at in (("whole", "stop", 0), ("first", "stop", 2), ("second", "resume", 0)):
        run = {"adapters_dir": str(FOLDER / f"hybrid-{'whole' if part == 'whole' else 'parts'}")}
        config = trials.settings(FOLDER, adapter={"if_exists": if_exists}, batching=batching, run=run, training={"epochs": 2})
        results[part] = result(config, stop_at=stop_at)
    return results


def two_stage() -> dict[str, Any]:
    """Length, paired, sequential with joined samples in packs; stopped within the paired phase and resumed."""
    batching = {"true_batch_size": 1, "packing": "best_fit", "gradient_accumulation": 2}
    results = {}
    for part, if_exists, stop_at in (("whole", "stop", 0), ("first", "stop", 4), ("second", "resume", 0)):
        run = {"adapters_dir": str(FOLDER / f"two-stage-{'whole' if part == 'whole' else 'parts'}")}
        results[part] = result(
            talks.settings(FOLDER, adapter={"if_exists": if_exists}, batching=batching, run=run), stop_at=stop_at
        )
    return results


def nan_in_third_step() -> dict[str, Any]:
    """On one process only; the loss is everybody's."""
    from training_pro.training.trainer import PlannedTrainer

    compute = PlannedTrainer.compute_loss

    def compute_loss(self: Any, *args: Any, **kwargs: Any) -> Any:
        loss = compute(self, *args, **kwargs)
        if RANK == 1 and self.state.global_step == 2:
            self.meter._sums[0] = float("nan")
        return loss

    PlannedTrainer.compute_loss = compute_loss  # type: ignore[method-assign]
    try:
        return result(plain("nan"))
    finally:
        PlannedTrainer.compute_loss = compute  # type: ignore[method-assign]


def full_disk(rank: int) -> dict[str, Any]:
    """One process cannot write its part of the second checkpoint."""
    from training_pro.training.trainer import PlannedTrainer

    save = PlannedTrainer._save_rng_state

    def save_rng_state(self: Any, folder: str) -> None:
        if rank == RANK and self.state.global_step == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(self, folder)

    PlannedTrainer._save_rng_state = save_rng_state  # type: ignore[method-assign]
    try:
        return result(plain(f"full-{rank}", checkpoints={"save_every_steps": 2, "save_every_epoch": False}))
    finally:
        PlannedTrainer._save_rng_state = save  # type: ignore[method-assign]


def steered(name: str, changes: dict[int, dict[str, Any]], **config: Any) -> dict[str, Any]:
    """A run whose controls change right after steps; a pause ends by itself after a while. Only the main process sees the diary."""
    from training_pro.runs.control import change_control

    events = trials.Events()
    control = FOLDER / "loras" / name / "control.json"

    def change(values: dict[str, Any]) -> None:
        change_control(control, **values)
        if values.get("pause"):
            threading.Timer(1.0, lambda: change_control(control, pause=False, save_requests=1)).start()

    for step, values in changes.items():
        events.on(step, lambda values=values: change(values))  # type: ignore[misc]
    seen = result(plain(name, **config), events=events)
    kinds = ("paused", "unpaused", "control", "checkpoint", "sample", "message")
    return {**seen, **{kind: events.all(kind) for kind in kinds}}


def main() -> None:
    """All trainings; the same order on both processes."""
    from training_pro import matplotgraph

    trials.freeze_heap()
    matplotgraph.draw_graph = trials.no_picture
    evaluation = {"data": {"eval_share": 0.1}}  # one sample for two processes
    seen = {
        "plain": result(plain("plain", **evaluation)),
        "windows": result(plain("windows", batching={"true_batch_size": 1, "gradient_accumulation": 2})),  # with two fillers
        "packed": result(
            plain("packed", batching={"packing": "best_fit", "true_batch_size": 1}, data={"cutoff": 96, "eval_share": 0.1})
        ),
        "monitored": result(
            trials.multi_turn(FOLDER, adapter={"name": "monitored", "dropout": 0.0}, batching={"true_batch_size": 1})
        ),
        "checkpointing": result(plain("checkpointing", training={"gradient_checkpointing": True}, **evaluation)),
        "resume 1": resumes(1, 3),
        "resume 3": resumes(3, 1, workers=2),
        "hybrid": hybrid(),
        "two-stage": two_stage(),
        "nan": nan_in_third_step(),
        "full 0": full_disk(0),
        "full 1": full_disk(1),
        "exists": result(plain("plain")),
        "broken data": result(plain("broken", data={"cutoff": 8})),
        "steered": steered(
            "steered",
            {2: {"pause": True}, 3: {"lr_scale": 0.5}, 4: {"evaluate_requests": 1}},
            data={"eval_share": 0.1},
            samples={"prompts": ["where"], "max_new_tokens": 3, "every_steps": 2},
        ),
        "scaled": steered("scaled", {3: {"lr_scale": 0.5}}, data={"eval_share": 0.1}),
        "discarded": steered("discarded", {3: {"discard": True}}, checkpoints={"save_every_steps": 1}),
        "again": result(plain("again", training={"epochs": 1})),
    }
    (FOLDER / f"seen-{RANK}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
