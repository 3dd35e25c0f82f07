"""What happens after a run: merge into the base, write for llama.cpp, describe in a model card."""
