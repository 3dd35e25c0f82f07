"""User files in, tokenized samples out: sources, conversations, packing, collation, preparation."""
