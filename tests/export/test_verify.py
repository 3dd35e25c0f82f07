"""The comparison of a merged folder with base and adapter: what passes, what does not, what is worth a word."""

import pytest
import torch
from training_pro.export.verify import compare

BASE = torch.randn(40, 50, generator=torch.Generator().manual_seed(0))
CHANGE = 0.1 * torch.randn(40, 50, generator=torch.Generator().manual_seed(1))
NOISE = torch.randn(40, 50, generator=torch.Generator().manual_seed(2))


def test_equal_answers() -> None:
    found = compare(BASE, BASE + CHANGE, BASE + CHANGE, "float32", "float32")
    assert (found.difference, found.same_choice, found.positions) == (0, 1, 40)
    assert found.share == pytest.approx(1)
    assert found.effect == pytest.approx(0.1, rel=0.1)
    assert found.is_right
    assert found.warning == ""


def test_a_shift_of_all_logits_of_a_position_is_none() -> None:
    found = compare(BASE, BASE + CHANGE, BASE + CHANGE + torch.arange(40.0)[:, None], "float32", "float32")
    assert found.difference < 1e-5


@pytest.mark.parametrize("times", [0.0, 0.5, 2.0, -1.0])
def test_a_change_of_another_strength_is_wrong_however_small_it_is(times: float) -> None:
    """2 % of the logits is within what rounding to bfloat16 may do, but not in the direction of the adapter."""
    change = CHANGE / 5
    assert not compare(BASE, BASE + change, BASE + times * change, "bfloat16", "float32").is_right


def test_rounding_is_allowed_as_far_as_the_format_rounds() -> None:
    merged = BASE + CHANGE + 0.004 * NOISE
    assert compare(BASE, BASE + CHANGE, merged, "bfloat16", "float32").is_right
    assert not compare(BASE, BASE + CHANGE, merged, "float32", "float32").is_right
    assert not compare(BASE, BASE + CHANGE, BASE + CHANGE + 0.1 * NOISE, "bfloat16", "float32").is_right


def test_not_a_number_is_wrong() -> None:
    merged = BASE.clone()
    merged[3, 4] = float("nan")
    assert not compare(BASE, BASE + CHANGE, merged, "bfloat16", "float32").is_right


def test_what_rounding_hides_is_said() -> None:
    found = compare(BASE, BASE + CHANGE / 50, BASE + CHANGE / 50 + 0.004 * NOISE, "bfloat16", "float32")
    assert found.is_right
    assert "Rounding hides part of what was learned" in found.warning


def test_an_adapter_without_effect_is_said() -> None:
    found = compare(BASE, BASE, BASE, "bfloat16", "float32")
    assert found.is_right
    assert "changes nothing" in found.warning
