"""Real data loaders draw ahead: a switch must take effect behind what they hold, and lose nothing."""

from typing import Any

import batching_cases as cases
import pytest
from training_pro.hybrid_batching import Course, HybridBatchSampler, Transition

COURSE = Course(("length", "sequential"), (Transition("loss"),))


class Numbers:
    """An entry is its number."""

    def __getitem__(self, index: int) -> int:
        return index

    def __len__(self) -> int:
        return 60


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_switch_behind_what_is_drawn(workers: int, accumulation: int) -> None:
    torch_data = pytest.importorskip("torch.utils.data")
    sampler = HybridBatchSampler(
        [1 + n % 9 for n in range(60)], batch_size=2, num_epochs=2, accumulation=accumulation, phase=COURSE
    )
    loader: Any = torch_data.DataLoader(Numbers(), batch_sampler=sampler, collate_fn=list, num_workers=workers)
    seen, switch = [], None
    for number, batch in enumerate(loader, start=1):
        seen.append(batch)
        if number == 4:
            drawn = sampler.num_drawn
            switch = sampler.next_phase(number // accumulation, "asked")
    assert drawn == 4 + (4 if workers else 0)  # 2 workers with 2 batches each
    assert switch is not None
    assert switch.position == -(-drawn // accumulation) * accumulation
    assert seen == list(sampler)
    assert len(seen) == sampler.plan.num_batches
    for epoch in range(2):
        assert sorted(cases.entries_of(sampler.epoch_batches(epoch))) == list(range(60))
    after = cases.entries_of(sampler.epoch_batches(0)[switch.position :])
    assert after == sorted(after)
