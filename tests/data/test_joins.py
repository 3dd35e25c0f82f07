"""Joined samples from prepared data: lengths without tokens, tokens through Samples, conversations and texts."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from chat_cases import OWN, SYSTEM, reply, tokenizer_for, user
from hypothesis import given
from hypothesis import strategies as st
from items_made import joined, packed, trained_entries, with_context
from preparing import prepared, written
from trained_tokenizers import JOINED, LONG_TEXT, TOKENIZERS, encode, generated
from training_pro.chunking import Slicer
from training_pro.config import DataSettings
from training_pro.data.chat import IGNORE
from training_pro.data.collate import Samples
from training_pro.data.prepare import Prepared, data_fingerprint
from training_pro.data.report import DataReport
from training_pro.data.samples import SampleMaker
from training_pro.data.sources import Row
from training_pro.data.sources.report import SourceReport


def talk(num: int, name: str = "", system: bool = True) -> dict[str, Any]:
    turns = [turn for n in range(num) for turn in (user(f"where {name} {n}"), reply(f"the keeper {name} {n} " * (1 + n % 3)))]
    return {"messages": [*([SYSTEM] if system else []), *turns]}


def talks(tmp_path: Path, *sizes: int, template: str = "chatml", **settings: Any) -> tuple[Prepared, Any]:
    tokenizer = tokenizer_for(OWN[template])
    path = written(tmp_path, *(talk(size, f"{number}") for number, size in enumerate(sizes)))
    return prepared(tmp_path, tokenizer, dataset=path, **{"entry": "exchange", "cutoff": 400, **settings}), tokenizer


def ids_of(tokenizer: Any, messages: list[dict]) -> list[int]:
    return list(tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False))


# --- lengths and tokens --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", ["chatml", "llama 2", "phi 3", "qwen 3"])
def test_lengths_are_those_of_the_samples(tmp_path: Path, template: str) -> None:
    result, tokenizer = talks(tmp_path, 3, 1, 5, 2, template=template, cutoff=120)
    samples, joins = Samples(result.train), result.joins
    assert joins is not None
    assert joins.can_join
    group, place = result.column("group"), result.column("place")
    num = len(result.lengths)
    assert num == 11
    found = {"joined": 0, "context": 0, "none": 0}
    for first in range(num):
        assert joins.join_length(first, 1) == result.lengths[first] == len(samples[first]["input_ids"])
        for last in range(first + 1, num):
            run = list(range(first, last + 1))
            together, behind = joins.join_length(first, len(run)), joins.context_length(last, len(run) - 1)
            assert (together, behind) == (None, None) or group[first] == group[last]
            messages = talk((3, 1, 5, 2)[group[first]], f"{group[first]}")["messages"]
            shown = [SYSTEM, *messages[1 + 2 * place[first] : 3 + 2 * place[last]]]
            for item, length in ((joined(run), together), (with_context(run[:-1], last), behind)):
                if length is None:
                    continue
                sample = samples[item]
                assert sample["input_ids"].tolist() == ids_of(tokenizer, shown)
                assert sample["lengths"] == [len(sample["input_ids"])] == [length]
                assert length <= 120
            found["joined"] += together is not None
            found["context"] += behind is not None
            found["none"] += together is None and behind is None
            if group[first] == group[last] and together is None and behind is None:
                assert len(ids_of(tokenizer, shown)) > 120
    assert found["none"] > 0
    assert found["context" if template == "qwen 3" else "joined"] > 5
    assert found["joined" if template == "qwen 3" else "context"] == 0


def test_each_reply_is_trained_once_however_entries_are_joined(tmp_path: Path) -> None:
    result, _ = talks(tmp_path, 4, 3)
    samples = Samples(result.train)
    alone = np.concatenate([sample["labels"][sample["labels"] != IGNORE] for sample in map(samples.__getitem__, range(7))])
    for items in ([(0, 1, 2, 3), (4, 5, 6)], [0, (1, 2), 3, (4, 5), 6]):
        assert [entry for item in items for entry in trained_entries(item)] == list(range(7))
        labels = np.concatenate([samples[item]["labels"] for item in items])
        assert labels[labels != IGNORE].tolist() == alone.tolist()


def test_packs_of_items(tmp_path: Path) -> None:
    result, _ = talks(tmp_path, 3, 2, template="chatml")
    item = packed([(0, 1), 4, -1 - 3])
    isolated, shared = Samples(result.train)[item], Samples(result.train, shared=True)[item]
    parts = [Samples(result.train)[part] for part in ((0, 1), 4, 3)]
    assert isolated["input_ids"].tolist() == [token for part in parts for token in part["input_ids"].tolist()]
    assert isolated["lengths"] == [len(part["input_ids"]) for part in parts]
    assert shared["lengths"] == [len(isolated["input_ids"])]
    third = len(isolated["input_ids"]) - len(parts[2]["input_ids"])
    assert (isolated["labels"][third:] == IGNORE).all()  # a filler
    starts = np.cumsum([0, *isolated["lengths"][:-1]])
    assert (isolated["labels"][starts] == IGNORE).all()
    assert (isolated["labels"][: len(parts[0]["labels"])] == parts[0]["labels"]).all()


def test_context_in_a_pack(tmp_path: Path) -> None:
    result, tokenizer = talks(tmp_path, 3, 1, template="qwen 3")
    samples = Samples(result.train)
    row = samples[packed([with_context([0, 1], 2), 3])]
    assert row["input_ids"].tolist()[: row["lengths"][0]] == ids_of(tokenizer, talk(3, "0")["messages"])
    learned = tokenizer.decode(row["labels"][row["labels"] != IGNORE].tolist())
    assert "keeper 0 2" in learned
    assert "keeper 1 0" in learned
    assert "keeper 0 1" not in learned


def test_samples_travel_to_workers(tmp_path: Path) -> None:
    result, _ = talks(tmp_path, 3)
    samples = Samples(result.train)
    travelled = pickle.loads(pickle.dumps(samples))
    assert travelled[(0, 1, 2)]["input_ids"].tolist() == samples[(0, 1, 2)]["input_ids"].tolist()


def test_no_join_goes_farther_than_was_proved(tmp_path: Path) -> None:
    result, _ = talks(tmp_path, 18, template="phi 3", cutoff=2048)
    assert result.joins is not None
    assert result.joins.join_length(0, 16)
    assert result.joins.join_length(0, 17) is None


def test_context_ends_at_a_reply_that_was_too_long(tmp_path: Path) -> None:
    """Earlier turns are written without their thoughts, so the next one would fit behind it."""
    messages = talk(4, "0")["messages"]
    messages[4] = reply(f"<think>\n{'boats ' * 200}\n</think>\n\nhome")
    tokenizer = tokenizer_for(OWN["qwen 3"])
    result = prepared(tmp_path, tokenizer, dataset=written(tmp_path, {"messages": messages}), entry="exchange", cutoff=200)
    assert result.joins is not None
    assert result.column("place").tolist() == [0, 2, 3]
    assert result.column("most").tolist()[1] > 0
    assert [result.joins.context_length(entry, 1) is None for entry in (1, 2)] == [True, False]
    assert result.joins.context_length(2, 2) is None


def test_entries_that_are_no_neighbours_cannot_be_joined(tmp_path: Path) -> None:
    result, _ = talks(tmp_path, 3, entry="conversation")
    assert result.joins is not None
    assert not result.joins.can_join
    two, _ = talks(tmp_path, 1, 1)
    with pytest.raises(ValueError, match="2 entries cannot be one sample; ask Joins for the length first"):
        Samples(two.train)[(0, 1)]


# --- mixes, shares, evaluation -------------------------------------------------------------------------------------------------


def test_mixes_and_repeats_keep_their_neighbours(tmp_path: Path) -> None:
    tokenizer = tokenizer_for(OWN["chatml"])
    main = written(tmp_path, *(talk(3, f"m{number}") for number in range(6)), name="main.jsonl")
    more = written(tmp_path, *(talk(2, f"x{number}") for number in range(2)), name="more.jsonl")
    settings = {"mix": "all exhausted", "more_datasets": [f"{more} = 1"], "entry": "exchange"}
    result = prepared(tmp_path, tokenizer, dataset=main, **settings)
    assert len(result.entries) > len(set(result.entries.tolist()))
    samples, joins = Samples(result.train), result.joins
    assert joins is not None
    place = result.column("place")
    num_joined = 0
    for entry in range(len(result.lengths)):
        length = joins.join_length(entry, 2)
        assert (length is None) == (place[entry] == (1 if result.column("source")[entry] else 2))
        if length is None:
            continue
        following = int(np.flatnonzero(result.entries == result.entries[entry] + 1)[0])
        assert len(samples[(entry, following)]["input_ids"]) == length
        num_joined += 1
    assert num_joined > 12


def test_shares_and_held_out_conversations_stay_whole(tmp_path: Path) -> None:
    result, _ = talks(tmp_path, *[3] * 10, eval_share=0.2, dataset_share=0.5)
    assert len(result.train) == 12
    assert result.eval is not None
    groups = set(result.column("group").tolist())
    assert groups.isdisjoint(result.eval["group"])
    assert result.joins is not None
    assert all(result.joins.join_length(3 * number, 3) for number in range(4))
    for group in result.eval["group"]:
        assert result.conversation(group, held_out=True)["messages"] == talk(3, str(group))["messages"]


def test_conversations_come_back_as_they_were(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    rows = [{**talk(1), "tools": tools}, talk(2, "\u6d77\U0001f600")]
    path, other = written(tmp_path, *rows, {"text": "A text. " * 30}), written(tmp_path, talk(1, "held"), name="e.jsonl")
    tokenizer = tokenizer_for(OWN["tool calls"])
    result = prepared(tmp_path, tokenizer, dataset=path, eval_dataset=other, cutoff=300)
    first, second = result.conversation(0), result.conversation(1)
    assert (first["messages"], first["tools"]) == (rows[0]["messages"], tools)
    assert (second["messages"], second["tools"]) == (rows[1]["messages"], None)
    assert result.conversation(0, held_out=True)["messages"] == talk(1, "held")["messages"]
    with pytest.raises(KeyError):
        result.conversation(int(result.column("group")[-1]))
    assert json.dumps(pickle.loads(pickle.dumps(result.conversations))[1]) == json.dumps(second)


def test_the_sample_of_a_conversation_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    path = str(written(tmp_path, talk(2)))

    def fingerprint(**settings: Any) -> str:
        return data_fingerprint(DataSettings(dataset=path, **settings), tiny.tokenizer())

    assert fingerprint() == fingerprint(entry="conversation") != fingerprint(entry="exchange")
    assert fingerprint() != fingerprint(block_tokens=100)


def test_rows_of_one_exchange_are_the_same_samples_either_way(tmp_path: Path) -> None:
    rows = [{"instruction": f"say {number}", "output": "boats"} for number in range(4)]
    path = written(tmp_path, *rows)
    whole, cut = (prepared(tmp_path, dataset=path, entry=entry) for entry in ("conversation", "exchange"))
    assert whole.train["input_ids"] == cut.train["input_ids"]
    assert whole.train["labels"] == cut.train["labels"]
    assert cut.column("group").tolist() == [0, 1, 2, 3]  # in the order of the file; never one conversation
    assert cut.joins is not None
    assert not cut.joins.can_join


# --- texts ---------------------------------------------------------------------------------------------------------------------

STORY = (
    "One boat came. Two boats left!\n\nThree lamps burn; nobody sleeps. Four bells. Five. Six men went home, and it rained. " * 3
)


def blocks(text: str, tokenizer: Any, **settings: Any) -> tuple[list[Any], Any, DataReport]:
    """Samples of a text, its blocks, and the report."""
    config = DataSettings(**{"cutoff": 64, "block_tokens": 12, "hard_cut": "", **settings})
    report = DataReport()
    maker = SampleMaker(config, tokenizer, report)
    samples = list(maker.samples([Row("text", None, text, "a.txt", 1)], SourceReport()))
    slicer = Slicer(
        tokenizer, max_tokens=config.block_tokens or config.cutoff, overlap=config.overlap, hard_cut=config.hard_cut,
        add_bos=config.add_bos == "yes", add_eos=config.add_eos.replace(" ", "_").replace("end_of_section", "section_end"),
    )  # fmt: skip
    return samples, list(slicer.blocks(text)), report


def spelled(tokenizer: Any, ids: list[int]) -> str:
    """The text of byte-level tokens."""
    from tokenizers import decoders

    return decoders.ByteLevel().decode(tokenizer.convert_ids_to_tokens(ids))


def join_of(samples: list[Any]) -> np.ndarray:
    from training_pro.data.exchanges.joins import Stored, join

    return join([Stored(sample.input_ids, sample.labels, sample.joint) for sample in samples])


@pytest.mark.parametrize("add_eos", ["every block", "end of section", "none"])
@pytest.mark.parametrize("add_bos", ["yes", "no"])
@pytest.mark.parametrize("name", sorted(JOINED))
def test_joined_blocks_are_the_block_of_their_text(name: str, add_bos: str, add_eos: str) -> None:
    tokenizer = TOKENIZERS[name]
    samples, made, report = blocks(STORY, tokenizer, add_bos=add_bos, add_eos=add_eos)
    assert len(samples) == len(made) > 5
    num_merged = sum(count for reason, count in report.reasons.items() if "would merge" in reason)
    num_equal = 0
    for first in range(len(made)):
        for last in range(first + 1, min(first + 4, len(made))):
            assert all(sample.joint.part for sample in samples[first + 1 : last + 1])
            ids, labels = join_of(samples[first : last + 1])
            has_eos = add_eos == "every block" or (add_eos == "end of section" and last == len(made) - 1)
            text = STORY[made[first].start : made[last].end]
            inner = ids[add_bos == "yes" : len(ids) - has_eos].tolist()
            assert ids.tolist() == [0] * (add_bos == "yes") + inner + [1] * has_eos
            assert 0 not in inner
            assert 1 not in inner
            assert spelled(tokenizer, inner) == text
            num_equal += inner == encode(tokenizer, text)
            assert labels.tolist() == [IGNORE, *ids[1:].tolist()]
    assert num_equal
    if not num_merged:
        assert num_equal == sum(min(3, len(made) - 1 - first) for first in range(len(made)))


@pytest.mark.parametrize("name", sorted(TOKENIZERS))
def test_no_text_is_lost_or_doubled(name: str) -> None:
    tokenizer = TOKENIZERS[name]

    @generated
    @given(LONG_TEXT, st.sampled_from([0.0, 0.5]))
    def check(text: str, overlap: float) -> None:
        samples, made, report = blocks(text, tokenizer, overlap=overlap, add_eos="none", add_bos="no")
        plain = {number: place for place, number in enumerate(n for n, block in enumerate(made) if not block.overlap)}
        assert all(sample.joint.part == 0 for sample in samples if sample.overlap)
        stored = [sample for sample in samples if not sample.overlap]
        for before, sample in zip(stored, stored[1:], strict=False):
            if (
                not sample.joint.part or plain[sample.place] - plain[before.place] > 1
            ):  # a block of one token has nothing to train
                continue
            ids, _ = join_of([before, sample])
            whole = text[made[before.place].start : made[sample.place].end]
            assert len(ids) <= 64
            if name in JOINED:
                assert spelled(tokenizer, ids.tolist()) == spelled(tokenizer, encode(tokenizer, whole))
            else:
                assert ids.tolist() == encode(tokenizer, whole)
        assert report.num_block_tokens == sum(block.num_tokens for block in made)

    check()


def test_blocks_of_the_whole_length_have_nothing_to_join() -> None:
    samples, _, _ = blocks(STORY * 3, TOKENIZERS["gpt2"], cutoff=40, block_tokens=0)
    assert len(samples) > 3
    assert all(sample.joint.part == 0 for sample in samples)


def test_no_join_crosses_a_hard_cut_or_an_ignored_block() -> None:
    text = "One boat came in. Two boats left!\n\n\nThree lamps burn here. Go. Four bells ring out."
    samples, made, _ = blocks(text, TOKENIZERS["gpt2"], block_tokens=14, hard_cut="\\n\\n\\n", min_chars=3)
    assert [block.section for block in made][0] != [block.section for block in made][-1]
    for before, sample, block, last in zip(samples, samples[1:], made[1:], made, strict=False):
        follows = block.section == last.section and not text[last.end : block.start].strip()
        assert (sample.joint.part > 0) == follows, before


def test_train_only_after_counts_in_each_joined_block() -> None:
    tokenizer = TOKENIZERS["gpt2"]
    samples, made, _ = blocks(STORY, tokenizer, train_after="lamps", add_eos="none", add_bos="no")
    number = next(number for number, block in enumerate(made) if "lamps" in block.text and number)
    _, labels = join_of(samples[number - 1 : number + 1])
    own = samples[number].labels
    assert labels[labels != IGNORE].tolist()[-int((own != IGNORE).sum()) :] == own[own != IGNORE].tolist()
    assert (labels != IGNORE).sum() == (own != IGNORE).sum() + (samples[number - 1].labels != IGNORE).sum()


def test_text_lengths_and_overlaps(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(STORY, encoding="utf-8")
    settings = {"text_file": path, "cutoff": 60, "block_tokens": 24, "hard_cut": ""}
    plain, overlaps = (prepared(tmp_path, tiny.fresh_tokenizer(), overlap=share, **settings) for share in (0.0, 0.5))
    assert plain.joins is not None
    assert overlaps.joins is not None
    samples, num = Samples(plain.train), 0
    for first in range(len(plain.lengths) - 2):
        for count in (2, 3):
            length = plain.joins.join_length(first, count)
            if length is not None:
                assert len(samples[tuple(range(first, first + count))]["input_ids"]) == length <= 60
                num += 1
    assert num > 5
    skipping = [row for row in range(len(overlaps.lengths)) if not overlaps.column("overlap")[row]]
    assert len(skipping) < len(overlaps.lengths)
    assert len(skipping) == len(plain.lengths)
    for place, row in enumerate(skipping):
        assert overlaps.joins.join_length(row, 2) is None or row + 1 in skipping
        assert overlaps.joins.join_length(row, 2, skip_overlaps=True) == plain.joins.join_length(place, 2)
        pair = tuple(skipping[place : place + 2])
        if plain.joins.join_length(place, 2):
            assert Samples(overlaps.train)[pair]["input_ids"].tolist() == samples[(place, place + 1)]["input_ids"].tolist()
