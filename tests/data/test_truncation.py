"""Too long conversations: whole exchanges are left out, every result is rendered anew, every wanted reply is trained at most once."""

from typing import Any

import pytest
import tiny
from chat_cases import OWN, SYSTEM, reply, tokenizer_for, user
from hypothesis import given, settings
from hypothesis import strategies as st
from training_pro.config import DataSettings
from training_pro.data.chat import IGNORE
from training_pro.data.chat.truncation import TOO_LONG, exchanges, shorten
from training_pro.data.report import DataReport
from training_pro.data.samples.chat import ChatSamples
from training_pro.data.sources import Row
from training_pro.data.sources.report import FileReport, SourceReport

CHAT = [SYSTEM, user("Qa1q"), reply("Ra1r"), user("Qb2q"), reply("Rb2r"), user("Qc3q"), reply("Rc3r"), user("Qd4q")]


def samples_of(messages: list[dict], tokenizer: Any, **changes: Any) -> tuple[list[str], list[list[str]], DataReport]:
    """Texts of the samples, their trained runs, and the report."""
    report, source = DataReport(), SourceReport(files=[FileReport("a", num_rows=1)])
    maker = ChatSamples(DataSettings(**changes), tokenizer, report)
    row = Row(kind="conversation", messages=tuple(messages), text=None, file="a", line=1, where="line")
    made = list(maker.samples(row, source))
    runs = []
    for sample in made:
        assert (len(sample.input_ids), sample.labels[0]) == (len(sample.labels), IGNORE)
        found: list[list[int]] = [[]]
        for token, label in zip(sample.input_ids, sample.labels, strict=True):
            assert label in (IGNORE, token)
            found[-1].append(token) if label != IGNORE else found.append([])
        runs.append([tokenizer.decode(run) for run in found if run])
    return [tokenizer.decode(sample.input_ids) for sample in made], runs, report


def text_of(messages: list[dict], tokenizer: Any) -> str:
    return tokenizer.decode(tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False))


def length_of(messages: list[dict], tokenizer: Any) -> int:
    return len(tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False))


def part(*numbers: int) -> list[dict]:
    """The system turn and some exchanges of CHAT, counted from 1."""
    return [SYSTEM, *(message for number in numbers for message in CHAT[2 * number - 1 : 2 * number + 1])]


def end(*names: str) -> list[str]:
    return [f"{name}<|im_end|>" for name in names]


# mode -> parts that are rendered when two exchanges fit, what is trained in each, replies that are left out
EXPECTED: dict[str, tuple[list[list[int]], list[list[str]], int]] = {
    "drop": ([], [], 0),
    "cut front": ([[2, 3]], [end("Rb2r", "Rc3r")], 1),
    "cut end": ([[1, 2]], [end("Ra1r", "Rb2r")], 1),
    "windows": ([[1, 2], [3]], [end("Ra1r", "Rb2r"), end("Rc3r")], 0),
}


@pytest.mark.parametrize("mode", EXPECTED)
def test_two_of_three_exchanges_fit(mode: str) -> None:
    tokenizer = tokenizer_for(tiny.CHATML)
    parts, trained, num_lost = EXPECTED[mode]
    texts, runs, report = samples_of(CHAT, tokenizer, cutoff=length_of(part(1, 2), tokenizer), too_long=mode)
    assert texts == [text_of(part(*numbers), tokenizer) for numbers in parts]
    assert runs == trained
    assert (report.num_too_long, report.num_cut, report.num_cut_replies) == (int(not parts), int(bool(parts)), num_lost)
    assert report.too_long == ([] if parts else [{"file": "a", "line": 1, "tokens": length_of(CHAT, tokenizer)}])


def test_a_reply_is_cut_only_on_the_users_word() -> None:
    tokenizer = tokenizer_for(tiny.CHATML)
    whole = text_of(CHAT, tokenizer)
    texts, runs, report = samples_of(CHAT, tokenizer, cutoff=length_of(part(1, 2), tokenizer) - 4, too_long="cut reply")
    assert whole.startswith(texts[0])
    assert runs == [["Ra1r<|im_end|>", "Rb"]]
    assert (report.num_cut, report.num_too_long) == (1, 0)


@pytest.mark.parametrize("mode", sorted(set(TOO_LONG) - {"cut reply"}))
def test_an_exchange_that_is_too_long_alone_is_left_out(mode: str) -> None:
    tokenizer = tokenizer_for(tiny.CHATML)
    messages = [SYSTEM, user("Qa1q"), reply("Ra1r"), user("Qb2q " * 40), reply("Rb2r"), user("Qc3q"), reply("Rc3r")]
    texts, runs, report = samples_of(messages, tokenizer, cutoff=64, too_long=mode)
    one = [end("Ra1r")], [end("Rc3r")], [end("Ra1r"), end("Rc3r")]
    assert runs == {"drop": [], "cut front": one[1], "cut end": one[0], "windows": one[2]}[mode]
    assert report.num_cut_replies == {"drop": 0, "cut front": 2, "cut end": 2, "windows": 1}[mode]
    only = [SYSTEM, user("Qb2q " * 40), reply("Rb2r")]
    texts, runs, report = samples_of(only, tokenizer, cutoff=64, too_long=mode)
    assert (texts, report.num_too_long, report.num_cut) == ([], 1, 0)


def test_replies_that_are_samples_of_their_own_are_cut_each() -> None:
    """The route split: every reply comes with as much of what was said before as fits."""
    tokenizer = tokenizer_for(OWN["qwen 3"])
    cutoff = length_of(part(1, 2), tokenizer)
    for mode in ("cut front", "windows"):
        texts, runs, report = samples_of(CHAT, tokenizer, cutoff=cutoff, too_long=mode)
        assert texts == [text_of(messages, tokenizer) for messages in (part(1), part(1, 2), part(2, 3))]
        assert ["".join(run)[-14:] for run in runs] == end("Ra1r", "Rb2r", "Rc3r")
        assert (report.routes, report.num_cut, report.num_cut_replies) == ({"split": 3}, 1, 0)
    texts, _, report = samples_of(CHAT, tokenizer, cutoff=cutoff, too_long="cut end")
    assert texts == [text_of(messages, tokenizer) for messages in (part(1), part(1, 2))]
    assert report.num_cut_replies == 1


def test_the_last_reply_is_the_conversations_last_not_the_windows() -> None:
    tokenizer = tokenizer_for(tiny.CHATML)
    cutoff = length_of(part(1, 2), tokenizer)
    for mode, expected in {"cut front": [end("Rc3r")], "windows": [end("Rc3r")], "cut end": []}.items():
        _, runs, report = samples_of(CHAT, tokenizer, cutoff=cutoff, too_long=mode, train_on="last reply")
        assert runs == expected, mode
        assert report.num_too_long == int(not expected)


def test_everything_in_windows() -> None:
    tokenizer = tokenizer_for(tiny.CHATML)
    texts, _, _ = samples_of(CHAT, tokenizer, cutoff=length_of(part(1, 2), tokenizer), too_long="windows", train_on="everything")
    assert texts == [text_of(part(1, 2), tokenizer), text_of([*part(3), user("Qd4q")], tokenizer)]


def test_what_is_an_exchange() -> None:
    tool = {"role": "tool", "content": "Oa1o"}
    assert exchanges([SYSTEM, SYSTEM, reply("a"), user("b"), reply("c"), tool, reply("d"), user("e")]) == (
        2,
        [(2, 3), (3, 7), (7, 8)],
    )
    assert exchanges([SYSTEM]) == (1, [])
    assert exchanges([]) == (0, [])


def test_a_wrong_guess_of_the_place_is_mended() -> None:
    """Lengths in characters say little where a template leaves most of a message out."""

    def make(messages: list[dict], wanted: list[int]) -> list[tuple[int, int]]:
        return [(len(messages), sum(message["cost"] for message in messages))]

    costs = [9, 1, 1, 1, 9, 1]
    messages = [{"role": "user", "cost": cost, "content": "x" * (100 if cost == 1 else 1)} for cost in costs]
    cut = {
        mode: shorten(messages, range(6), make, mode=mode, cutoff=12, length=22) for mode in ("cut front", "cut end", "windows")
    }
    assert cut["cut front"].kept == {2, 3, 4, 5}
    assert cut["cut end"].kept == {0, 1, 2, 3}
    assert (cut["windows"].samples, cut["windows"].kept) == ([4, 2], set(range(6)))


words = st.text("ab \n", min_size=1, max_size=30).filter(str.strip)
turns = st.lists(st.tuples(words, words), min_size=1, max_size=6)


@settings(max_examples=60)
@given(turns, st.sampled_from(["chatml", "llama 2", "qwen 3", "phi 3"]), st.sampled_from(sorted(EXPECTED)), st.integers(20, 150))
def test_nothing_is_over_the_cutoff_and_nothing_twice(pairs: list[tuple[str, str]], name: str, mode: str, cutoff: int) -> None:
    tokenizer = tokenizer_for(OWN[name])
    messages = [{**SYSTEM}]
    for number, (question, answer) in enumerate(pairs):
        messages += [user(f"Q{number}q {question}"), reply(f"R{number}r {answer}")]
    texts, runs, report = samples_of(messages, tokenizer, cutoff=cutoff, too_long=mode)
    trained = " ".join("".join(run) for run in runs)
    found = [number for number in range(len(pairs)) if f"R{number}r" in trained]
    assert all(len(tokenizer(text, add_special_tokens=False)["input_ids"]) <= cutoff for text in texts)
    assert all("Sx0s" in text for text in texts)
    assert all(trained.count(f"R{number}r") == 1 for number in found)
    assert not [number for number in range(len(pairs)) if f"Q{number}q" in trained]
    lost = len(pairs) - len(found)
    assert lost == (report.num_cut_replies if texts else len(pairs) * report.num_too_long)
    if mode == "windows":  # what is missing does not fit alone
        alone = [length_of([SYSTEM, *messages[2 * number + 1 : 2 * number + 3]], tokenizer) for number in range(len(pairs))]
        assert [number for number, length in enumerate(alone) if length <= cutoff] == found
