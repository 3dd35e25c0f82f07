"""Samples in one row do not see each other, and come out as if each stood alone; the model is itself again afterwards."""

from typing import Any

import architectures
import numpy as np
import pytest
import tiny
import torch
from training_pro import train_utils
from training_pro.data.collate import Collator
from training_pro.training.attention import NotExactError, SegmentAttention, attention_configs
from training_pro.training.step import BatchLoss, Route

X = -100
FLAT = Route("flat", "segments", "selected")
LENGTHS = (7, 21, 2, 13)  # some are longer than the window of 9, some shorter
CASES = [
    *((name, own) for name in ("llama", "mistral", "qwen2", "qwen3", "gemma3_text", "phi", "gpt2", "gpt_neox") for own in ("eager", "sdpa")),
    *((name, "eager") for name in ("gemma2", "gpt_oss")),
    *((name, "sdpa") for name in ("qwen3_moe", "cohere", "granite", "starcoder2", "opt", "stablelm")),
]  # fmt: skip

# eager attention computes its softmax in float32 whatever the model's format, these their norms or routers
PARTLY_SINGLE = ("gpt_oss", "gemma2", "gemma3_text", "qwen3_moe")

EXPERTS = ("gpt_oss", "qwen3_moe")


def rows(vocabulary: int = 100) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    made = [rng.integers(3, vocabulary, length) for length in LENGTHS]
    return [{"input_ids": ids, "labels": np.where(np.arange(len(ids)) % 3 == 0, X, ids)} for ids in made]


def flat_logits(model: Any, entries: list[dict[str, Any]]) -> list[torch.Tensor]:
    """All logits of each sample, from one flat row."""
    batch = Collator(0, "flat")(entries)
    attention = SegmentAttention(model, "segments")
    with torch.no_grad(), attention.on():
        attention.begin(batch["lengths"])
        logits = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits[0]
    assert attention.num_calls == model.config.get_text_config().num_hidden_layers
    return list(logits.split(batch["lengths"]))


def alone(model: Any, entry: dict[str, Any]) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.as_tensor(entry["input_ids"])[None]).logits[0]


@pytest.mark.parametrize(("name", "own"), CASES)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_each_sample_is_as_if_it_stood_alone(name: str, own: str, dtype: Any, bound: float) -> None:
    if dtype == torch.float64 and name in EXPERTS:
        pytest.skip("grouped products of experts do not know float64")
    model = architectures.make(name, own, dtype)
    entries = rows()
    if own == "eager" or name in PARTLY_SINGLE:
        bound = max(bound, 1e-6)
    for got, entry in zip(flat_logits(model, entries), entries, strict=True):
        wanted = alone(model, entry)
        assert (got - wanted).abs().max() <= bound * max(1.0, float(wanted.abs().max()))
    assert model.config._attn_implementation == own


@pytest.mark.parametrize(("name", "own"), CASES)
def test_a_changed_sample_leaves_its_neighbours_alone_to_the_bit(name: str, own: str) -> None:
    model, entries = architectures.make(name, own), rows()
    before = flat_logits(model, entries)
    entries[1] = {**entries[1], "input_ids": entries[1]["input_ids"][::-1].copy()}
    after = flat_logits(model, entries)
    assert [torch.equal(first, second) for first, second in zip(before, after, strict=True)] == [True, False, True, True]


def gradients(model: Any, entries: list[dict[str, Any]], route: Route) -> dict[str, torch.Tensor]:
    computer = BatchLoss(model, route)
    with computer.attached():
        computer.loss_sum(model, computer.collator(0)(entries)).backward()
    found = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    return found


def by_itself(model: Any, entries: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Sum of the gradients of every sample alone, from all logits."""
    for entry in entries:
        ids, labels = (torch.as_tensor(entry[name])[None] for name in ("input_ids", "labels"))
        logits = model(input_ids=ids).logits
        torch.nn.functional.cross_entropy(logits[0, :-1], labels[0, 1:], ignore_index=X, reduction="sum").backward()
    found = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    return found


def same(got: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], bound: float) -> None:
    assert got.keys() == wanted.keys()
    size = torch.stack([value.norm() for value in wanted.values()]).norm()
    assert size > 0
    assert torch.stack([(got[name] - wanted[name]).norm() for name in wanted]).norm() <= bound * size


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2", "gemma3_text", "gpt2", "gpt_oss", "qwen3_moe"])
@pytest.mark.parametrize("layout", ["flat", "padded"])
def test_the_gradient_of_a_batch_is_the_sum_over_its_samples(name: str, layout: str) -> None:
    single = name in PARTLY_SINGLE
    model = architectures.make(name, dtype=torch.float32 if single else torch.float64)
    bound = 1e-5 if single else 1e-12
    route = FLAT if layout == "flat" else Route("padded", "", "full")
    same(gradients(model, rows(), route), by_itself(model, rows()), bound)


@pytest.mark.parametrize("head", ["chunked", "selected"])
@pytest.mark.parametrize("precision", ["float64", "autocast"])
def test_with_an_adapter_and_gradient_checkpointing(head: str, precision: str) -> None:
    """The backward pass computes the layers again and must find the same segments."""
    model = tiny.model().to(torch.float64 if precision == "float64" else torch.float32)
    model = train_utils.add_lora(model, rank=4, alpha=8, dropout=0.0, targets=["q_proj", "v_proj", "o_proj"])
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    entries = rows(300)
    wanted = by_itself(model, entries)
    model.train()
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast"):
        got = gradients(model, entries, Route("flat", "segments", head))
    same(got, wanted, 1e-12 if precision == "float64" else 3e-2)
    model.gradient_checkpointing_disable()


def test_several_rows() -> None:
    """Segments go on from row to row; each row is whole segments here."""
    model = architectures.make("mistral", dtype=torch.float64)
    entries = rows()
    ids = np.concatenate([entry["input_ids"] for entry in entries])[:42].reshape(2, 21)
    lengths = [[13, 8], [21]]
    positions = torch.tensor([[*range(13), *range(8)], [*range(21)]])
    attention = SegmentAttention(model, "segments")
    with torch.no_grad(), attention.on():
        attention.begin([length for row in lengths for length in row])
        got = model(input_ids=torch.as_tensor(ids), position_ids=positions, use_cache=False).logits
    for row, cuts in enumerate(lengths):
        start = 0
        for length in cuts:
            part = slice(start, start + length)
            assert torch.allclose(got[row, part], alone(model, {"input_ids": ids[row, part]}), rtol=1e-12, atol=1e-12)
            start += length


def test_masked_rows_by_the_models_own_attention() -> None:
    """Positions that begin anew keep samples apart; the padding of a row is kept apart too."""
    for own in ("eager", "sdpa"):
        model = architectures.make("mistral", own, torch.float64)
        first, second, third, fourth = rows()
        pack = {key: np.concatenate([first[key], second[key]]) for key in first} | {"lengths": [7, 21]}
        bound = 1e-12 if own == "sdpa" else 1e-6
        same(gradients(model, [pack, third, fourth], Route("masked", "", "selected")), by_itself(model, rows()), bound)


# --- what is refused -----------------------------------------------------------------------------------------------------------


def call(model: Any, **inputs: Any) -> None:
    batch = Collator(0, "flat")(rows())
    attention = SegmentAttention(model, "segments")
    with attention.on():
        if inputs.pop("begin", True):
            attention.begin(inputs.pop("lengths", batch["lengths"]))
        model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], **{"use_cache": False, **inputs})


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"begin": False}, "no segments were given"),
        ({"attention_mask": torch.tensor([[0] * 3 + [1] * 40])}, "an attention mask of its own"),
        ({"lengths": [7, 21]}, "sees 43 positions where the batch has 28"),
        ({"is_causal": False}, "also looks ahead"),
        ({"position_bias": torch.zeros(1)}, "asks for position_bias"),
    ],
)
def test_what_is_not_known_to_be_exact_is_refused(inputs: dict[str, Any], words: str) -> None:
    model = architectures.make("llama")
    with pytest.raises(NotExactError, match=words):
        call(model, **inputs)
    assert model.config._attn_implementation == "sdpa"  # also after an error


def test_nothing_is_left_behind() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface

    model = architectures.make("llama", "eager")
    before = [dict(interface._global_mapping) for interface in (AttentionInterface, AttentionMaskInterface)]
    config = dict(model.config.__dict__)
    flat_logits(model, rows())
    assert [dict(interface._global_mapping) for interface in (AttentionInterface, AttentionMaskInterface)] == before
    assert dict(model.config.__dict__) == config


def test_a_padding_mask_is_never_dropped() -> None:
    """transformers drops it without a word where a name has no mask function: a row padded on the left would be wrong."""
    model = architectures.make("llama")
    attention = SegmentAttention(model, "segments")
    ids, mask = torch.tensor([[0, 0, 5, 6, 7]]), torch.tensor([[0, 0, 1, 1, 1]])
    with attention.on():
        attention.begin([5])
        with pytest.raises(NotExactError, match="mask"):
            model(input_ids=ids, attention_mask=mask)


def test_soft_capping_counts_where_the_models_own_attention_has_it() -> None:
    """torch's attention knows none, so a model on sdpa goes without; what is trained is what is used."""
    from transformers import Gemma2ForCausalLM

    entries = rows()
    capped = alone(architectures.make("gemma2", "eager", attn_logit_softcapping=0.05), entries[1])
    plain = alone(architectures.make("gemma2", "eager", attn_logit_softcapping=None), entries[1])
    assert (capped - plain).abs().max() > 1e-4  # else what follows would say nothing
    for own in ("eager", "sdpa") if Gemma2ForCausalLM._supports_sdpa else ("eager",):
        model = architectures.make("gemma2", own, torch.float64, attn_logit_softcapping=0.05)
        for got, entry in zip(flat_logits(model, entries), entries, strict=True):
            assert torch.allclose(got, alone(model, entry), rtol=1e-6, atol=1e-6)


def test_which_configs_are_asked() -> None:
    model = tiny.model()
    assert attention_configs(model) == [model.config]
    assert attention_configs(train_utils.add_lora(model, rank=2, alpha=4, dropout=0.0, targets=["q_proj"])) == [model.config]
    assert attention_configs(architectures.make("bloom")) == []
    assert attention_configs(torch.nn.Linear(2, 2)) == []
