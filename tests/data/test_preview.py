"""Preview: what is shown is what is prepared, character for character and label for label."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tiny
from datasets import Dataset
from training_pro.data.chat import IGNORE, tokenize_conversation
from training_pro.data.preview import HARD_CUT, Piece, PreviewSample, pieces, preview, with_borders

MIXED = "Oda paints 世界 and 👩‍👩‍👧 blue.\n\nSeven bells \ufffd ring."


@dataclass
class Data:
    """The parts of Prepared that preview reads."""

    train: Any
    lengths: np.ndarray


def data(*samples: tuple[list[int], list[int]], **columns: list[Any]) -> Data:
    rows = {"input_ids": [ids for ids, _ in samples], "labels": [labels for _, labels in samples]}
    rows["num_trained"] = [sum(label != IGNORE for label in labels) for _, labels in samples]
    return Data(Dataset.from_dict({**rows, **columns}), np.asarray([len(ids) for ids, _ in samples]))


@pytest.mark.parametrize("text", [MIXED, "", " a", "the lighthouse of Veltmor"])
def test_pieces_join_to_the_text(text: str) -> None:
    ids = tiny.tokenizer()(text)["input_ids"]
    made = pieces(ids, ids, tiny.tokenizer())
    assert "".join(piece.text for piece in made) == text
    assert all(piece.text for piece in made)


def test_a_character_of_several_tokens_is_one_piece() -> None:
    ids = tiny.tokenizer()("世a")["input_ids"]
    assert len(ids) == 4
    assert [piece.text for piece in pieces(ids, ids, tiny.tokenizer())] == ["世", "a"]


def test_labels_and_special_tokens_are_shown() -> None:
    messages = [{"role": "user", "content": "who is it"}, {"role": "assistant", "content": "Oda"}]
    made = tokenize_conversation(messages, tiny.tokenizer())
    shown = pieces(made.input_ids, made.labels, tiny.tokenizer())
    assert "".join(piece.text for piece in shown if piece.trained) == "Oda<|im_end|>"
    assert [piece.text for piece in shown if piece.special] == ["<|im_start|>", "<|im_end|>"] * 2
    assert shown[0] == Piece("<|im_start|>", False, True)


def test_metaspace_tokens_keep_their_spaces() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = [("<unk>", 0.0), ("\u2581the", -1.0), ("\u2581light", -1.0), ("house", -1.0), ("\u2581", -3.0)]
    raw = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=False))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>")
    ids = tokenizer("the lighthouse the")["input_ids"]
    assert [piece.text for piece in pieces(ids, ids, tokenizer)] == ["the", " light", "house", " the"]


def test_a_page_is_taken_from_the_data_and_ends_with_it() -> None:
    samples = [([5, 6, 7, 8][: 1 + number % 4], [IGNORE, 6, 7, 8][: 1 + number % 4]) for number in range(7)]
    page = preview(data(*samples, group=[0, 0, 0, 1, 1, 1, 1]), tiny.tokenizer(), capacity=4, first=6, num=3)
    assert (page.first, page.num_entries) == (4, 7)
    assert [sample.number for sample in page.samples] == [4, 5, 6]
    assert [sample.num_trained for sample in page.samples] == [0, 1, 2]
    assert {sample.group for sample in page.samples} == {1}
    assert page.fill == [0, 0, 2, 0, 0, 2, 0, 2, 0, 1]
    assert page.mean_fill == pytest.approx((1 + 2 + 3 + 4 + 1 + 2 + 3) / 7 / 4)


def test_overlap_blocks_do_not_count_for_the_fill() -> None:
    page = preview(data(([5] * 4, [5] * 4), ([5], [5]), overlap=[False, True]), tiny.tokenizer(), capacity=4)
    assert page.mean_fill == 1.0
    assert [sample.overlap for sample in page.samples] == [False, True]


def test_packs_are_shown_whole() -> None:
    samples = [([5] * length, [5] * length) for length in (3, 1, 2, 2)]
    page = preview(data(*samples), tiny.tokenizer(), capacity=4, first=1, num=1, packs=[[0, 1], [3, 2]])
    assert [(sample.pack, sample.number) for sample in page.samples] == [(1, 3), (1, 2)]
    assert (page.num_entries, page.mean_fill) == (2, 1.0)


def test_nothing_prepared_shows_nothing() -> None:
    empty = Data(Dataset.from_dict({"input_ids": [], "labels": [], "num_trained": []}), np.zeros(0, dtype=int))
    assert preview(empty, tiny.tokenizer(), capacity=4).samples == []


def test_what_lies_between_two_samples() -> None:
    def sample(group: int = 0, section: int = 0, pack: int | None = None) -> PreviewSample:
        return PreviewSample(0, 1, 1, [], group=group, section=section, pack=pack)

    in_text = with_borders([sample(), sample(), sample(section=1), sample(group=1, section=1)])
    assert [made.border for made in in_text] == ["", "", HARD_CUT, "next conversation or text"]
    packed = with_borders([sample(0, pack=0), sample(1, pack=0), sample(2, pack=1)])
    assert [made.border for made in packed] == ["", "", "pack 2"]
    assert with_borders([]) == []
