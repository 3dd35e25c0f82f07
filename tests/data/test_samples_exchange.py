"""Exchanges as samples: every run of them equals the template's own rendering and trains the replies of the run, for every template."""

from typing import Any

import numpy as np
import pytest
from chat_cases import CONVERSATIONS, OWN, SENTINEL, SYSTEM, TOOLS, reply, tokenizer_for, trl_templates, user
from training_pro.config import DataSettings
from training_pro.data.chat import IGNORE
from training_pro.data.chat.words import as_parts, as_strings
from training_pro.data.exchanges.joins import Stored, in_context, join
from training_pro.data.exchanges.runs import Shape
from training_pro.data.report import DataReport
from training_pro.data.sample import ALONE, ANEW, APPEND, PRECEDE, Sample
from training_pro.data.samples.exchange import KEPT_WHOLE, NUM_BEHIND, NUM_CONTEXT, RENDERED_ANEW, ExchangeSamples
from training_pro.data.sources import Row
from training_pro.data.sources.report import FileReport, SourceReport
from training_pro.train_utils import CHAT_TEMPLATES, read_chat_template

TEMPLATES = {
    **OWN,
    **{f"trl {name}": source for name, source in trl_templates().items()},
    **{f"ours {name}": read_chat_template(name) for name in CHAT_TEMPLATES},
}
# five exchanges
LONG = [SYSTEM, *(turn for n in range(1, 6) for turn in (user(f"Qa{n}q is it"), reply(f"Ra{n}r it is\n\n- Rb{n}r")))]
THOUGHTS = [*(turn for n in range(1, 5) for turn in (user(f"Qa{n}q"), reply(f"<think>\nTa{n}t\n</think>\n\nRa{n}r")))]
CASES = {**CONVERSATIONS, "long": LONG, "long without system": LONG[1:], "long thoughts": THOUGHTS}
# numbers its turns, so that no two runs have the same pieces
NUMBERED = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + ' ' + loop.index | string + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant ' + (messages | length + 1) | string + '\n' }}{% endif %}"
)
# no end token anywhere: neighbours' words may merge
BARE = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"


def row(messages: list[dict], tools: Any = None) -> Row:
    return Row(kind="conversation", messages=tuple(messages), text=None, file="a", line=1, where="line", tools=tools)


def made_of(messages: list[dict], tokenizer: Any, **changes: Any) -> tuple[list[Sample], DataReport, SourceReport]:
    report, source = DataReport(), SourceReport(files=[FileReport("a", num_rows=1)])
    tools = tuple(TOOLS) if any("tool_calls" in message for message in messages) else None
    settings = DataSettings(**{"cutoff": 2048, "entry": "exchange", **changes})
    (samples,) = ExchangeSamples(settings, tokenizer, report).samples_many([row(messages, tools)], source)
    return samples, report, source


def stored(sample: Sample) -> Stored:
    return Stored(np.asarray(sample.input_ids), np.asarray(sample.labels), sample.joint)


def own_ids(messages: list[dict], tokenizer: Any) -> list[list[int]]:
    """What the tokenizer itself makes of a conversation, in each spelling that the template takes."""
    tools = TOOLS if any("tool_calls" in message for message in messages) else None
    found = []
    for spelled in (messages, as_strings(messages), as_parts(messages)):
        if spelled is not None:
            try:
                found.append(list(tokenizer.apply_chat_template(spelled, tools=tools, tokenize=True, return_dict=False)))
            except Exception:  # refused in this spelling
                continue
    return found


def exchanges_of(messages: list[dict]) -> tuple[list[dict], list[list[dict]]]:
    """System turns, and the exchanges: written again, so that the two may differ."""
    head = [message for message in messages[:1] if message["role"] == "system"]
    parts: list[list[dict]] = []
    for message in messages[len(head) :]:
        if not parts or (message["role"] == "user" and any(turn["role"] == "user" for turn in parts[-1])):
            parts.append([])
        parts[-1].append(message)
    return head, [part for part in parts if any(turn["role"] == "assistant" for turn in part)]


def sentinels(text: str, kinds: str) -> set[str]:
    return {found for found in SENTINEL.findall(text) if found[0] in kinds}


def check(ids: np.ndarray, labels: np.ndarray, shown: list[list[dict]], trained: list[list[dict]], tokenizer: Any) -> None:
    """Ids are the tokenizer's own; the replies that are shown are trained if they should be, and nothing else is."""
    messages = [message for part in shown for message in part]
    assert ids.tolist() in own_ids(messages, tokenizer)
    assert ((labels == IGNORE) | (labels == ids)).all()
    assert labels[0] == IGNORE
    text = tokenizer.decode(ids.tolist())
    learned = tokenizer.decode(labels[labels != IGNORE].tolist())
    assert not sentinels(learned, "QSOD")
    wanted = sentinels(str([turn for part in trained for turn in part if turn["role"] == "assistant"]), "R")
    assert sentinels(learned, "R") == wanted & sentinels(text, "R")
    assert not wanted & sentinels(text, "R") or (labels != IGNORE).any()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", [*TEMPLATES, "numbered", "bare"])
def test_every_run_is_the_templates_own_rendering(name: str, case: str) -> None:
    source = {"numbered": NUMBERED, "bare": BARE}.get(name) or TEMPLATES[name]
    tokenizer, messages = tokenizer_for(source), CASES[case]
    samples, report, broken = made_of(messages, tokenizer)
    if not samples:
        assert broken.num_broken
        return
    head, parts = exchanges_of(messages)
    if len(parts) == 1 or report.reasons.get(KEPT_WHOLE):
        assert all(sample.joint.way == ALONE for sample in samples)
        return
    rows = [stored(sample) for sample in samples]
    if rows[0].joint.context:
        check_contexts(samples, head, parts, tokenizer)
        return
    assert len(samples) == len(parts)
    num_joined = 0
    for first in range(len(parts)):
        assert samples[first].joint.most == len(parts) - first  # everything fits
        for last in range(first, len(parts)):
            run = parts[first : last + 1]
            check(*join(rows[first : last + 1]), [head, *run], run, tokenizer)
            num_joined += last > first
    assert num_joined
    with pytest.raises(ValueError, match="entries cannot be the context of each other"):
        in_context(rows[:1], rows[1])


def check_contexts(samples: list[Sample], head: list[dict], parts: list[list[dict]], tokenizer: Any) -> None:
    """Each reply alone and behind every number of samples before it."""
    rows = [stored(sample) for sample in samples]
    if len(samples) == len(parts):
        own = [part[: max(place for place, turn in enumerate(part) if turn["role"] == "assistant") + 1] for part in parts]
        before = list(range(len(parts)))
    else:  # one sample for each reply
        replies = [
            (number, end) for number, part in enumerate(parts) for end, turn in enumerate(part) if turn["role"] == "assistant"
        ]
        own = [parts[number][: end + 1] for number, end in replies][: len(samples)]
        before = [number for number, _ in replies]
        if len(replies) != len(samples):
            return  # replies that cannot be found: covered by the routes' own tests
    for last, sample in enumerate(samples):
        assert sample.joint.most <= last
        for first in range(last - sample.joint.most, last + 1):
            shown = [head, *parts[before[first] : before[last]], own[last]]
            ids, labels = in_context(rows[first:last], rows[last])
            several = [turn for turn in own[last] if turn["role"] == "assistant"]
            trained = [own[last]] if len(samples) == len(parts) and len(several) == 1 else [several[-1:]]
            if len(several) > 1 and len(samples) == len(parts):
                trained = [own[last]]
            check(ids, labels, shown, trained, tokenizer)
    with pytest.raises(ValueError, match="2 entries cannot be one sample"):
        join(rows[:2])


@pytest.mark.parametrize(
    ("name", "case", "way", "context", "is_apart"),
    [
        ("chatml", "long", APPEND, False, False),
        ("llama 3", "long", APPEND, False, False),
        ("llama 3", "long without system", APPEND, False, False),
        ("command r", "long", APPEND, False, False),
        ("gemma", "long without system", APPEND, False, False),
        ("mistral", "long without system", APPEND, False, False),
        ("phi 3", "long", APPEND, False, False),
        ("phi 4", "long", APPEND, False, False),
        ("tool calls", "tools twice", APPEND, False, False),
        ("llama 2", "long", APPEND, False, True),
        ("ours llama2", "long", APPEND, False, True),
        ("ours mistral", "long", APPEND, False, True),
        ("ours plain", "long", APPEND, False, True),
        ("ours vicuna", "long", APPEND, False, True),
        ("ours alpaca", "long", APPEND, False, True),
        ("mistral system", "long", PRECEDE, True, True),
        ("qwen 3", "long", PRECEDE, True, True),
        ("qwen 3", "long thoughts", PRECEDE, True, True),
        ("r1", "long thoughts", PRECEDE, True, True),
        ("parts only", "long", APPEND, False, False),
    ],
)
def test_how_common_templates_are_joined(name: str, case: str, way: int, context: bool, is_apart: bool) -> None:
    samples, report, _ = made_of(CASES[case], tokenizer_for(TEMPLATES[name]))
    assert {(sample.joint.way, sample.joint.context) for sample in samples} == {(way, context)}
    assert any(sample.joint.more for sample in samples) == is_apart
    assert (RENDERED_ANEW in report.reasons) == (way == ANEW)
    if context:
        assert [sample.joint.most for sample in samples] == list(range(len(samples)))


@pytest.mark.parametrize("source", [NUMBERED, BARE])
def test_what_cannot_be_put_together_is_rendered_anew(source: str) -> None:
    samples, report, _ = made_of(LONG, tokenizer_for(source))
    assert {sample.joint.way for sample in samples} == {ANEW}
    assert report.reasons[RENDERED_ANEW] == 1
    assert [sample.joint.most for sample in samples] == [5, 4, 3, 2, 1]


def test_a_template_that_looks_back_is_not_put_together() -> None:
    """Renders alone and in pairs as if it were simple; only runs of three show that it is not."""
    source = OWN["chatml"].replace("{{ '<|im_start|>'", "{{ ('!' if loop.index0 > 4 else '') + '<|im_start|>'")
    assert source != OWN["chatml"]
    samples, _, _ = made_of(LONG[1:], tokenizer_for(source))
    assert {sample.joint.way for sample in samples} == {ANEW}


@pytest.mark.parametrize("condition", ["loop.index0 > 4", "messages | length == 4 and 'Qa1q' in messages[0].content"])
def test_context_that_depends_on_the_run_is_not_put_together(condition: str) -> None:
    source = OWN["qwen 3"].replace("{{ '<|im_start|>' + m.role", f"{{{{ ('!' if {condition} else '') + '<|im_start|>' + m.role")
    assert source != OWN["qwen 3"]
    samples, _, _ = made_of(LONG[1:], tokenizer_for(source))
    assert {(sample.joint.way, sample.joint.context) for sample in samples} == {(ANEW, True)}
    assert [sample.joint.most for sample in samples] == [0, 1, 2, 3, 4]


def test_a_rendering_that_ends_elsewhere_proves_nothing() -> None:
    class Fake:
        def text(self, first: int, last: int) -> str:
            return "abc"

        def ends(self, first: int, last: int) -> list[int]:
            return [1, 3]

    shape = Shape(APPEND, "abc", "", "", [(0, 2), (2, 3)], [])
    runs: Any = Fake()
    assert not shape.proved(runs, 0, 1)
    assert Shape(APPEND, "abc", "", "", [(0, 1), (1, 3)], []).proved(runs, 0, 1)


def test_long_runs_of_templates_that_look_ahead_are_not_joined_farther_than_they_are_proved() -> None:
    messages = [turn for n in range(20) for turn in (user(f"where {n}"), reply(f"here {n}"))]
    proved, _, _ = made_of(messages, tokenizer_for(OWN["chatml"]))
    assert [sample.joint.most for sample in proved] == list(range(20, 0, -1))
    rendered, _, _ = made_of(messages, tokenizer_for(OWN["phi 3"]))
    assert [sample.joint.most for sample in rendered] == [min(16, 20 - n) for n in range(20)]
    context, _, _ = made_of(messages, tokenizer_for(OWN["qwen 3"]))
    assert [sample.joint.most for sample in context] == [min(15, n) for n in range(20)]


def test_a_slow_tokenizer_has_no_cuts() -> None:
    from trained_tokenizers import WordsAndLetters

    tokenizer = WordsAndLetters()
    tokenizer.chat_template = OWN["chatml"]
    samples, _, _ = made_of(LONG, tokenizer)
    assert {sample.joint.way for sample in samples} == {ANEW}
    ids, _ = join([stored(sample) for sample in samples[1:3]])
    assert ids.tolist() in own_ids([SYSTEM, *LONG[3:7]], tokenizer)


# --- settings ------------------------------------------------------------------------------------------------------------------


def trained_text(sample: Sample, tokenizer: Any) -> str:
    labels = np.asarray(sample.labels)
    return tokenizer.decode(labels[labels != IGNORE].tolist())


@pytest.mark.parametrize("name", ["chatml", "llama 2", "qwen 3"])
def test_last_reply_only_keeps_its_context(name: str) -> None:
    tokenizer = tokenizer_for(OWN[name])
    samples, _, _ = made_of(LONG, tokenizer, train_on="last reply")
    (sample,) = samples
    assert list(sample.input_ids) in own_ids(LONG, tokenizer)
    assert sentinels(trained_text(sample, tokenizer), "R") == {"Ra5r", "Rb5r"}


@pytest.mark.parametrize("name", ["chatml", "llama 2", "qwen 3"])
def test_an_exchange_that_is_not_trained_stands_before_the_next(name: str) -> None:
    tokenizer = tokenizer_for(OWN[name])
    messages = [{**turn, "train": False} if "Ra2r" in turn["content"] or "Ra5r" in turn["content"] else turn for turn in LONG]
    samples, report, _ = made_of(messages, tokenizer)
    assert len(samples) == 3
    assert (report.reasons[NUM_CONTEXT], report.reasons[NUM_BEHIND]) == (1, 1)
    assert list(samples[1].input_ids) in own_ids([SYSTEM, *LONG[3:7]], tokenizer)
    assert sentinels(trained_text(samples[1], tokenizer), "R") == {"Ra3r", "Rb3r"}
    rows = [stored(sample) for sample in samples]
    ids, _ = in_context(rows[:2], rows[2]) if rows[0].joint.context else join(rows)
    assert ids.tolist() in own_ids(LONG[:9], tokenizer)


def test_everything_trains_all_but_the_first_token() -> None:
    tokenizer = tokenizer_for(OWN["llama 3"])
    samples, report, _ = made_of(LONG, tokenizer, train_on="everything")
    ids, labels = join([stored(sample) for sample in samples])
    assert ids.tolist() in own_ids(LONG, tokenizer)
    assert labels.tolist() == [IGNORE, *ids[1:].tolist()]
    assert report.routes == {"everything": 5}
    alone, _, _ = made_of(LONG[1:], tokenizer_for(OWN["chatml"]), train_on="everything")
    assert [sample.labels.tolist() for sample in alone] == [[IGNORE, *sample.input_ids[1:].tolist()] for sample in alone]


@pytest.mark.parametrize("name", ["chatml", "llama 2", "ours plain"])
def test_train_only_after_counts_in_each_sample(name: str) -> None:
    tokenizer = tokenizer_for(TEMPLATES[name])
    samples, report, _ = made_of(LONG, tokenizer, train_after="it is\\n\\n- Rb2")
    assert report.num_without_marker == 4
    learned = [sentinels(trained_text(sample, tokenizer), "R") for sample in samples]
    assert learned[0] == {"Ra1r", "Rb1r"}
    assert "Ra2r" not in learned[1]
    _, labels = join([stored(sample) for sample in samples])
    assert sentinels(tokenizer.decode(labels[labels != IGNORE].tolist()), "R") == set().union(*learned)


@pytest.mark.parametrize("name", ["chatml", "llama 2", "qwen 3"])
def test_exchanges_over_the_cutoff_are_counted_and_separate_the_others(name: str) -> None:
    tokenizer = tokenizer_for(OWN[name])
    messages = [*LONG[:5], user("Qx1q"), reply("Rx1r " + "harbour " * 200), *LONG[5:]]
    whole, _, _ = made_of(messages, tokenizer)
    cutoff = max(len(sample.input_ids) for number, sample in enumerate(whole) if number != 2) + 3
    samples, report, _ = made_of(messages, tokenizer, cutoff=cutoff)
    assert [sample.place for sample in samples] == [0, 1, 3, 4, 5]
    assert report.num_too_long == 1
    assert "1 exchange longer than the cutoff left out" in " ".join(report.left_out())
    assert all(len(sample.input_ids) <= cutoff for sample in samples)
    assert all(sample.joint.most <= 1 for sample in samples)  # no two fit
    cut, report, _ = made_of(messages, tokenizer, cutoff=cutoff, too_long="cut reply")
    ways = [sample.joint.way for sample in sorted(cut, key=lambda sample: sample.place)]
    assert (len(cut), report.num_cut, ways.count(ALONE)) == (6, 1, 1)
    assert max(len(sample.input_ids) for sample in cut) == cutoff


def test_cut_front_drops_untrained_exchanges_before_a_trained_one() -> None:
    tokenizer = tokenizer_for(OWN["chatml"])
    messages = [*LONG[:3], *({**turn, "train": False} if turn["role"] == "assistant" else turn for turn in LONG[3:7]), *LONG[7:]]
    whole, _, _ = made_of(messages, tokenizer)
    assert len(whole) == 3
    cutoff = len(whole[1].input_ids) - 1
    samples, report, _ = made_of(messages, tokenizer, cutoff=cutoff, too_long="cut front")
    assert len(samples) == 3
    assert report.num_cut == 1
    (shortened,) = (sample for sample in samples if sample.joint.way == ALONE)
    assert list(shortened.input_ids) in own_ids([SYSTEM, *LONG[5:9]], tokenizer)


def test_only_runs_within_the_cutoff_are_proved() -> None:
    tokenizer = tokenizer_for(OWN["chatml"])
    whole, _, _ = made_of(LONG, tokenizer)
    two = len(join([stored(sample) for sample in whole[:2]])[0])
    samples, _, _ = made_of(LONG, tokenizer, cutoff=two)
    assert [sample.joint.most for sample in samples] == [2, 2, 2, 2, 1]


def test_an_exchange_that_cannot_stand_alone_keeps_the_conversation_whole() -> None:
    source = OWN["chatml"].replace(
        "{% for", "{% if messages[1].content == 'Qa2q is it' %}{{ raise_exception('no') }}{% endif %}{% for", 1
    )
    tokenizer = tokenizer_for(source)
    samples, report, broken = made_of(LONG, tokenizer)
    (sample,) = samples
    assert list(sample.input_ids) in own_ids(LONG, tokenizer)
    assert sample.joint.way == ALONE
    assert report.reasons[KEPT_WHOLE] == 1
    assert not broken.num_broken


def test_questions_are_those_of_the_exchange() -> None:
    samples, _, _ = made_of(LONG, tokenizer_for(OWN["chatml"]))
    assert [sample.question for sample in samples] == [f"Qa{n}q is it" for n in range(1, 6)]
    apart, _, _ = made_of(LONG, tokenizer_for(OWN["llama 2"]))
    assert [sample.question for sample in apart] == [sample.question for sample in samples]
