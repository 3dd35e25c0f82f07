"""RunConfig: every parameter of a run, once, with its bounds, unit, label and help."""

from .model import (
    AdapterSettings,
    BatchingSettings,
    CheckpointSettings,
    DataSettings,
    ModelSettings,
    RunConfig,
    RunSettings,
    SampleSettings,
    TrainingSettings,
)
from .problems import ConfigError, Problem

__all__ = [
    "AdapterSettings",
    "BatchingSettings",
    "CheckpointSettings",
    "ConfigError",
    "DataSettings",
    "ModelSettings",
    "Problem",
    "RunConfig",
    "RunSettings",
    "SampleSettings",
    "TrainingSettings",
]
