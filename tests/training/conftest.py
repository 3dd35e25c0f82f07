"""What makes many small trainings quick: nothing old is collected again and again, and no picture is drawn but where it is looked at."""

import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trials


@pytest.fixture(scope="session", autouse=True)
def _frozen_heap() -> Any:
    """Every run collects garbage a few times; the libraries' own objects need not be walked through each time."""
    trials.freeze_heap()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _no_picture(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "with_picture" not in request.fixturenames:
        monkeypatch.setattr("training_pro.matplotgraph.draw_graph", trials.no_picture)


@pytest.fixture
def with_picture() -> None:
    """For tests that look at the graph."""


@pytest.fixture(scope="session")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What two processes saw of the trainings in two_ranks.py: ``(folder, [seen by rank 0, seen by rank 1])``."""
    folder = tmp_path_factory.mktemp("two-ranks")
    script = Path(__file__).with_name("two_ranks.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script), str(folder)]
    done = subprocess.run(command, env=trials.environment(), capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-8000:]
    return folder, [json.loads((folder / f"seen-{rank}.json").read_text()) for rank in range(2)]
