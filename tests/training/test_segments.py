"""Attention kernels of flat rows against a table of scores in float64: what each token may see, and nothing else."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training_pro.training.segments import KERNELS, Rules, Segments, attend, usable_kernels

LENGTHS = (5, 1, 12, 3)


def made(
    num_heads: int = 4, num_key_heads: int = 2, size: int = 8, value_size: int = 8, total: int = sum(LENGTHS)
) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((num_heads, size), (num_key_heads, size), (num_key_heads, value_size))
    return [torch.randn(total, *shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]


def by_table(tensors: list[torch.Tensor], lengths: tuple[int, ...], rules: Rules) -> torch.Tensor:
    """The definition, for the whole row at once."""
    q, k, v = tensors
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    number = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    place = torch.arange(len(number))
    distance = place[:, None] - place[None]
    sees = (number[:, None] == number[None]) & (distance >= 0) & (distance < (rules.window or len(number)))
    scores = torch.einsum("qhd,khd->hqk", q, k) * (q.shape[2] ** -0.5 if rules.scale is None else rules.scale)
    if rules.softcap:
        scores = rules.softcap * torch.tanh(scores / rules.softcap)
    scores = scores.masked_fill(~sees, -torch.inf)
    if rules.sinks is not None:
        scores = torch.cat([scores, rules.sinks[:, None, None].expand(-1, len(number), 1).to(scores)], 2)
    weights = scores.softmax(2)[..., : len(number)]
    return torch.einsum("hqk,khd->qhd", weights, v)


@pytest.mark.parametrize(
    "rules",
    [
        Rules(),
        Rules(scale=0.3),
        Rules(window=4),
        Rules(window=1),
        Rules(window=12),
        Rules(softcap=0.5),
        Rules(softcap=0.5, window=3, scale=0.9),
        Rules(sinks=torch.tensor([0.5, -1.0, 2.0, 0.0])),
        Rules(sinks=torch.tensor([0.5, -1.0, 2.0, 0.0]), window=2),
    ],
)
@pytest.mark.parametrize("num_key_heads", [4, 2, 1])
def test_output_and_gradients_are_those_of_the_table(rules: Rules, num_key_heads: int) -> None:
    tensors = made(num_key_heads=num_key_heads, value_size=6)
    above = torch.randn(sum(LENGTHS), 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    results = []
    for out in (attend("segments", *tensors, Segments(LENGTHS), rules), by_table(tensors, LENGTHS, rules)):
        results.append([out, *torch.autograd.grad(out, tensors, above)])
    for got, wanted in zip(*results, strict=True):
        assert wanted.abs().max() > 0 or rules.window == 1  # one token sees itself: its score has no say
        assert torch.allclose(got, wanted, rtol=1e-12, atol=1e-12)


@settings(max_examples=40)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6), window=st.none() | st.integers(1, 10))
def test_any_cut(lengths: list[int], window: int | None) -> None:
    tensors, rules = made(total=sum(lengths)), Rules(window=window)
    assert torch.allclose(
        attend("segments", *tensors, Segments(tuple(lengths)), rules),
        by_table(tensors, tuple(lengths), rules),
        rtol=1e-12,
        atol=1e-12,
    )


def test_a_changed_segment_leaves_the_others_alone_to_the_bit() -> None:
    q, k, v = (entry.detach().float() for entry in made())
    before = attend("segments", q, k, v, Segments(LENGTHS), Rules())
    for entry in (q, k, v):
        entry[6:18] += 1.0
    after = attend("segments", q, k, v, Segments(LENGTHS), Rules())
    assert torch.equal(after[:6], before[:6])
    assert torch.equal(after[18:], before[18:])
    assert not torch.equal(after[6:18], before[6:18])


def test_dropout_drops() -> None:
    tensors = made()
    torch.manual_seed(0)
    for rules in (Rules(dropout=0.5), Rules(dropout=0.5, softcap=9.0)):
        first, second = (attend("segments", *tensors, Segments(LENGTHS), rules) for _ in range(2))
        assert not torch.equal(first, second)


def test_borders_are_made_once_per_device() -> None:
    segments = Segments(LENGTHS)
    borders = segments.borders(torch.device("cpu"))
    assert borders.tolist() == [0, 5, 6, 18, 21]
    assert borders.dtype == torch.int32
    assert segments.borders(torch.device("cpu")) is borders
    assert (segments.total, segments.longest) == (21, 12)


def test_kernels_for_a_device() -> None:
    assert usable_kernels(torch.device("cpu"), torch.float32) == ["segments"]
    assert usable_kernels(torch.device("cuda"), torch.float32) == ["segments"]
    on_gpu = usable_kernels(torch.device("cuda"), torch.bfloat16)
    assert on_gpu[-1] == "segments"
    assert set(on_gpu) <= set(KERNELS)


@pytest.mark.parametrize(
    ("rules", "size", "value_size", "taken"),
    [
        (Rules(), 8, 8, "varlen"),
        (Rules(window=4), 8, 8, "varlen"),
        (Rules(softcap=1.0), 8, 8, "segments"),
        (Rules(sinks=torch.zeros(4)), 8, 8, "segments"),
        (Rules(dropout=0.1), 8, 8, "segments"),
        (Rules(), 12, 12, "segments"),
        (Rules(), 8, 16, "segments"),
        (Rules(), 264, 264, "segments"),
    ],
)
def test_what_a_kernel_cannot_do_goes_to_one_that_can(
    monkeypatch: pytest.MonkeyPatch, rules: Rules, size: int, value_size: int, taken: str
) -> None:
    calls: list[str] = []
    for name in ("varlen", "segments"):
        monkeypatch.setitem(KERNELS, name, lambda q, k, v, s, r, name=name: calls.append(name) or v)
    attend("varlen", *made(size=size, value_size=value_size), Segments(LENGTHS), rules)
    assert calls == [taken]


@pytest.mark.parametrize("newer", [True, False])
def test_what_torchs_varlen_attention_is_asked(monkeypatch: pytest.MonkeyPatch, newer: bool) -> None:
    """It runs on CUDA only; a stand-in with its signature, by the table, shows that the request is right in each torch."""
    from torch.nn.attention import varlen

    def answer(q: Any, k: Any, v: Any, borders: Any, rules: Rules) -> torch.Tensor:
        assert borders.dtype == torch.int32
        return by_table([q, k, v], tuple(borders.diff().tolist()), rules)

    def new(  # noqa: PLR0913
        query: Any, key: Any, value: Any, cu_q: Any, cu_k: Any, max_q: int, max_k: int, *, scale: Any = None,
        window_size: tuple[int, int] = (-1, -1), enable_gqa: bool = False,
    ) -> torch.Tensor:  # fmt: skip
        assert max_q == max_k == max(LENGTHS)
        assert enable_gqa == (query.shape[1] != key.shape[1])
        left, right = window_size
        assert right == 0
        return answer(query, key, value, cu_q, Rules(scale=scale, window=None if left < 0 else left + 1))

    def old(
        query: Any, key: Any, value: Any, cu_q: Any, cu_k: Any, max_q: int, max_k: int, is_causal: bool = False
    ) -> torch.Tensor:
        assert is_causal
        assert query.shape[1] == key.shape[1]
        return answer(query, key, value, cu_q, Rules())

    monkeypatch.setattr(varlen, "varlen_attn", new if newer else old)
    tensors = made()
    for rules in (Rules(), Rules(window=4), Rules(scale=0.3), Rules(window=4, scale=0.3)):
        got = attend("varlen", *tensors, Segments(LENGTHS), rules)
        assert torch.allclose(got, by_table(tensors, LENGTHS, rules), rtol=1e-12, atol=1e-12)
