"""Several data sets, shares and what is held out, from settings to entries."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from preparing import TEXT, chat, prepared, rows_of, written
from training_pro.config import RunConfig
from training_pro.data.prepare import Prepared


def chats(folder: Path, name: str, num: int) -> Path:
    return written(folder, *[chat("who", f"Oda {name} {number}") for number in range(num)], name=f"{name}.jsonl")


def counts(result: Prepared) -> list[int]:
    return np.bincount(result.column("source")).tolist()


def mixture(folder: Path, **settings: Any) -> Prepared:
    """30 conversations, and 8 of weight 2."""
    more = [f"{chats(folder, 'more', 8)} = {settings.pop('weight', 2)}"]
    return prepared(folder, dataset=chats(folder, "main", 30), more_datasets=more, **settings)


# --- mixes ---------------------------------------------------------------------------------------------------------------------


def test_all_is_one_after_the_other(tmp_path: Path) -> None:
    result = mixture(tmp_path)
    assert result.column("source").tolist() == [0] * 30 + [1] * 8
    assert result.entries.tolist() == list(range(38))
    assert [file["file"] for file in result.report.files] == ["main.jsonl", "more.jsonl"]
    assert "the weights of the data sets are not used, since Mix is 'all': everything is trained once" in result.report.notes


def test_first_exhausted(tmp_path: Path) -> None:
    result = mixture(tmp_path, mix="first exhausted")
    assert counts(result) == [4, 8]
    entries = [(entry["entries"], entry["left_out"], entry["repeats"]) for entry in result.report.sources]
    assert entries == [(4, 26, 1.0), (8, 0, 1.0)]
    assert result.report.num_samples == len(result.train) == len(result.lengths) == 12
    assert max(result.entries[:4]) > 3  # not the head of the file


def test_all_exhausted_repeats(tmp_path: Path) -> None:
    result = mixture(tmp_path, mix="all exhausted")
    assert counts(result) == [30, 60]
    times = Counter(result.entries.tolist())
    assert sorted(times.values()) == [1] * 30 + [7] * 4 + [8] * 4
    report = result.report
    assert [entry["repeats"] for entry in report.sources] == [1.0, 7.5]
    assert report.num_tokens == result.lengths.sum() == sum(entry["tokens_in_mix"] for entry in report.sources)
    assert report.source_lines() == [
        f"Data set main.jsonl: 30 samples; {report.sources[0]['part']:.1%} of the trained data's tokens",
        f"Further data sets more.jsonl: 8 samples, each trained 7.5 times an epoch; "
        f"{report.sources[1]['part']:.1%} of the trained data's tokens",
    ]


def test_weights_that_are_shares_of_tokens(tmp_path: Path) -> None:
    text = written(tmp_path, TEXT, name="a.txt")
    result = prepared(
        tmp_path,
        dataset=chats(tmp_path, "main", 50),
        text_file=text,
        mix="all exhausted",
        mix_by="tokens",
        dataset_weight=3,
        text_weight=1,
        cutoff=64,
    )
    parts = [entry["part"] for entry in result.report.sources]
    assert parts == pytest.approx([0.75, 0.25], abs=0.03)
    assert sum(parts) == pytest.approx(1)


def test_entries_are_the_samples(tmp_path: Path) -> None:
    everything = rows_of(mixture(tmp_path).train)
    result = mixture(tmp_path, mix="all exhausted")
    assert rows_of(result.train) == [everything[entry] for entry in result.entries]
    assert result.lengths.tolist() == [len(row["input_ids"]) for row in rows_of(result.train)]
    for name in ("num_trained", "group", "section", "place", "source", "overlap"):
        assert result.column(name).tolist() == [row[name] for row in rows_of(result.train)]


def test_a_mix_reads_nothing_anew_and_is_another_run(tmp_path: Path) -> None:
    first = mixture(tmp_path)
    changes: list[dict] = [
        *({"mix": "all exhausted"}, {"mix": "first exhausted"}, {"mix": "first exhausted", "mix_by": "tokens"}),
        *({"mix": "all exhausted", "weight": 3}, {"dataset_share": 0.5}, {"eval_share": 0.25}),
        *({"mix": "all exhausted", "dataset_weight": 3}, {"dataset_share": 0.5, "seed": 1}),
    ]
    results = [mixture(tmp_path, **change) for change in changes]
    assert all(result.report.cached for result in results)
    assert len({result.fingerprint for result in [first, *results]}) == len(changes) + 1
    assert mixture(tmp_path, seed=7).fingerprint == first.fingerprint  # nothing is drawn
    assert mixture(tmp_path, dataset_share=0.5).entries.tolist() == results[4].entries.tolist()
    assert results[7].entries.tolist() != results[4].entries.tolist()


# --- shares and evaluation -----------------------------------------------------------------------------------------------------


def test_shares_of_conversations_and_of_sections(tmp_path: Path) -> None:
    text = written(tmp_path, "\n\n\n".join(f"the keeper of boat {number}." for number in range(20)), name="a.txt")
    settings = {"dataset": chats(tmp_path, "main", 40), "text_file": text, "dataset_share": 0.25, "text_share": "50 %"}
    result = prepared(tmp_path, **settings)
    assert counts(result) == [10, 10]
    assert [(entry["samples"], entry["used"]) for entry in result.report.sources] == [(40, 10), (20, 10)]
    assert "40 samples, 10 of them used (0.25 drawn by seed)" in result.report.source_lines()[0]
    assert result.entries[:10].max() > 20
    assert prepared(tmp_path, seed=1, **settings).entries.tolist() != result.entries.tolist()


def test_a_repeated_sample_is_on_one_side(tmp_path: Path) -> None:
    result = mixture(tmp_path, mix="all exhausted", eval_share=0.25)
    trained = {tuple(row["input_ids"]) for row in rows_of(result.train)}
    held_out = {tuple(row["input_ids"]) for row in rows_of(result.eval)}
    assert not trained & held_out
    assert (len(trained), len(held_out)) == (22 + 6, 8 + 2)
    assert len(result.train) == 22 + 44
    assert [entry["held_out"] for entry in result.report.sources] == [8, 2]


def test_overlap_blocks_do_not_carry_text_to_the_other_side(tmp_path: Path) -> None:
    path = written(tmp_path, " ".join(f"The keeper {number} sleeps." for number in range(80)), name="a.txt")
    result = prepared(tmp_path, text_file=path, cutoff=48, overlap=0.5, eval_share=0.1)
    overlaps = prepared(tmp_path, text_file=path, cutoff=48, overlap=0.5).column("overlap")
    assert overlaps.sum() > 5
    (entry,) = result.report.sources
    assert entry["at_border"] > 0
    assert len(result.train) + len(result.eval) + entry["at_border"] == entry["samples"] == len(overlaps)
    assert "overlap blocks between these and the others left out" in result.report.source_lines()[0]


# --- settings ------------------------------------------------------------------------------------------------------------------


def test_problems_of_further_data_sets_are_all_told(tmp_path: Path) -> None:
    path = chats(tmp_path, "main", 1)
    config = RunConfig.from_dict({"data": {"more_datasets": [str(path), f"{path} = 0", "absent.jsonl = 2"]}})
    problems = [str(problem) for problem in config.problems()]
    assert len(problems) == 2
    assert problems[0].startswith("Further data sets (data.more_datasets): The weight must be more than 0. Got: ")
    assert "There is no such file or folder. Got: 'absent.jsonl = 2'. Looked for" in problems[1]
    assert all("recipes.jsonl = 2, 50 %" in problem for problem in problems)


def test_broken_rows_are_judged_in_each_data_set(tmp_path: Path) -> None:
    bad = written(tmp_path, *["{\n"] * 2, chat("who", "Oda"), name="bad.jsonl")
    with pytest.raises(ValueError, match="Broken rows allowed: 2 of 3 rows"):
        prepared(tmp_path, dataset=chats(tmp_path, "main", 97), more_datasets=[str(bad)])
    with pytest.raises(ValueError, match="Further data sets: .*absent.jsonl does not exist"):
        prepared(tmp_path, dataset=chats(tmp_path, "main", 2), more_datasets=["absent.jsonl"])


def test_a_further_data_set_may_be_a_text(tmp_path: Path) -> None:
    text = written(tmp_path, "the keeper of the boat.", name="a.txt")
    result = prepared(tmp_path, dataset=chats(tmp_path, "main", 3), more_datasets=[str(text)], format="messages")
    assert counts(result) == [3, 1]


def test_vectors_follow_the_stored_samples(tmp_path: Path) -> None:
    class Embed:
        identity = "length"

        def __call__(self, texts: list[str]) -> np.ndarray:
            return np.asarray([[len(text), 1.0] for text in texts])

    settings = {"dataset": chats(tmp_path, "main", 5)}
    plain = prepared(tmp_path, **settings)
    result = prepared(tmp_path, embed=Embed(), **settings)
    assert (plain.vectors, result.report.cached) == (None, False)
    assert result.vectors is not None
    assert result.vectors[result.entries].tolist() == [[3, 1]] * 5  # "who"
    assert prepared(tmp_path, embed=Embed(), **settings).report.cached


def test_the_highest_token_is_known(tmp_path: Path) -> None:
    tokenizer = tiny.fresh_tokenizer()
    tokenizer.add_tokens(["Zanzibar"])
    evaluation = written(tmp_path, chat("who", "Zanzibar"), name="eval.jsonl")
    plain = prepared(tmp_path, tokenizer, dataset=chats(tmp_path, "main", 2))
    assert plain.report.highest_token == max(max(row["input_ids"]) for row in rows_of(plain.train))
    other = prepared(tmp_path, tokenizer, dataset=chats(tmp_path, "main", 2), eval_dataset=evaluation)
    assert other.report.highest_token == tokenizer.convert_tokens_to_ids("Zanzibar") > plain.report.highest_token
