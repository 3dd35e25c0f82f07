"""The route of a model: the fastest that is exact for it, and words on why not a faster one."""

from typing import Any

import architectures
import numpy as np
import pytest
import tiny
import torch
from training_pro import train_utils
from training_pro.training import routes
from training_pro.training.chunks import Behind
from training_pro.training.routes import ROUTES, Trial, choose_route, run_pieces, trial_pieces
from training_pro.training.segments import KERNELS, each_segment
from training_pro.training.step import Route


def trial(model: Any, *, has_packs: bool = True, precision: str = "float32", lengths: tuple[int, ...] = (40, 19, 12)) -> Trial:
    rng = np.random.default_rng(0)
    pieces = [{"input_ids": rng.integers(3, 100, length)} for length in lengths]
    return Trial(model, [{**piece, "labels": piece["input_ids"]} for piece in pieces], 0, precision, has_packs)


@pytest.mark.parametrize("name", architectures.LAYOUTS)
def test_every_architecture_takes_an_exact_route(name: str) -> None:
    model = architectures.make(name)
    model.config.use_cache = False
    route = choose_route(trial(model))
    wanted = architectures.LAYOUTS[name]
    assert route.layout == wanted or (not wanted and route.layout in ("flat", "masked")), route.reasons
    assert bool(route.reasons) == (route.layout != "flat")
    assert route.kernel == ("segments" if route.layout == "flat" else "")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("qwen3_next", "carry a state along the row (linear_attention)"),
        ("lfm2", "carry a state along the row (conv)"),
        ("mamba", "carry a state along the row"),
        ("bloom", "it takes no positions"),
        ("gpt_neo", "it computes its attention by itself"),
    ],
)
def test_why_not_is_said(name: str, words: str) -> None:
    model = architectures.make(name)
    model.config.use_cache = False
    assert words in choose_route(trial(model)).reasons[0]
    with pytest.raises(ValueError, match=r"Batch route: .* Got: 'flat'\. Choose auto or padded\.") as caught:
        choose_route(trial(model), "flat")
    assert words in str(caught.value)
    assert choose_route(trial(model), "padded") == Route("padded", "", "chunked")


def test_masked_rows_are_for_packs() -> None:
    model = architectures.make("gpt_neo")
    assert choose_route(trial(model, has_packs=False)).layout == "padded"
    assert choose_route(trial(model)).layout == "masked"


@pytest.mark.parametrize("wanted", ROUTES)
def test_what_is_wanted_is_taken(wanted: str) -> None:
    route = choose_route(trial(tiny.model()), wanted)
    assert route.layout == ("flat" if wanted == "auto" else wanted)
    assert route.reasons == ()
    assert "Batches: each " in route.words


def one_row(query: Any, key: Any, value: Any, segments: Any, rules: Any) -> Any:
    """As if the borders were not there."""
    return each_segment(query, key, value, type(segments)((segments.total,)), rules)


def slightly_wrong(query: Any, key: Any, value: Any, segments: Any, rules: Any) -> Any:
    return each_segment(query * 1.01, key, value, segments, rules)


@pytest.mark.parametrize(
    ("kernel", "words"), [(one_row, "its samples see each other"), (slightly_wrong, "the results differ by")]
)
def test_a_kernel_that_is_not_exact_is_not_taken(monkeypatch: pytest.MonkeyPatch, kernel: Any, words: str) -> None:
    monkeypatch.setitem(KERNELS, "segments", kernel)
    route = choose_route(trial(tiny.model()))
    assert route.layout == "masked"
    assert words in route.reasons[0]


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_half_precision_is_measured_by_its_own_noise(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    model = tiny.model().to(torch.bfloat16 if precision == "float32" else torch.float32)
    assert choose_route(trial(model, precision=precision)).layout == "flat"
    monkeypatch.setitem(KERNELS, "segments", one_row)
    assert choose_route(trial(model, precision=precision)).layout == "masked"


def test_the_best_kernel_that_works_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> Any:
        raise RuntimeError("no kernel image is available for this device")

    monkeypatch.setattr(routes, "usable_kernels", lambda device, dtype: ["varlen", "flash", "segments"])
    monkeypatch.setitem(KERNELS, "varlen", broken)
    monkeypatch.setitem(KERNELS, "flash", each_segment)
    route = choose_route(trial(tiny.model()))
    assert (route.kernel, route.reasons) == ("flash", ())


def test_memory_is_not_taken_for_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setitem(KERNELS, "segments", full)
    with pytest.raises(torch.OutOfMemoryError):
        choose_route(trial(tiny.model()))


def test_flex_attention_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no backward pass there: the flat route does without it, the others are refused."""
    from transformers import AttentionInterface, AttentionMaskInterface

    for interface in (AttentionInterface, AttentionMaskInterface):  # the real one is compiled for 20 seconds
        monkeypatch.setitem(interface._global_mapping, "flex_attention", interface._global_mapping["sdpa"])
    model = tiny.model()
    model.set_attn_implementation("flex_attention")
    assert choose_route(trial(model)).layout == "flat"
    with pytest.raises(ValueError, match="Model: it was loaded with flex attention, which has no backward pass on a CPU"):
        choose_route(trial(model), "padded")


def test_a_window_shows_only_in_samples_that_are_longer() -> None:
    model = architectures.make("mistral", sliding_window=50)
    middle = trial_pieces(trial(model, lengths=(700, 20, 30)))[1]
    assert len(middle["input_ids"]) == 256
    wide = architectures.make("mistral", sliding_window=300)
    assert len(trial_pieces(trial(wide, lengths=(700, 20, 30)))[1]["input_ids"]) == 428
    assert len(trial_pieces(trial(wide, lengths=(290, 20, 30)))[1]["input_ids"]) == 256
    assert choose_route(trial(wide, lengths=(200, 20, 30))).layout == "flat"


def test_a_window_that_the_attention_is_not_told_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from training_pro.training.attention import SegmentAttention

    find = SegmentAttention._rules
    monkeypatch.setattr(
        SegmentAttention, "_rules", lambda self, module, given: find(self, module, {**given, "sliding_window": None})
    )
    model = architectures.make("mistral", sliding_window=9)
    assert choose_route(trial(model)).layout == "masked"
    assert choose_route(trial(model, lengths=(9, 8, 7))).layout == "flat"  # no sample is longer, so it has no say


@pytest.mark.parametrize(
    ("name", "changes", "behind"),
    [
        ("llama", {}, Behind("plain", 1.0)),
        ("gpt2", {}, Behind("plain", 1.0)),
        ("gemma2", {"final_logit_softcapping": 0.7}, Behind("capped", 0.7)),
        ("cohere", {"logit_scale": 0.3}, Behind("scaled", 0.3)),
        ("granite", {"logits_scaling": 13.0}, Behind("scaled", 1 / 13)),
    ],
)
@pytest.mark.parametrize("is_trained", [False, True])
def test_the_head(name: str, changes: dict[str, Any], behind: Behind, is_trained: bool) -> None:
    """Chunks, frozen or trained, and whatever is known that the model does behind it."""
    model = architectures.make(name, **changes).requires_grad_(is_trained)
    route = choose_route(trial(model))
    assert (route.head, route.behind.kind) == ("chunked", behind.kind)
    assert route.behind.value == pytest.approx(behind.value, rel=1e-6)


def test_a_head_whose_output_is_changed_in_another_way() -> None:
    model = tiny.model()
    model.forward = with_output(model.forward, lambda logits: logits + 0.5 * logits.sin())
    assert choose_route(trial(model)).head == "selected"
    model.forward = with_output(tiny.model().forward, lambda logits: logits.roll(1, dims=1))  # tokens of another place
    assert choose_route(trial(model)).head == "full"


def with_output(forward: Any, change: Any) -> Any:
    def changed(**inputs: Any) -> Any:
        made = forward(**inputs)
        made.logits = change(made.logits)
        return made

    return changed


def test_a_head_that_others_watch_is_called_once() -> None:
    model = tiny.model()
    model.lm_head.register_forward_hook(lambda *args: None)
    assert choose_route(trial(model)).head == "selected"


def test_a_model_without_a_head_module() -> None:
    """Logits of all tokens then; it is said."""
    model = tiny.model()
    model.get_output_embeddings = lambda: None
    route = choose_route(trial(model))
    assert route.head == "full"
    assert "needs the logits of all tokens" in route.reasons[0]


def test_the_model_is_as_before() -> None:
    model = tiny.model()
    peft_model = train_utils.add_lora(model, rank=4, alpha=8, dropout=0.5, targets=["q_proj"])
    peft_model.train()
    random = torch.get_rng_state()
    config = dict(model.config.__dict__)
    choose_route(trial(peft_model))
    assert peft_model.training
    assert torch.equal(torch.get_rng_state(), random)
    assert dict(model.config.__dict__) == config
    assert all(weight.grad is None for weight in peft_model.parameters())


def test_pieces_of_a_run() -> None:
    made = [{"input_ids": np.arange(length), "labels": np.arange(length), "lengths": [length]} for length in (3, 9, 1, 4, 5)]
    assert [len(piece["input_ids"]) for piece in run_pieces(made, [3, 9, 1, 4, 5])] == [9, 3]  # one token predicts nothing
    assert [len(piece["input_ids"]) for piece in run_pieces(made[:1], [3])] == [3]
    assert choose_route(trial(tiny.model(), lengths=(40,))).layout == "flat"
