"""Hybrid batching: entries, phases, the planned run and its switches. The front door is :mod:`training_pro.hybrid_batching`."""
