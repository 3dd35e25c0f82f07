"""Gains against models whose use of the conversation is known, and against plain forward passes one by one."""

import math
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from chat_cases import reply, user
from hypothesis import given
from hypothesis import strategies as st
from training_pro.evaluation.replies import FULL, ReplySample, draw_replies
from training_pro.evaluation.understanding import GAINS, batches_of, describe, measure, ratio
from training_pro.training.head import TrainedHead

NAMES = ("lighthouse", "harbour", "festival", "lanterns", "keeper", "cliff")


def sample_of(conversations: list[Any], most: int = 100, cutoff: int = 400) -> ReplySample:
    def read(number: int) -> Any:
        return {"messages": conversations[number], "tools": None}

    return draw_replies(read, len(conversations), tiny.tokenizer(), most=most, cutoff=cutoff, seed=3)


def naming(number: int) -> list[dict[str, Any]]:
    """A word is named in the first exchange; the last reply says it again. What lies between is the same in all."""
    name = NAMES[number % len(NAMES)]
    middle = [message for _ in range(2) for message in (user("and the boat"), reply("is blue"))]
    return [user(f"the word is {name}"), reply("so be it"), *middle, user("which word"), reply(f" {name}")]


# --- models that are known -----------------------------------------------------------------------------------------------------


def losses_of(logits_of: Any) -> Any:
    """The cross-entropies of a model given as ids (batch, seq) -> logits (batch, seq, vocabulary)."""

    def losses(batch: dict[str, Any]) -> torch.Tensor:
        logits = logits_of(batch["input_ids"]).flatten(0, 1)[batch["positions"]]
        return torch.nn.functional.cross_entropy(logits, batch["targets"], reduction="none")

    return losses


def copies(ids: torch.Tensor) -> torch.Tensor:
    """Every token that has been seen in the row is as likely as every other one, all others are hardly possible."""
    seen = torch.nn.functional.one_hot(ids, len(tiny.tokenizer())).cumsum(1).clamp(max=1)
    return 8.0 * seen.float()


def looks_at_one_token(ids: torch.Tensor) -> torch.Tensor:
    """Whatever stood before the last token does not count."""
    table = torch.randn(len(tiny.tokenizer()), len(tiny.tokenizer()), generator=torch.Generator().manual_seed(0))
    return table[ids]


def newest_counts(ids: torch.Tensor) -> torch.Tensor:
    """A token is the more likely the less far back it stood."""
    batch, length = ids.shape
    logits = torch.zeros(batch, length, len(tiny.tokenizer()))
    for place in range(length):
        for back in range(place + 1):
            logits[torch.arange(batch), place, ids[:, back]] = 12.0 - 0.1 * (place - back)
    return logits


def test_a_model_that_copies_what_was_said_first() -> None:
    found = measure(_only_last([sample_of([naming(number)]) for number in range(6)]), losses_of(copies), batch_tokens=400)
    assert found.gains["context"].mean > 2
    assert found.gains["distance"].mean > 2
    assert abs(found.gains["order"].mean) < 1e-6
    assert [gain.num_replies for gain in found.gains.values()] == [6, 6, 6]


def _only_last(samples: list[ReplySample]) -> ReplySample:
    """The last reply of each conversation, which says the word."""
    replies = []
    for number, sample in enumerate(samples):
        last = max(sample.replies, key=lambda entry: entry.place)
        replies.append(type(last)(number, last.place, last.texts))
    return ReplySample(tuple(replies))


def test_a_model_that_does_not_look_back() -> None:
    found = measure(sample_of([naming(number) for number in range(6)]), losses_of(looks_at_one_token), batch_tokens=400)
    assert set(found.gains) == set(GAINS)
    for gain in found.gains.values():
        assert abs(gain.mean) < 1e-6
        assert gain.error < 1e-6
    assert found.loss > 1


def test_a_model_for_which_the_newest_word_counts() -> None:
    """The word changes from exchange to exchange; who permutes them lets an older one seem newer."""
    told = [message for name in NAMES[:3] for message in (user(f"now the word is {name}"), reply("so be it"))]
    sample = sample_of([[*told, user("which word"), reply(f" {NAMES[2]}")]])
    found = measure(_only_last([sample]), losses_of(newest_counts), batch_tokens=300)
    assert found.gains["order"].mean > 0.3
    assert found.gains["context"].mean > 1


# --- against plain forward passes ----------------------------------------------------------------------------------------------


def talks(num: int) -> list[list[dict[str, Any]]]:
    words = tiny.WORDS
    return [
        [
            message
            for at in range(2 + number % 4)
            for message in (
                user(f"{words[(number + at) % len(words)]} {at}"),
                reply(" ".join(words[(number * at + step) % len(words)] for step in range(1 + (number + at) % 6))),
            )
        ]
        for number in range(num)
    ]


def plain_loss(model: Any, messages: list[dict[str, Any]]) -> tuple[float, int]:
    """Sum of the cross-entropies of the last message and its end, by one forward pass of the tokenizer's own rendering."""
    tokenizer = tiny.tokenizer()
    prompt = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
    begin = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    text = prompt + messages[-1]["content"] + "<|im_end|>"
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, begin - 1 : -1].double()
    return float(torch.nn.functional.cross_entropy(logits, ids[0, begin:], reduction="sum")), ids.shape[1] - begin


@pytest.mark.parametrize("mode", ["chunked", "selected", "full"])
@pytest.mark.parametrize("batch_tokens", [1, 150, 4000])
def test_equal_to_plain_forward_passes(mode: str, batch_tokens: int) -> None:
    model, conversations = tiny.model(initializer_range=0.3), talks(9)
    sample = sample_of(conversations)
    head = TrainedHead(model, mode)

    def losses(batch: dict[str, Any]) -> torch.Tensor:
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        return head.losses(model, inputs, batch["positions"], batch["targets"]).each

    found = measure(sample, losses, batch_tokens=batch_tokens, pad_id=5)
    rows: dict[str, list[tuple[float, int, int]]] = {name: [] for name in GAINS}
    for entry in sample.replies:
        messages = conversations[entry.conversation][: entry.place + 1]
        full, count = plain_loss(model, messages)
        rows["context"].append((plain_loss(model, messages[-2:])[0] - full, count, entry.conversation))
        if len(messages) > 4:
            rows["distance"].append((plain_loss(model, messages[-4:])[0] - full, count, entry.conversation))
            exchanges = [messages[at : at + 2] for at in range(0, len(messages) - 2, 2)]
            shown = tiny.tokenizer().decode(entry.texts["permuted"].input_ids)
            order = sorted(exchanges, key=lambda pair: shown.index(f"{pair[0]['content']}<"))
            assert order != exchanges
            permuted = [message for pair in order for message in pair] + messages[-2:]
            rows["order"].append((plain_loss(model, permuted)[0] - full, count, entry.conversation))
    for name, gain in found.gains.items():
        assert len(rows[name]) == gain.num_replies > 8
        tokens = sum(row[1] for row in rows[name])
        mean = sum(row[0] for row in rows[name]) / tokens
        assert gain.num_tokens == tokens
        assert gain.mean == pytest.approx(mean, abs=1e-5)
        assert gain.num_conversations == len({row[2] for row in rows[name]})
        assert gain.error == pytest.approx(slow_error(rows[name], mean), abs=1e-5)
    assert max(abs(gain.mean) for gain in found.gains.values()) > 0.01  # there is something to compare


def slow_error(rows: list[tuple[float, int, int]], mean: float) -> float:
    clusters: dict[int, float] = {}
    for saved, count, conversation in rows:
        clusters[conversation] = clusters.get(conversation, 0.0) + saved - mean * count
    num, tokens = len(clusters), sum(row[1] for row in rows)
    return math.sqrt(num / (num - 1) * sum(value**2 for value in clusters.values())) / tokens


# --- the standard error --------------------------------------------------------------------------------------------------------


def test_the_error_is_that_of_repeated_draws() -> None:
    """Replies of one conversation move together: the error must tell the spread of means over many draws of conversations."""
    rng = np.random.default_rng(0)
    means, errors, naive = [], [], []
    for _ in range(400):
        sizes = rng.integers(1, 6, 60)
        clusters = np.repeat(np.arange(60), sizes)
        own = rng.normal(0.2, 0.5, 60)[clusters]
        tokens = rng.integers(1, 30, len(clusters)).astype(float)
        sums = tokens * (own + rng.normal(0, 0.1, len(clusters)))
        mean, error = ratio(sums, tokens, clusters)
        means.append(mean)
        errors.append(error)
        naive.append(ratio(sums, tokens, np.arange(len(clusters)))[1])
    spread = float(np.std(means))
    assert np.mean(means) == pytest.approx(0.2, abs=0.02)
    assert np.mean(errors) == pytest.approx(spread, rel=0.08)
    assert np.mean(naive) < 0.75 * spread


def test_too_little_for_an_error() -> None:
    mean, error = ratio(np.array([3.0, 1.0]), np.array([2.0, 2.0]), np.array([4, 4]))
    assert (mean, math.isnan(error)) == (1.0, True)
    assert all(math.isnan(number) for number in ratio(np.zeros(0), np.zeros(0), np.zeros(0)))


def test_changes_are_counted_reply_by_reply() -> None:
    """Where nothing changes, nothing is uncertain, however much the replies differ."""
    sample = sample_of(talks(9))
    model = losses_of(looks_at_one_token)

    def longer_is_better(amount: float) -> Any:
        def losses(batch: dict[str, Any]) -> torch.Tensor:
            rows = batch["positions"] // batch["input_ids"].shape[1]
            return model(batch) - amount * batch["attention_mask"].sum(1)[rows]

        return losses

    first = measure(sample, longer_is_better(0.01), batch_tokens=1)
    again = measure(sample, longer_is_better(0.01), batch_tokens=1, first=first.saved)
    assert [(gain.change, gain.change_error) for gain in again.gains.values()] == [(0.0, 0.0)] * 3
    assert all(gain.change is None for gain in first.gains.values())
    later = measure(sample, longer_is_better(0.03), batch_tokens=1, first=first.saved)
    for name, gain in later.gains.items():
        assert gain.change == pytest.approx(gain.mean - first.gains[name].mean)
    other = measure(ReplySample(sample.replies[:3]), longer_is_better(0.01), batch_tokens=1, first=first.saved)
    assert all(gain.change is None for gain in other.gains.values())


# --- the work ------------------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 200))
def test_batches_hold_every_text_once_and_are_no_larger_than_asked(lengths: list[int], most: int) -> None:
    batches = batches_of(lengths, most)
    assert sorted(number for batch in batches for number in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[number] for number in batch)
        assert len(batch) == 1 or longest * len(batch) <= most


@pytest.mark.parametrize("world_size", [2, 3, 50])
def test_processes_share_the_work_and_make_equally_many_passes(world_size: int) -> None:
    sample, model = sample_of(talks(6)), losses_of(copies)
    alone = measure(sample, model, batch_tokens=120)
    parts: list[np.ndarray] = []
    passes: list[int] = []

    def counted(batch: dict[str, Any]) -> torch.Tensor:
        passes[-1] += 1
        return model(batch)

    for index in range(world_size):
        passes.append(0)
        measure(sample, counted, batch_tokens=120, part=(index, world_size), add_up=lambda sums: parts.append(sums) or sums)
    assert len(set(passes)) == 1
    together = measure(sample, model, batch_tokens=120, part=(0, world_size), add_up=lambda sums: sum(parts))
    assert together.gains == alone.gains


def test_only_the_reply_counts() -> None:
    """A loss that is asked for elsewhere would be seen."""
    asked: list[int] = []

    def losses(batch: dict[str, Any]) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        asked.append(len(batch["targets"]))
        return torch.ones(len(batch["targets"]))

    sample = sample_of(talks(5))
    found = measure(sample, losses, batch_tokens=100)
    assert sum(asked) == sum(entry.num_tokens * len(entry.texts) for entry in sample.replies)
    assert found.loss == 1.0


def test_nothing_to_measure() -> None:
    sample = sample_of([talks(1)[0][:2]])
    found = measure(sample, losses_of(copies), batch_tokens=100)
    assert (found.gains, math.isnan(found.loss)) == ({}, True)
    assert describe(sample) == [
        "Context understanding is not measured: no held-out conversation has a reply with an earlier exchange."
    ]


def test_what_is_told_and_written() -> None:
    sample = sample_of(talks(3))
    replies = len(sample.replies)
    far = sum(len(entry.texts) > 2 for entry in sample.replies)
    text = f"Context understanding is measured on {replies} replies of 3 held-out conversations ({far} of them with two earlier exchanges or more)."
    assert describe(sample) == [text]
    assert (
        describe(ReplySample(sample.replies, {"replies that x": 2}))[1] == "Context understanding: 2 replies that x are left out."
    )
    event = measure(sample, losses_of(copies), batch_tokens=100).to_event()
    assert set(event) == {"loss", "gains", "sample"}
    assert event["gains"]["context"]["num_replies"] == replies
    assert event["sample"] == sample.identity
    assert sum(len(entry.texts[FULL].reply) for entry in sample.replies) == event["gains"]["context"]["num_tokens"]
