"""Texts to samples: the blocks of chunking with labels, marks and an account of everything left out."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from trained_tokenizers import GPT2, num_tokens
from training_pro.chunking import slice_text, slide_text
from training_pro.config import RunConfig
from training_pro.data.report import DataReport
from training_pro.data.sample import Sample
from training_pro.data.samples.text import TextSamples
from training_pro.data.sources import Row

TEXT = "One two three. Four five six. Seven eight nine. Ten eleven twelve.\n\n\nNo.\n\n\nThe last one. It ends here."


def samples(text: str | Iterable[str], **settings: Any) -> tuple[list[Sample], DataReport]:
    config, report = RunConfig.from_dict({"data": {"cutoff": 40, **settings}}).data, DataReport()
    return list(TextSamples(config, GPT2, report).samples(Row("text", None, text, "a.txt", 1))), report


def test_samples_are_the_blocks() -> None:
    made, report = samples(TEXT, overlap=0.5, min_chars=3)
    blocks = slice_text(TEXT, GPT2, max_tokens=40, overlap=0.5, min_chars=3)
    assert [sample.input_ids.tolist() for sample in made] == [block.token_ids for block in blocks]
    assert [sample.overlap for sample in made] == [block.overlap for block in blocks]
    assert sum(sample.overlap for sample in made) == report.num_overlap_blocks > 0
    assert all(sample.labels.tolist() == [-100, *sample.input_ids[1:]] for sample in made)
    assert (report.num_blocks, report.num_small_blocks, report.num_small_chars) == (len(blocks), 1, 3)
    assert report.num_block_tokens == sum(block.num_tokens for block in blocks)
    plain = [block.num_tokens for block in blocks if not block.overlap]
    assert report.block_fill == pytest.approx(sum(plain) / len(plain) / 40)
    assert "1 text block (3 characters) ignored as too small" in report.left_out()


@pytest.mark.parametrize("text", [iter(TEXT), io.StringIO(TEXT), [TEXT[:9], TEXT[9:]]])
def test_texts_may_come_in_pieces(text: Iterable[str]) -> None:
    assert [sample.input_ids.tolist() for sample in samples(text)[0]] == [
        sample.input_ids.tolist() for sample in samples(TEXT)[0]
    ]


def test_sections_end_once_also_with_dementor() -> None:
    made, report = samples(TEXT, dementor=True)
    blocks = slide_text(TEXT, GPT2, max_tokens=40)
    assert [sample.input_ids.tolist() for sample in made] == [block.token_ids for block in blocks]
    ends = [number for number, sample in enumerate(made) if sample.closes_section]
    sections = [block.section for block in blocks]
    assert ends == [number for number, section in enumerate(sections) if section not in sections[number + 1 :]]
    assert len(ends) == 3
    assert report.num_blocks == len(blocks)
    assert any(f"{report.num_block_tokens:,} tokens" in line for line in report.lines())


def test_what_dementor_drops_and_cuts_is_in_the_report() -> None:
    long = "a lamp and a boat and a sea " * 20
    report = samples(f"Ha. Ha. Ha.\n\n\n{long}", dementor=True, cutoff=num_tokens("Ha.") + 8)[1]
    assert report.num_cut_sentences == 1
    assert "1 sentence longer than the cutoff, trained in parts" in report.lines()
    report = samples("Hahahaha! Hahahaha! Hahahaha!", dementor=True, cutoff=max(8, num_tokens("Hahahaha!") + 1))[1]
    assert report.num_duplicates == 2
    assert "2 DEMENTOR blocks equal to the one before left out" in report.left_out()


def test_settings_reach_the_slicer() -> None:
    text = "# A\nOne. Two.\n\nThree.\n# B\nFour."
    assert len(samples(text, cut_at="headings", hard_cut="")[0]) == 2
    assert len(samples(text, cut_at="blank lines", hard_cut="")[0]) == 2
    assert len(samples(text, cut_at="regex", hard_cut="^# .$")[0]) == 2
    assert len(samples(text, min_tokens=39)[0]) == 0
    few, many = (samples(TEXT * 9, dementor=True, stride=stride)[1].num_blocks for stride in (3, 1))
    assert few < many
    wrong = RunConfig().data.model_copy(update={"language": "xx"})
    made = TextSamples(wrong, GPT2, DataReport()).samples(Row("text", None, "A.", "a.txt", 1))
    with pytest.raises(ValueError, match="Language of the text is 'xx'"):
        next(made)


def test_train_only_after() -> None:
    made, report = samples("Question one. Answer: the lamp.\n\n\nNothing here.", train_after="Answer:")
    first, second = made
    trained = GPT2.decode(first.input_ids[first.labels != -100].tolist())
    assert trained.strip().startswith("the lamp.")
    assert np.count_nonzero(second.labels != -100) == len(second.labels) - 1
    assert report.num_without_marker == 1
