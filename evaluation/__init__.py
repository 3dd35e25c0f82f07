"""Measures of a model: loss on held-out data, memory, diagnosis of curves."""
