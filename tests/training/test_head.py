"""The loss through the model's own forward: the same loss and gradients as from all logits, whatever is trained and wherever."""

from typing import Any

import pytest
import tiny
import torch
from training_pro import train_utils
from training_pro.data.collate import Collator
from training_pro.training import head as head_module
from training_pro.training.head import CHUNKED, FULL, SELECTED, TrainedHead, can_chunk

X = -100
ROWS = [
    {"input_ids": [5, 6, 7, 8, 9, 10, 11], "labels": [X, X, X, 8, 9, X, 11]},
    {"input_ids": [20, 21, 22], "labels": [X, 21, 22]},
    {"input_ids": [30, 31, 32, 33, 34], "labels": [X] * 5},
]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_module, "chunk_size", lambda vocabulary: 2)  # 5 trained places: chunks of 2, 2 and 1


def frozen(dtype: Any = torch.float64, **changes: Any) -> Any:
    model = tiny.model(**changes).to(dtype)
    return train_utils.add_lora(model, rank=4, alpha=8, dropout=0.0, targets=["q_proj", "down_proj"])


def shaken(model: Any) -> Any:
    """A LoRA begins at zero; here it counts."""
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data += 0.1 * torch.randn(weight.shape, generator=generator, dtype=torch.float64).to(weight)
    return model


def result(model: Any, mode: str) -> tuple[torch.Tensor, list[torch.Tensor]]:
    batch = Collator(0)(ROWS)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    loss = TrainedHead(model, mode).loss_sum(model, inputs, batch["positions"], batch["targets"])
    loss.backward()
    gradients = [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]
    model.zero_grad()
    return loss.detach(), gradients


def oracle(model: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
    batch = Collator(0)(ROWS)
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1].flatten(0, 1)
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    loss = torch.nn.functional.cross_entropy(exact, batch["labels"][:, 1:].flatten(), ignore_index=X, reduction="sum")
    loss.backward()
    gradients = [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]
    model.zero_grad()
    return loss.detach(), gradients


def agree(got: Any, wanted: Any, bound: float) -> None:
    assert torch.allclose(got[0].double(), wanted[0].double(), rtol=bound)
    assert len(got[1]) == len(wanted[1]) > 3
    flat = [torch.cat([gradient.double().flatten() for gradient in entry[1]]) for entry in (got, wanted)]
    assert flat[1].norm() > 0
    assert (flat[0] - flat[1]).norm() <= bound * flat[1].norm()


@pytest.mark.parametrize("mode", [CHUNKED, SELECTED, FULL])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_loss_and_gradient_are_those_of_all_logits(mode: str, dtype: Any, bound: float) -> None:
    model = shaken(frozen(dtype))
    assert can_chunk(model.get_output_embeddings())
    agree(result(model, mode), oracle(model), bound)


@pytest.mark.parametrize("mode", [CHUNKED, SELECTED])
def test_under_autocast(mode: str) -> None:
    model = shaken(frozen(torch.float32))
    with torch.autocast("cpu", torch.bfloat16):
        wanted, got = oracle(model), result(model, mode)
    agree(got, wanted, 2e-2)
    assert got[0].dtype == torch.float32


def test_small_shares_do_not_vanish_in_float16() -> None:
    """The loss's scale of mixed precision comes after the product with the head's weights."""
    share = torch.full((3, 64), 2e-8)
    weight = torch.ones(64, 5, dtype=torch.float16)
    assert (share.half() @ weight).abs().max() == 0
    assert torch.allclose(head_module._times(share, weight), share @ weight.float(), rtol=1e-2)


@pytest.mark.parametrize("mode", [CHUNKED, SELECTED, FULL])
def test_a_filler_adds_nothing_but_reaches_every_weight(mode: str) -> None:
    model = frozen()
    batch = Collator(0)(ROWS[2:])
    assert len(batch["positions"]) == 0
    loss = TrainedHead(model, mode).loss_sum(model, {"input_ids": batch["input_ids"]}, batch["positions"], batch["targets"])
    loss.backward()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    assert loss.item() == 0
    assert all(weight.grad is not None and not weight.grad.any() for weight in trained)  # DDP waits for each


def test_an_adapter_on_the_head_counts() -> None:
    model = tiny.model(tie_word_embeddings=False).double()
    model = shaken(train_utils.add_lora(model, rank=4, alpha=8, dropout=0.0, targets=["q_proj", "lm_head"]))
    assert not can_chunk(model.get_output_embeddings())
    agree(result(model, SELECTED), oracle(model), 1e-12)
    assert any("lm_head" in name for name, weight in model.named_parameters() if weight.requires_grad)


def test_a_trained_head_counts() -> None:
    model = tiny.model(tie_word_embeddings=False).double()
    assert not can_chunk(model.lm_head)
    agree(result(model, SELECTED), oracle(model), 1e-12)


def test_what_the_model_does_behind_its_head_counts() -> None:
    from transformers import CohereConfig, CohereForCausalLM, Gemma2Config, Gemma2ForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50}
    more = {"num_key_value_heads": 2, "head_dim": 16, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    torch.manual_seed(0)
    capped = Gemma2ForCausalLM(Gemma2Config(**sizes, **more, final_logit_softcapping=0.2)).double().eval()
    more.pop("head_dim")
    scaled = CohereForCausalLM(CohereConfig(**sizes, **more, logit_scale=3.0)).double().eval()
    plain = tiny.model().double()
    batch = Collator(0)(ROWS)
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    for model, leaves in ((capped, False), (scaled, False), (plain, True)):
        assert TrainedHead(model, CHUNKED).leaves_output_alone(model, inputs, batch["positions"]) == leaves
        agree(result(model, SELECTED), oracle(model), 1e-12)


def test_only_a_chunk_of_logits_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, ...]] = []
    linear = torch.nn.functional.linear

    def watched(hidden: Any, weight: Any, *args: Any) -> Any:
        out = linear(hidden, weight, *args)
        if out.shape[-1] == len(tiny.tokenizer()):
            sizes.append(tuple(out.shape))
        return out

    model = frozen()
    monkeypatch.setattr(torch.nn.functional, "linear", watched)
    result(model, CHUNKED)
    assert [shape[0] for shape in sizes] == [2, 2, 1]


def test_no_gradient_is_made_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    model = frozen()
    monkeypatch.setattr(head_module, "_times", lambda *args: pytest.fail("a gradient was made"))
    batch = Collator(0)(ROWS)
    with torch.no_grad():
        head = TrainedHead(model, CHUNKED)
        loss = head.loss_sum(model, {"input_ids": batch["input_ids"]}, batch["positions"], batch["targets"])
    assert loss > 0


def test_the_head_is_as_before_also_after_an_error() -> None:
    model = frozen()
    head = model.get_output_embeddings()
    before = dict(head.__dict__)
    batch = Collator(0)(ROWS)

    def broken(**inputs: Any) -> Any:
        raise RuntimeError("stop")

    for mode in (CHUNKED, SELECTED):
        result(model, mode)
        with pytest.raises(RuntimeError, match="stop"):
            TrainedHead(model, mode).loss_sum(broken, {}, batch["positions"], batch["targets"])
        assert head.__dict__.keys() == before.keys()
        assert not head._forward_pre_hooks


def test_moved_or_wrapped_heads_are_not_chunked() -> None:
    head = torch.nn.Linear(4, 8).requires_grad_(False)
    assert can_chunk(head)
    head.register_forward_hook(lambda *args: None)
    assert not can_chunk(head)
    moved = torch.nn.Linear(4, 8).requires_grad_(False)
    moved.forward = moved.forward  # type: ignore[method-assign]
    assert not can_chunk(moved)
    assert not can_chunk(None)
