"""Configurations of every kind for property tests: each setting at its default or at any value that it takes."""

from typing import Any

from hypothesis import strategies as st
from training_pro.config import RunConfig
from training_pro.config.field import SettingInfo

# what a YAML file can hold: no half surrogate pairs, no control signs
words = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\t"), max_size=12)
tricky = st.sampled_from(
    ["3e-4", "1e5", "yes", "null", "~", "12", "0x1f", "1:30", "2024-01-31", "- a", "a: b", "# x", "'", "\\n", "[a]", ""]
)


def values(info: SettingInfo) -> st.SearchStrategy:
    """Any value that the setting takes."""
    if info.choices:
        return st.sampled_from(info.choices)
    if info.kind == "flag":
        return st.booleans()
    if info.kind == "list":
        return st.lists(words | tricky, max_size=3)
    if info.kind == "text":
        return words | tricky
    low, high = info.minimum or 0, min(info.maximum or 10**6, 10**6)
    if info.kind == "integer":
        return st.integers(int(low), int(high))
    inside = info.field == "adapter.dropout" or info.default == 1
    return st.floats(low, high, exclude_min=low == 0 and info.field in POSITIVE, exclude_max=inside)


POSITIVE = {
    "adapter.alpha",
    "adapter.rslora_alpha",
    "adapter.sift_rate",
    "batching.second_epochs",
    "batching.switch_epochs",
    "training.epochs",
    "training.learning_rate",
}


@st.composite
def configurations(draw: st.DrawFn) -> RunConfig:
    data: dict[str, dict[str, Any]] = {}
    for info in RunConfig.settings():
        if draw(st.booleans()):
            data.setdefault(info.section, {})[info.key] = draw(values(info))
    return RunConfig.from_dict(data)
