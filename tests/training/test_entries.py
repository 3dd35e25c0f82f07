"""What the batching mode makes of a conversation where the settings leave that to it."""

import pytest
from training_pro.batching.course import MODES
from training_pro.config import RunConfig
from training_pro.training.entries import data_settings

JOINING = {"paired", "sequential", "hybrid", "hybrid two-stage"}


@pytest.mark.parametrize("mode", MODES)
def test_modes_that_join_neighbours_get_exchanges(mode: str) -> None:
    assert set(MODES) >= JOINING
    config = RunConfig.from_dict({"batching": {"mode": mode}})
    assert config.data.entry == "auto"
    assert data_settings(config).entry == ("exchange" if mode in JOINING else "conversation")
    assert config.data.entry == "auto"


@pytest.mark.parametrize("entry", ["conversation", "exchange"])
def test_what_the_user_chose_stays(entry: str) -> None:
    for mode in ("shuffled", "hybrid"):
        assert data_settings(RunConfig.from_dict({"batching": {"mode": mode}, "data": {"entry": entry}})).entry == entry


def test_blocks_are_no_longer_than_samples() -> None:
    def problems(tokens: int) -> list[str]:
        config = RunConfig.from_dict({"data": {"dataset": __file__, "cutoff": 64, "block_tokens": tokens}})
        return [f"{problem.message} {problem.remedy}" for problem in config.problems() if problem.field == "data.block_tokens"]

    assert problems(64) == problems(0) == []
    assert problems(65) == ["A block cannot be longer than a sample. Set it to 64 or less, or to 0."]
