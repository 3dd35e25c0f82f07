"""From settings to samples: what is counted, what is kept, and what an interruption leaves."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from preparing import TEXT, chat, prepared, rows_of, written
from training_pro import ROOT
from training_pro.config import DataSettings
from training_pro.data import cache as cache_module
from training_pro.data import prepare as module
from training_pro.data import samples
from training_pro.data.prepare import data_fingerprint, default_cache_dir, tokenizer_identity
from training_pro.data.report import DataReport, histogram

# --- counts --------------------------------------------------------------------------------------------------------------------


def test_one_conversation_literally(tmp_path: Path) -> None:
    tokenizer = tiny.fresh_tokenizer()
    result = prepared(tmp_path, tokenizer, dataset=written(tmp_path, chat("who", "Oda", "where", "the keeper")))
    ids = tokenizer.apply_chat_template(chat("who", "Oda", "where", "the keeper")["messages"], tokenize=True, return_dict=False)
    (row,) = rows_of(result.train)
    assert (row["input_ids"], row["num_trained"], row["group"], row["place"]) == (ids, 6, 0, 0)
    assert [token for token in row["labels"] if token != -100] == tokenizer.encode("Oda<|im_end|>the keeper<|im_end|>")
    assert (result.eval, result.lengths.tolist()) == (None, [len(ids)])
    report = result.report
    assert (report.num_rows, report.num_samples, report.num_tokens, report.num_trained_tokens) == (1, 1, len(ids), 6)
    assert (report.longest, report.routes, report.cached) == ([len(ids)], {"prefixes": 1}, False)
    assert report.files == [{"file": "a.jsonl", "encoding": "utf-8", "format": "messages", "rows": 1, "broken": 0}]
    assert report.lines()[:3] == [
        "a.jsonl: 1 row, messages, utf-8",
        f"1 sample, {len(ids)} tokens, 6 of them trained",
        f"longest samples: {len(ids)} tokens",
    ]


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        chat("who", "Oda"),
        chat("who", "Oda " * 60),
        {"text": "who"},
        '{"nothing": 1}\n',
        chat("where", "the keeper"),
    )
    report = prepared(tmp_path, dataset=path, cutoff=64, max_broken_share=0.5, add_bos=False, add_eos="none").report
    assert (report.num_rows, report.num_samples) == (4, 2)
    assert (report.num_broken, report.num_too_long, report.num_untrained) == (1, 1, 1)
    assert (report.broken[0]["file"], report.broken[0]["line"], report.broken[0]["excerpt"]) == ("a.jsonl", 4, '{"nothing": 1}')
    assert (report.too_long[0]["line"], report.too_long[0]["tokens"] > 64) == (2, True)
    assert report.left_out() == [
        f"1 broken row left out, the first: a.jsonl:4: {report.broken[0]['reason']}",
        "1 conversation longer than the cutoff left out, the first: a.jsonl:2",
        "1 sample without a trained token left out",
    ]
    assert DataReport.from_dict(json.loads(json.dumps(report.to_dict()))).lines() == report.lines()


def test_a_sample_as_long_as_the_cutoff_stays(tmp_path: Path) -> None:
    path = written(tmp_path, chat("who", "Oda"))
    length = prepared(tmp_path, dataset=path).report.longest[0]
    assert prepared(tmp_path, dataset=path, cutoff=length).report.num_samples == 1
    with pytest.raises(ValueError, match=f"1 conversation longer than the cutoff of {length - 1} tokens"):
        prepared(tmp_path, dataset=path, cutoff=length - 1)


def test_a_conversation_that_the_template_refuses_is_a_broken_row(tmp_path: Path) -> None:
    tokenizer = tiny.fresh_tokenizer()
    tokenizer.chat_template = "{% if messages[0].role != 'user' %}{{ raise_exception('user first') }}{% endif %}" + tiny.CHATML
    backwards = {"messages": [{"role": "assistant", "content": "Oda"}, {"role": "user", "content": "who"}]}
    path = written(tmp_path, chat("who", "Oda"), backwards, chat("where", "the keeper"))
    with pytest.raises(
        ValueError, match=r"Broken rows allowed: 1 of 3 rows .*\n.*a.jsonl:2: the chat template refuses .*user first"
    ):
        prepared(tmp_path, tokenizer, dataset=path)
    report = prepared(tmp_path, tokenizer, dataset=path, max_broken_share=0.4).report
    assert (report.num_rows, report.num_broken, report.files[0]["rows"], report.files[0]["broken"]) == (2, 1, 2, 1)
    assert (report.broken[0]["line"], report.broken[0]["excerpt"]) == (2, "Oda")


def test_one_conversation_may_give_several_samples_of_one_group(tmp_path: Path) -> None:
    tokenizer = tiny.fresh_tokenizer()
    tokenizer.chat_template = tiny.CHATML.replace(
        "message['content']", "(message['content'] if loop.last else message['content'].split('</think>')[-1])"
    )
    path = written(tmp_path, chat("who", "is it</think>Oda", "where", "why</think>the keeper"), chat("who", "Oda"))
    result = prepared(tmp_path, tokenizer, dataset=path)
    assert [(row["group"], row["place"]) for row in rows_of(result.train)] == [(0, 0), (0, 1), (1, 0)]
    assert result.report.routes == {"split": 2, "prefixes": 1}


def test_training_on_everything(tmp_path: Path) -> None:
    result = prepared(tmp_path, dataset=written(tmp_path, chat("who", "Oda")), train_on="everything")
    (row,) = rows_of(result.train)
    assert row["labels"] == [-100, *row["input_ids"][1:]]
    assert row["num_trained"] == len(row["input_ids"]) - 1


# --- texts ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"overlap": 0.5}, {"add_bos": False, "add_eos": "none"}, {"hard_cut": "seven"}])
def test_blocks_of_a_text_are_never_over_the_cutoff(tmp_path: Path, settings: dict) -> None:
    result = prepared(tmp_path, text_file=written(tmp_path, TEXT, name="a.txt"), cutoff=32, **settings)
    assert result.report.num_blocks == len(result.train) > 10
    assert 24 < result.lengths.max() <= 32
    for row in rows_of(result.train):
        assert row["labels"] == [-100, *row["input_ids"][1:]]
        assert (row["group"], row["num_trained"]) == (0, len(row["input_ids"]) - 1)


def test_where_blocks_begin_and_end(tmp_path: Path) -> None:
    path = written(tmp_path, TEXT, name="a.txt")
    tokenizer = tiny.fresh_tokenizer()
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    both = prepared(tmp_path, tokenizer, text_file=path, cutoff=32, add_bos="yes").train
    assert {(row["input_ids"][0], row["input_ids"][-1], row["labels"][-1]) for row in both} == {(bos, eos, eos)}
    last_only = prepared(tmp_path, tokenizer, text_file=path, cutoff=32, add_eos="end of section").train
    assert [row["input_ids"][-1] == eos for row in last_only] == [False] * (len(last_only) - 1) + [True]
    plain = prepared(tmp_path, tokenizer, text_file=path, cutoff=32, add_bos=False, add_eos="none").train
    assert " ".join(tokenizer.decode(row["input_ids"]) for row in plain).split() == TEXT.split()


def test_small_blocks_are_counted(tmp_path: Path) -> None:
    path = written(tmp_path, "the lighthouse of Veltmor stands.\n\n\nOda.\n\n\nwho is the keeper of the boat?", name="a.txt")
    report = prepared(tmp_path, text_file=path, min_chars=10).report
    assert (report.num_blocks, report.num_small_blocks, report.num_samples) == (2, 1, 2)
    assert "1 text block (4 characters) ignored as too small" in report.left_out()


def test_conversations_and_a_text_together(tmp_path: Path) -> None:
    report = prepared(
        tmp_path,
        dataset=written(tmp_path, chat("who", "Oda")),
        text_file=written(tmp_path, "the keeper of the boat.", name="b.txt"),
    ).report
    assert [file["file"] for file in report.files] == ["a.jsonl", "b.txt"]
    assert (report.num_rows, report.num_samples, report.num_blocks) == (2, 2, 1)


@pytest.mark.parametrize("rows_at_once", [1, 2, 256])
def test_samples_keep_the_order_of_their_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_at_once: int) -> None:
    monkeypatch.setattr(samples, "ROWS_AT_ONCE", rows_at_once)
    rows = [chat("who", "one"), chat("who", "two"), {"text": "three"}, chat("who", "four"), {"text": "five"}, chat("who", "six")]
    tokenizer = tiny.fresh_tokenizer()
    found = rows_of(prepared(tmp_path, tokenizer, dataset=written(tmp_path, *rows)).train)
    texts = [tokenizer.decode(row["input_ids"]) for row in found]
    assert [row["group"] for row in found] == list(range(6))
    assert all(word in text for word, text in zip(("one", "two", "three", "four", "five", "six"), texts, strict=True))


def test_sections_of_a_text_are_numbered(tmp_path: Path) -> None:
    sections = [" ".join(f"The keeper {number} sleeps." for number in range(length)) for length in (12, 1, 9)]
    result = prepared(tmp_path, text_file=written(tmp_path, "\n\n\n".join(sections), name="a.txt"), cutoff=32)
    found = result.column("section").tolist()
    assert found == sorted(found)
    assert set(found) == {0, 1, 2}
    assert (found.count(0) > 1, found.count(1), found.count(2) > 1) == (True, 1, True)
    assert set(result.column("group").tolist()) == {0}


def test_a_text_needs_no_chat_template(tmp_path: Path) -> None:
    tokenizer = tiny.fresh_tokenizer()
    tokenizer.chat_template = None
    assert prepared(tmp_path, tokenizer, text_file=written(tmp_path, TEXT, name="a.txt"), cutoff=64).report.num_samples > 1
    with pytest.raises(ValueError, match="Chat template: the model has none"):
        prepared(tmp_path, tokenizer, dataset=written(tmp_path, chat("who", "Oda")))


# --- evaluation ----------------------------------------------------------------------------------------------------------------


def test_whole_conversations_are_held_out(tmp_path: Path) -> None:
    tokenizer = tiny.fresh_tokenizer()
    tokenizer.chat_template = tiny.CHATML.replace(
        "message['content']", "(message['content'] if loop.last else message['content'].split('</think>')[-1])"
    )
    rows = [chat("who", f"is it</think>Oda {number}", "where", "why</think>the keeper") for number in range(10)]
    result = prepared(tmp_path, tokenizer, dataset=written(tmp_path, *rows), eval_share=0.2)
    groups, held_out = set(result.train["group"]), set(result.eval["group"])
    assert (len(result.train), len(result.eval), len(held_out)) == (16, 4, 2)
    assert groups | held_out == set(range(10))
    assert not groups & held_out
    assert (result.report.num_samples, result.report.num_eval_samples) == (16, 4)
    assert result.report.num_eval_trained_tokens == sum(result.eval["num_trained"])
    assert len(result.lengths) == 16


def test_what_is_held_out_depends_on_the_seed_alone(tmp_path: Path, chat_file: Path) -> None:
    def chosen(**options: Any) -> tuple[list, str]:
        result = prepared(tmp_path, dataset=chat_file, eval_share=0.25, **options)
        return list(result.eval["group"]), result.fingerprint

    assert chosen() == chosen()
    assert len(chosen()[0]) == 6
    assert chosen(seed=1) != chosen()
    assert chosen(seed=1)[1] != chosen()[1]


def test_a_single_text_is_split_by_its_blocks(tmp_path: Path) -> None:
    path = written(tmp_path, TEXT, name="a.txt")
    result = prepared(tmp_path, text_file=path, cutoff=32, eval_share=0.1)
    assert len(result.eval) == round(0.1 * (len(result.train) + len(result.eval))) > 0


def test_an_evaluation_file_is_prepared_the_same_way(tmp_path: Path, chat_file: Path) -> None:
    other = written(tmp_path, chat("who", "Oda"), chat("who", "Oda " * 100), name="eval.jsonl")
    result = prepared(tmp_path, dataset=chat_file, eval_dataset=other, cutoff=64)
    assert (len(result.train), len(result.eval), result.report.num_eval_trained_tokens) == (24, 1, 2)
    assert "Evaluation data set: 1 conversation longer than the cutoff left out, the first: eval.jsonl:2" in result.report.notes


def test_a_single_sample_cannot_be_split(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Evaluation share: there is only one sample.* Got: 0.5. Set it to 0 or add data"):
        prepared(tmp_path, dataset=written(tmp_path, chat("who", "Oda")), eval_share=0.5)


# --- what is kept --------------------------------------------------------------------------------------------------------------


def test_a_second_preparation_reads_nothing(tmp_path: Path, chat_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepared(tmp_path, dataset=chat_file)
    monkeypatch.setattr(module, "read_rows", None)
    second = prepared(tmp_path, dataset=chat_file)
    assert (first.report.cached, second.report.cached) == (False, True)
    assert second.fingerprint == first.fingerprint
    assert rows_of(second.train) == rows_of(first.train)
    assert {**second.report.to_dict(), "seconds": 0, "cached": 0} == {**first.report.to_dict(), "seconds": 0, "cached": 0}
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_moved_folder_of_the_same_content_is_found_again(tmp_path: Path, chat_file: Path) -> None:
    prepared(tmp_path, dataset=chat_file)
    (tmp_path / "elsewhere").mkdir()
    assert prepared(tmp_path, dataset=chat_file.rename(tmp_path / "elsewhere/chat.jsonl")).report.cached


def test_everything_that_changes_samples_changes_the_fingerprint(tmp_path: Path, chat_file: Path) -> None:
    tokenizer = tiny.fresh_tokenizer()
    other_template, other_end, other_words = (tiny.fresh_tokenizer() for _ in range(3))
    other_template.chat_template += " "
    other_end.eos_token = "<|endoftext|>"
    other_words.add_tokens(["lantern"])
    text, formats = written(tmp_path, TEXT, name="a.txt"), written(tmp_path, {"text": "%text%"}, name="f.json")
    base = {"dataset": str(chat_file), "text_file": str(text)}
    changed = [
        *(
            {"cutoff": 128},
            {"train_on": "everything"},
            {"overlap": 0.25},
            {"hard_cut": "x"},
            {"min_chars": 3},
            {"add_bos": False},
        ),
        *({"add_eos": "none"}, {"format": "messages"}, {"encoding": "utf-8"}, {"max_broken_share": 0.5}, {"text_file": ""}),
        *({"eval_dataset": str(chat_file)}, {"format_file": str(formats)}),
    ]
    prints = [data_fingerprint(DataSettings(**base), tokenizer)]
    assert data_fingerprint(DataSettings(**base), tiny.fresh_tokenizer()) == prints[0]
    prints += [data_fingerprint(DataSettings(**{**base, **change}), tokenizer) for change in changed]
    prints += [data_fingerprint(DataSettings(**base), other) for other in (other_template, other_end, other_words)]
    chat_file.write_text(chat_file.read_text().replace("Oda", "Ida"), encoding="utf-8")
    prints.append(data_fingerprint(DataSettings(**base), tokenizer))
    assert len(set(prints)) == len(prints) == len(changed) + 5


def test_use_does_not_change_a_tokenizers_identity(tiny_tokenizer: Any) -> None:
    before = tokenizer_identity(tiny_tokenizer)
    tiny_tokenizer(["who", "where is it"], padding=True, truncation=True, max_length=2)
    assert tokenizer_identity(tiny_tokenizer) == before


def test_a_slow_tokenizer_has_an_identity(tiny_tokenizer: Any) -> None:
    class Slow:
        chat_template, special_tokens_map = None, {"eos_token": "</s>"}

        def __init__(self, **vocabulary: int) -> None:
            self.get_vocab = lambda: vocabulary

    assert tokenizer_identity(Slow(a=1)) == tokenizer_identity(Slow(a=1)) != tokenizer_identity(Slow(a=2))


def test_where_prepared_data_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINING_PRO_CACHE", str(tmp_path))
    assert default_cache_dir() == tmp_path / "prepared"
    monkeypatch.delenv("TRAINING_PRO_CACHE")
    assert default_cache_dir() == ROOT / ".cache/prepared"
    monkeypatch.setattr(cache_module.os, "access", lambda path, mode: False)
    assert default_cache_dir() == Path.home() / ".cache/training_pro/prepared"


# --- what raises ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "settings", "message"),
    [
        (
            chat("who", "Oda " * 100),
            {"cutoff": 16},
            "nothing is left to train on: 1 conversation longer than the cutoff of 16",
        ),
        (chat("who"), {}, "none of the 1 rows can be used.\\n.*no assistant turn"),
        ({"text": "Oda"}, {"min_chars": 10}, "1 text block ignored as too small. .*lower Ignore small blocks"),
        ({"x": 1}, {"max_broken_share": 1.0}, "Data set: none of the 1 rows can be used"),
        (
            {"text": "who"},
            {"add_bos": False, "add_eos": "none"},
            "left to train on: 1 sample without a token to train on. Raise the C",
        ),
    ],
)
def test_nothing_is_left(tmp_path: Path, row: dict, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepared(tmp_path, dataset=written(tmp_path, row), **settings)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "absent.jsonl"}, "Data set: .*absent.jsonl does not exist"),
        ({"text_file": "absent.txt"}, "Text file: .*absent.txt does not exist"),
        ({"eval_dataset": "absent.jsonl"}, "Evaluation data set: .*absent.jsonl does not exist"),
        ({"format_file": "absent.json"}, "Format file: .*absent.json cannot be read"),
    ],
)
def test_files_that_are_not_there(tmp_path: Path, chat_file: Path, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepared(tmp_path, **{"dataset": chat_file, **settings})


# --- the report ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([], []),
        ([1], [(1, 1)]),
        ([1, 2, 2, 5], [(1, 1), (2, 2), (3, 0), (4, 0), (5, 1)]),
        ([40, 1, 3], [(2, 1), (4, 1), *((upper, 0) for upper in range(6, 40, 2)), (40, 1)]),
    ],
)
def test_histogram(lengths: list[int], expected: list[tuple[int, int]]) -> None:
    assert histogram(lengths) == expected


def test_a_histogram_counts_every_sample() -> None:
    lengths = np.random.default_rng(0).integers(1, 999, 500)
    bins = histogram(lengths.tolist(), num_bins=7)
    assert sum(count for _, count in bins) == 500
    assert len(bins) <= 7
    for upper, count in bins:
        assert count == ((lengths <= upper) & (lengths > upper - bins[0][0])).sum()


def test_an_empty_report_has_lines() -> None:
    assert DataReport().lines() == ["0 samples, 0 tokens, 0 of them trained"]
    assert "3 samples held out for evaluation" in DataReport(num_eval_samples=3).lines()


def test_bos_as_the_tokenizer_does(tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    path = written(tmp_path, TEXT, name="a.txt")
    tokenizer = tiny.fresh_tokenizer()
    bos = tokenizer.bos_token_id
    assert prepared(tmp_path, tokenizer, text_file=path, cutoff=32).train[0]["input_ids"][0] != bos
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{tokenizer.bos_token} $A", special_tokens=[(tokenizer.bos_token, bos)]
    )
    assert {row["input_ids"][0] for row in prepared(tmp_path, tokenizer, text_file=path, cutoff=32).train} == {bos}
    assert prepared(tmp_path, tokenizer, text_file=path, cutoff=32, add_bos="no").train[0]["input_ids"][0] != bos
