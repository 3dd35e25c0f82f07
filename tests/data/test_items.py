"""What samplers yield: plain tuples that travel to workers."""

import pickle
from typing import Any

import pytest
from items_made import joined, packed, trained_entries, with_context
from training_pro.data.items import is_context, is_pack


@pytest.mark.parametrize(
    ("item", "trained"),
    [
        (7, [7]),
        (-1, []),
        (joined([3]), [3]),
        (joined([3, 4]), [3, 4]),
        (with_context([], 4), [4]),
        (with_context([2, 3], 4), [4]),
        (packed([joined([1, 2]), with_context([3], 4), 5, -2]), [1, 2, 4, 5]),
    ],
)
def test_items(item: Any, trained: list[int]) -> None:
    assert trained_entries(item) == trained
    assert hash(item) is not None
    assert pickle.loads(pickle.dumps(item)) == item


def test_items_are_the_tuples_that_batching_makes() -> None:
    assert joined([3]) == 3
    assert joined([3, 4]) == (3, 4)
    assert with_context([2, 3], 4) == ("context", (2, 3), 4)
    assert with_context([], 4) == 4
    assert packed([3, (4, 5)]) == ("pack", (3, (4, 5)))
    assert is_context(("context", (2, 3), 4))
    assert not is_context((2, 3, 4))
    assert is_pack(("pack", (3,)))
    assert not is_pack((2, 3))
