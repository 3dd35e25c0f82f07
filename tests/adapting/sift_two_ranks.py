"""A SIFT run on two processes, started by test_sift_runs.py. Usage: torch.distributed.run ... sift_two_ranks.py FOLDER."""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tiny  # noqa: E402
import torch  # noqa: E402
import trials  # noqa: E402

RANK = int(os.environ["RANK"])
FOLDER = Path(sys.argv[1])


def main() -> None:
    """Train on both; rank 0 writes, each says whether its base came back."""
    from test_sift_runs import SHARED, sift_settings
    from training_pro import matplotgraph

    matplotgraph.draw_graph = trials.no_picture
    model = tiny.model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    config = sift_settings(FOLDER, "two", batching={"true_batch_size": 1, "gradient_accumulation": 2}, **SHARED)
    outcome, _ = trials.run(config, model)
    after = model.state_dict()
    is_back = before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    seen = {"status": outcome.status, "message": outcome.message, "step": outcome.step, "is_back": is_back}
    (FOLDER / f"seen-{RANK}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
