"""Edges of messages that one rendering proves, against rendering every beginning of the conversation."""

from typing import Any

import pytest
import tiny
from chat_cases import CONVERSATIONS, OWN, TOOLS, tokenizer_for, trl_templates
from training_pro.data.chat.rendering import Renderer, TemplateError, View

TEMPLATES = {**OWN, **{f"trl {name}": source for name, source in trl_templates().items() if "training" not in name}}
LOOP = "{% for m in messages %}BODY{% endfor %}{% if add_generation_prompt %}{{ 'A:' }}{% endif %}"
BODY = "{{ m.role + m.content }}"


def edges_of(template: str, messages: list[dict], tools: Any = None) -> Any:
    view = View(Renderer(tokenizer_for(template)), tools)
    return view.edges(messages, view.official(messages)), view


@pytest.mark.parametrize("case", CONVERSATIONS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_edges_are_what_rendering_the_beginnings_shows(name: str, case: str) -> None:
    messages = CONVERSATIONS[case]
    tools = TOOLS if "tool" in case else None
    try:
        found, view = edges_of(TEMPLATES[name], messages, tools)
    except TemplateError:
        return
    if found is None:
        return
    edges, prompt = found
    assert len(edges) == len(messages) + 1
    text = view.official(messages)
    for count in range(1, len(messages) + 1):
        assert view.official(messages[:count]) == text[: edges[count]]
        assert view.official(messages[:count], prompt=True) == text[: edges[count]] + prompt


@pytest.mark.parametrize("name", ["chatml", "llama 3", "phi 4", "command r"])
def test_common_templates_are_proved(name: str) -> None:
    assert edges_of(OWN[name], CONVERSATIONS["system"])[0] is not None


@pytest.mark.parametrize(
    "template",
    [
        LOOP.replace("BODY", BODY + "{% if not loop.last %}{{ '|' }}{% endif %}"),
        LOOP.replace("BODY", BODY + "{% if loop['last'] %}{{ '|' }}{% endif %}"),
        LOOP.replace("BODY", BODY + "{{ loop.revindex }}"),
        LOOP.replace("BODY", BODY + "{% for c in [loop.last] %}{{ c }}{% endfor %}"),
        LOOP.replace("BODY", BODY + "{{ messages | length }}"),
        LOOP.replace("BODY", BODY + "{{ messages[-1].role }}"),
        LOOP.replace("BODY", BODY + "{{ messages[loop.index0 + 1].role if loop.index0 == 0 else '' }}"),
        "{{ messages[1].content }}" + LOOP.replace("BODY", BODY),
        "{% for m in messages %}{{ m.role[0] }}{% endfor %}" + LOOP.replace("BODY", BODY),
        "{% if add_generation_prompt %}{{ '!' }}{% endif %}" + LOOP.replace("BODY", BODY),
        LOOP.replace("messages", "messages[::-1]").replace("BODY", BODY),
        LOOP.replace("BODY", BODY + "{% if loop.index0 == 1 %}{% break %}{% endif %}"),
        "{% set ns = namespace(n=0) %}" + LOOP.replace("BODY", BODY + "{% set ns.n = ns.n + 1 %}").replace("'A:'", "ns.n"),
        LOOP.replace("BODY", BODY).replace("'A:'", "messages[0].role"),
        LOOP.replace("BODY", BODY) + "{{ '<end>' }}",
        "{% if messages[0].role == 'system' %}" + LOOP.replace("BODY", BODY) + "{% endif %}",
    ],
)
def test_templates_that_look_ahead_are_not_taken_for_proved(template: str) -> None:
    assert edges_of(template, CONVERSATIONS["system"])[0] is None


def test_loops_inside_may_ask_what_comes_next() -> None:
    inner = "{% for c in m.content %}{{ c }}{% if loop.last %}{{ '|' }}{% endif %}{% endfor %}"
    found, _ = edges_of(LOOP.replace("BODY", inner + "{{ loop.index0 }}"), CONVERSATIONS["system"])
    assert found is not None
    assert found[1] == "A:"


def test_a_tokenizer_that_renders_in_its_own_way_is_not_watched() -> None:
    class Own:
        def __init__(self, fast: Any) -> None:
            self._fast = fast

        def apply_chat_template(self, messages: list[dict], **options: Any) -> str:
            return self._fast.apply_chat_template(messages, **options).upper()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._fast, name)

    view = View(Renderer(Own(tokenizer_for(tiny.CHATML))), None)
    messages = CONVERSATIONS["plain"]
    assert view.edges(messages, view.official(messages)) is None
    assert view.quick(messages) == view.official(messages)
    assert "QA1Q" in view.official(messages)
