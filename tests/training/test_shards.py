"""A model that FSDP cuts over processes is computed by the same routes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import trials


@pytest.mark.skipif(sys.platform != "linux", reason="gloo on CPUs, as CI has it")
def test_loss_and_gradient_are_those_of_the_whole_model(tmp_path: Path) -> None:
    script, result = Path(__file__).with_name("two_shards.py"), tmp_path / "errors.json"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script), str(result)]
    done = subprocess.run(command, env=trials.environment(), capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-8000:]
    assert "returned a view tensor" not in done.stderr  # its hooks can be lost on a view
    errors = json.loads(result.read_text())
    assert len(errors) == 4
    assert max(errors.values()) < 1e-5, errors
