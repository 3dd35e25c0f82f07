"""How a run begins, for places that train nothing: the claim, the folder and the parameters."""

from pathlib import Path

from training_pro.config import RunConfig
from training_pro.runs import registry
from training_pro.runs.registry import RunHandle
from training_pro.runs.store import RunFolder, open_run_folder, write_json


def begin_run(adapters: Path, config: RunConfig) -> tuple[RunHandle, RunFolder]:
    """Claim the process for a run and open its folder; a name that exists is refused and nothing stays claimed."""
    handle = registry.claim(config.adapter.name)
    try:
        folder = handle.folder = open_run_folder(adapters, config.adapter.name, config.adapter.if_exists)
    except ValueError:
        registry.release()
        raise
    write_json(folder.parameters, config.to_dict())
    return handle, folder
