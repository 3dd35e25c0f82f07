"""Borrowing a model: whatever a run does to it, it comes back bit by bit; and adapters, fresh and continued."""

import copy
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import transformers
from training_pro.train_utils import (
    add_lora,
    borrowed,
    carries_adapter,
    continue_lora,
    count_parameters,
    refuse_adapter,
)

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 40}

IDS = torch.arange(4, 24).view(2, 10)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def portrait(model: Any) -> dict[str, Any]:
    """All that must be as before: modules, their attributes, parameters, config."""
    return {
        "type": type(model),
        "modules": [(path, id(module), module.training, sorted(module.__dict__)) for path, module in model.named_modules()],
        "hooks": [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()],
        "parameters": [(name, id(p), p.data_ptr(), p.dtype, p.requires_grad, p.grad) for name, p in model.named_parameters()],
        "buffers": [(name, id(buffer), buffer.dtype) for name, buffer in model.named_buffers()],
        "config": copy.deepcopy(model.config.to_dict()),
        "generation": copy.deepcopy(model.generation_config.to_dict()),
        "config_identity": (id(model.config), id(model.model.config)),
    }


def lora_on(model: Any, tokenizer: Any) -> Any:
    adapted = add_lora(model, rank=4, alpha=8, dropout=0.1, targets=["q_proj", "down_proj"])
    adapted.train()
    return adapted


def trained_lora(model: Any, tokenizer: Any) -> None:
    adapted = lora_on(model, tokenizer)
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):
        adapted(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
    assert not torch.equal(logits(adapted), logits(tiny.model()))


def checkpointed(model: Any, tokenizer: Any) -> None:
    model.config.use_cache = False
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    trained_lora(model, tokenizer)


def other_numbers(model: Any, tokenizer: Any) -> None:
    model.requires_grad_(False)
    model.to(torch.bfloat16)
    model.train()
    model.lm_head.weight.requires_grad_(True)


def gradients(model: Any, tokenizer: Any) -> None:
    model(input_ids=IDS, labels=IDS).loss.backward()
    assert model.lm_head.weight.grad is not None


def hooks_and_attributes(model: Any, tokenizer: Any) -> None:
    model.model.layers[0].register_forward_hook(lambda module, inputs, output: output)
    model.model.register_forward_pre_hook(lambda module, inputs: inputs)
    model.forward = lambda *args, **kwargs: None
    model.model.layers[1].self_attn.extra = torch.nn.Linear(2, 2)
    model.config.pad_token_id, model.config.new_key = 7, "x"
    model.generation_config.max_new_tokens = 3
    del model.model.norm


def removed_layer(model: Any, tokenizer: Any) -> None:
    model.model.layers = model.model.layers[:1]
    model.config.num_hidden_layers = 1


def other_template(model: Any, tokenizer: Any) -> None:
    tokenizer.chat_template, tokenizer.padding_side, tokenizer.truncation_side = "x", "left", "left"
    tokenizer.model_max_length = 5


CHANGES = [lora_on, trained_lora, checkpointed, other_numbers, gradients, hooks_and_attributes, removed_layer, other_template]


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_the_model_comes_back(tiny_model: Any, tiny_tokenizer: Any, change: Any, fails: bool) -> None:
    before, expected = portrait(tiny_model), logits(tiny_model)
    for _ in range(2):  # and a second run works as the first
        try:
            with borrowed(tiny_model, tiny_tokenizer):
                change(tiny_model, tiny_tokenizer)
                assert portrait(tiny_model) != before or change is other_template
                if fails:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            assert fails
        assert portrait(tiny_model) == before
        assert torch.equal(logits(tiny_model), expected)
        assert tiny_tokenizer.chat_template == tiny.CHATML
        assert (tiny_tokenizer.padding_side, tiny_tokenizer.truncation_side) == ("right", "right")
        assert tiny_tokenizer.model_max_length > 10**9


def test_flags_of_a_model_in_training_come_back(tiny_model: Any) -> None:
    tiny_model.train()
    tiny_model.model.layers[0].eval()
    tiny_model.model.embed_tokens.weight.requires_grad_(False)
    tiny_model.config.use_cache = False
    before = portrait(tiny_model)
    with borrowed(tiny_model, None):
        trained_lora(tiny_model, None)
        tiny_model.requires_grad_(True)
        tiny_model.config.use_cache = True
    assert portrait(tiny_model) == before


def test_hooks_that_were_there_stay(tiny_model: Any) -> None:
    calls: list[int] = []
    tiny_model.model.register_forward_hook(lambda *args: calls.append(1))
    with borrowed(tiny_model, None):
        tiny_model.model._forward_hooks.clear()
    logits(tiny_model)
    assert calls == [1]


def test_tied_weights_stay_tied(tiny_model: Any) -> None:
    with borrowed(tiny_model, None):
        tiny_model.to(torch.float16)
    assert tiny_model.lm_head.weight is tiny_model.model.embed_tokens.weight


def test_configs_inside_configs_keep_their_identity() -> None:
    config = transformers.LlavaConfig(
        text_config=transformers.LlamaConfig(**SMALL), vision_config=transformers.CLIPVisionConfig(hidden_size=12)
    )
    holder = torch.nn.Linear(1, 1)
    holder.config = config
    text = config.text_config
    with borrowed(holder, None):
        config.text_config.use_cache = False
        config.text_config = transformers.LlamaConfig()
    assert config.text_config is text
    assert text.use_cache is True


def test_after_a_model_is_given_back_it_generates(tiny_model: Any, tiny_tokenizer: Any) -> None:
    prompt = tiny_tokenizer("where is", return_tensors="pt")
    options = {"max_new_tokens": 6, "do_sample": False}
    before = tiny_model.generate(**prompt, **options)
    with borrowed(tiny_model, tiny_tokenizer):
        checkpointed(tiny_model, tiny_tokenizer)
    assert torch.equal(tiny_model.generate(**prompt, **options), before)


# --- the adapter ---------------------------------------------------------------------------------------------------------------


def test_a_fresh_lora(tiny_model: Any) -> None:
    expected = logits(tiny_model)
    adapted = add_lora(tiny_model, rank=4, alpha=8, dropout=0.0, targets=["q_proj"])
    assert count_parameters(adapted) == (2 * 4 * (64 + 64), count_parameters(tiny.model())[1] + 2 * 4 * 128)
    assert torch.equal(logits(adapted), expected)
    config = adapted.peft_config["default"]
    assert (config.r, config.lora_alpha, config.lora_dropout, config.target_modules) == (4, 8, 0.0, {"q_proj"})
    assert (config.task_type, config.bias) == ("CAUSAL_LM", "none")


def test_an_adapter_is_trained_further(tiny_model: Any, tmp_path: Path) -> None:
    with borrowed(tiny_model, None):
        trained_lora(tiny_model, None)
        peft_model = continue_and_save(tiny_model, tmp_path)
    with borrowed(tiny_model, None):
        continued = continue_lora(tiny_model, tmp_path)
        assert count_parameters(continued)[0] == peft_model
        continued.eval()
        assert not torch.equal(logits(continued), logits(tiny.model()))


def continue_and_save(model: Any, folder: Path) -> int:
    """Save a LoRA with weights that do something; returns how many it trains."""
    for module in model.modules():
        if hasattr(module, "lora_B"):
            torch.nn.init.ones_(module.lora_B["default"].weight)
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    state = {f"base_model.model.{name}": value.clone() for name, value in get_peft_model_state_dict(model).items()}
    save_file(state, folder / "adapter_model.safetensors")
    model.peft_config["default"].save_pretrained(str(folder))
    return sum(value.numel() for value in state.values())


@pytest.mark.parametrize("damage", ["none", "weights", "config", "other model"])
def test_adapters_that_cannot_be_continued(tmp_path: Path, damage: str) -> None:
    if damage != "none":
        add_lora(tiny.model(), rank=2, alpha=4, dropout=0.0, targets=["q_proj"]).save_pretrained(tmp_path)
    if damage == "weights":
        (tmp_path / "adapter_model.safetensors").write_bytes(b"x" * 99)
    if damage == "config":
        (tmp_path / "adapter_config.json").write_text("{")
    model = tiny.model(hidden_size=32) if damage == "other model" else tiny.model()
    message = (
        "(?s)If the name exists: the adapter in .* cannot be continued on this model: .*Load the model that it was trained on, or"
    )
    with borrowed(model, None), pytest.raises(ValueError, match=message):
        continue_lora(model, tmp_path)
    assert not carries_adapter(model)


def test_a_model_with_an_adapter_is_refused(tiny_model: Any, tmp_path: Path) -> None:
    refuse_adapter(tiny_model)
    adapted = lora_on(tiny_model, None)
    for carrier in (adapted, tiny_model):
        assert carries_adapter(carrier)
        with pytest.raises(
            ValueError, match=r"Model: an adapter \(default\) is applied to the loaded model. Remove it .*reload the model"
        ):
            refuse_adapter(carrier)
        with pytest.raises(ValueError, match="an adapter"):
            add_lora(carrier, rank=2, alpha=4, dropout=0.0, targets=["k_proj"])
        with pytest.raises(ValueError, match="an adapter"):
            continue_lora(carrier, tmp_path)


def test_an_adapter_that_was_unloaded_is_none(tiny_model: Any) -> None:
    base = lora_on(tiny_model, None).unload()
    assert not carries_adapter(base)
    refuse_adapter(base)
    before = portrait(base)
    with borrowed(base, None):
        assert count_parameters(add_lora(base, rank=2, alpha=4, dropout=0.0, targets=["q_proj"]))[0] == 2 * 2 * 128
    assert portrait(base) == before
