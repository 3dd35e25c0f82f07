"""The page of runs: list, comparison, queue, export."""
