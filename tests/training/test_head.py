"""The loss through the model's own forward: the same loss and gradients as from all logits, whatever is trained and wherever."""

from typing import Any

import architectures
import pytest
import tiny
import torch
from training_pro import train_utils
from training_pro.data.collate import Collator
from training_pro.training import chunks
from training_pro.training import head as head_module
from training_pro.training.head import CHUNKED, FULL, SELECTED, TrainedHead, can_chunk, plain_linear

X = -100
ROWS = [
    {"input_ids": [5, 6, 7, 8, 9, 10, 11], "labels": [X, X, X, 8, 9, X, 11]},
    {"input_ids": [20, 21, 22], "labels": [X, 21, 22]},
    {"input_ids": [30, 31, 32, 33, 34], "labels": [X] * 5},
]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "chunk_size", lambda vocabulary: 2)  # 5 trained places: chunks of 2, 2 and 1


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


def result(model: Any, mode: str, behind: Any = chunks.UNCHANGED) -> tuple[torch.Tensor, list[torch.Tensor]]:
    batch = Collator(0)(ROWS)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    loss = TrainedHead(model, mode, behind).loss_sum(model, inputs, batch["positions"], batch["targets"])
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


@pytest.fixture
def only_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain linear way is taken: it computes nothing twice."""
    monkeypatch.setattr(head_module, "module_losses", lambda *args: pytest.fail("the head was not taken for a linear layer"))


def agree(got: Any, wanted: Any, bound: float) -> None:
    assert torch.allclose(got[0].double(), wanted[0].double(), rtol=bound)
    assert len(got[1]) == len(wanted[1]) > 3
    flat = [torch.cat([gradient.double().flatten() for gradient in entry[1]]) for entry in (got, wanted)]
    assert flat[1].norm() > 0
    assert (flat[0] - flat[1]).norm() <= bound * flat[1].norm()


@pytest.mark.parametrize("mode", [CHUNKED, SELECTED, FULL])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.usefixtures("only_plain")
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


@pytest.mark.parametrize("mode", [CHUNKED, SELECTED])
def test_an_adapter_on_the_head_counts(mode: str) -> None:
    model = tiny.model(tie_word_embeddings=False).double()
    model = shaken(train_utils.add_lora(model, rank=4, alpha=8, dropout=0.0, targets=["q_proj", "lm_head"]))
    assert plain_linear(model.get_output_embeddings()) is None
    agree(result(model, mode), oracle(model), 1e-12)
    assert any("lm_head" in name for name, weight in model.named_parameters() if weight.requires_grad)


@pytest.mark.parametrize("mode", [CHUNKED, SELECTED])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.usefixtures("only_plain")
def test_a_trained_head_counts(mode: str, tied: bool) -> None:
    """Full fine-tuning, also where the head is the embeddings."""
    model = tiny.model(tie_word_embeddings=tied).double()
    assert plain_linear(model.lm_head) is model.lm_head
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    agree(result(model, mode), oracle(model), 1e-12)
    assert model.lm_head.weight.requires_grad


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("mode", [CHUNKED, SELECTED])
@pytest.mark.usefixtures("only_plain")
def test_a_copy_of_the_head_that_peft_trains_counts(mode: str, tied: bool) -> None:
    """modules_to_save: the copy is what is computed, and what gets the gradient; the base's head if adapters are off."""
    from peft import LoraConfig, get_peft_model

    base = tiny.model(tie_word_embeddings=tied).double()
    model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"]))
    wrapper = model.get_output_embeddings()
    copy = wrapper.modules_to_save["default"]
    with torch.no_grad():
        copy.weight += 0.1 * torch.randn(copy.weight.shape, dtype=torch.float64)
    assert plain_linear(wrapper) is copy
    agree(result(shaken(model), mode), oracle(model), 1e-12)
    loss = result(model, mode)[0]
    with model.disable_adapter():
        assert plain_linear(wrapper) is wrapper.original_module
        without = result_of_base(model, mode)
        assert without.item() == pytest.approx(oracle_of_base(model).item(), rel=1e-12)
    assert abs(without - loss) > 1e-3
    assert plain_linear(wrapper) is copy


def result_of_base(model: Any, mode: str) -> torch.Tensor:
    batch = Collator(0)(ROWS)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        return TrainedHead(model, mode).loss_sum(model, inputs, batch["positions"], batch["targets"])


def oracle_of_base(model: Any) -> torch.Tensor:
    batch = Collator(0)(ROWS)
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1].flatten(0, 1)
    return torch.nn.functional.cross_entropy(logits, batch["labels"][:, 1:].flatten(), ignore_index=X, reduction="sum")


@pytest.mark.parametrize("is_trained", [False, True])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.usefixtures("only_plain")
def test_a_head_with_a_bias(is_trained: bool, has_bias: bool) -> None:
    """Phi has one, trained in full fine-tuning."""
    model = architectures.make("phi" if has_bias else "llama", dtype=torch.float64)
    assert (model.lm_head.bias is not None) == has_bias
    model.lm_head.requires_grad_(is_trained)
    if has_bias:
        model.lm_head.bias.data.normal_()
    agree(result(model, CHUNKED), oracle(model), 1e-12)


@pytest.mark.usefixtures("only_plain")
def test_what_the_model_does_behind_its_head_counts() -> None:
    capped = architectures.make("gemma2", dtype=torch.float64, final_logit_softcapping=0.2)
    scaled = architectures.make("cohere", dtype=torch.float64, logit_scale=3.0)
    divided = architectures.make("granite", dtype=torch.float64, logits_scaling=13.0)
    batch = Collator(0)(ROWS)
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    for model, kind in ((capped, "capped"), (scaled, "scaled"), (divided, "scaled"), (tiny.model().double(), "plain")):
        behind = TrainedHead(model, CHUNKED).behind(model, inputs, batch["positions"])
        assert behind is not None
        assert behind.kind == kind
        for mode in (CHUNKED, SELECTED, FULL):
            agree(result(model, mode, behind), oracle(model), 1e-12)


def test_smoothing_is_for_the_objective_only() -> None:
    model = shaken(frozen())
    batch = Collator(0)(ROWS)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    logits = model(**inputs).logits[:, :-1].flatten(0, 1)
    labels = batch["labels"][:, 1:].flatten()
    smooth = torch.nn.functional.cross_entropy(logits, labels, ignore_index=X, reduction="sum", label_smoothing=0.2)
    plain = torch.nn.functional.cross_entropy(logits, labels, ignore_index=X, reduction="none")[labels != X]
    for mode in (CHUNKED, SELECTED, FULL):
        made = TrainedHead(model, mode).losses(model, inputs, batch["positions"], batch["targets"], 0.2)
        assert made.objective.item() == pytest.approx(smooth.item(), rel=1e-12)
        assert torch.allclose(made.each, plain, rtol=1e-12)
        assert abs(smooth - plain.sum()) > 1e-3


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


def test_moved_or_watched_heads_are_not_chunked() -> None:
    head = torch.nn.Linear(4, 8)
    assert can_chunk(head)
    assert plain_linear(head) is head
    head._hf_hook = object()  # accelerate moves its weights  # type: ignore[assignment]
    assert not can_chunk(head)
    for watch in ("register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"):
        head = torch.nn.Linear(4, 8)
        getattr(head, watch)(lambda *args: None)
        assert not can_chunk(head)
        assert plain_linear(head) is None
    assert not can_chunk(None)


def test_a_head_whose_forward_was_exchanged_keeps_it() -> None:
    """It is called as it is, chunk by chunk."""
    model = frozen()
    head = model.get_output_embeddings()
    wanted = oracle(model)
    own = head.forward

    def doubled(hidden: torch.Tensor) -> torch.Tensor:
        return own(hidden) * 2

    head.forward = doubled
    assert plain_linear(head) is None
    twice = oracle(model)
    assert abs(twice[0] - wanted[0]) > 1e-3
    agree(result(model, CHUNKED), twice, 1e-12)
    assert head.forward is doubled
