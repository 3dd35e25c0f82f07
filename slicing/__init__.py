"""The parts of the slicer, in the order in which text flows through them; `chunking` is their front door.

stream (text in pieces) -> cuts (hard cuts) -> reader (windows of sentences) -> tokens (ids and where each ends)
-> units (sentences, or parts of those that are too long) -> filling (blocks)
"""
