"""What a run leaves on disk and how others read it: folders, events, controls, checkpoints."""
