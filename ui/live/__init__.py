"""The run that is shown: status, controls, checkpoints, and what keeps them fresh."""
