"""Chat templates and conversations for tests: written here in the manner of well-known models, and TRL's where it is installed."""

from __future__ import annotations

import copy
import importlib.util
import re
from pathlib import Path
from typing import Any

import tiny

ALTERNATE = (
    "{% for m in turns %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% endfor %}"
)
SYSTEM_APART = (
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set turns = messages[1:] %}"
    "{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
)
LLAMA_2 = (
    SYSTEM_APART + ALTERNATE + "{% for m in turns %}{% if m.role == 'user' %}"
    "{{ bos_token + '[INST] ' + ('<<SYS>>\n' + system + '\n<</SYS>>\n\n' if loop.first and system else '') + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}"
)
LLAMA_3 = (
    "{% set turns = messages %}{% for m in turns %}"
    "{% set content = '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}" + ALTERNATE.replace("turns", "messages") + "{% for m in messages %}{% if m.role == 'user' %}"
    "{{ '[INST] ' + m.content + ' [/INST]' }}{% else %}{{ m.content + eos_token }}{% endif %}{% endfor %}"
)
# the system turn stands before the last question, so that it wanders
MISTRAL_SYSTEM = (
    "{{ bos_token }}" + SYSTEM_APART + ALTERNATE + "{% for m in turns %}{% if m.role == 'user' %}"
    "{{ '[INST] ' + (system + '\n\n' if loop.last or turns[loop.index0 + 1:] | length < 2 and system else '') + m.content + '[/INST]' }}"
    "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    + ALTERNATE.replace("turns", "messages")
    + "{% for m in messages %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + m.content | trim"
    " + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
# earlier thoughts are dropped, the last reply gets an empty thought if it has none
QWEN_3 = (
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}"
    "{% endfor %}{% for m in messages %}{% if m.role == 'assistant' %}{% set words = m.content %}{% set thought = '' %}"
    "{% if m.reasoning_content is string %}{% set thought = m.reasoning_content %}{% elif '</think>' in words %}"
    "{% set thought = words.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set words = words.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{{ '<|im_start|>assistant\n' }}{% if loop.index0 > ns.last and (loop.last or thought) %}"
    "{{ '<think>\n' + thought + '\n</think>\n\n' }}{% endif %}{{ words }}{% for call in m.tool_calls or [] %}"
    "{{ '\n<tool_call>\n' + call.function | tojson + '\n</tool_call>' }}{% endfor %}{{ '<|im_end|>\n' }}"
    "{% elif m.role == 'tool' %}{{ '<|im_start|>user\n<tool_response>\n' + m.content + '\n</tool_response><|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# a reply begins with a thought at inference; past replies show none
R1 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}"
    "{{ '<｜Assistant｜>' + m.content.split('</think>')[-1] + '<｜end▁of▁sentence｜>' }}{% elif m.role == 'user' %}"
    "{{ '<｜User｜>' + m.content }}{% else %}{{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\n' }}{% endif %}"
)
# the EOS token closes the whole text, not the reply
PHI_3 = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
PHI_4 = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '<|im_sep|>' + m.content + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"
)
COMMAND_R = (
    "{{ bos_token }}{% for m in messages %}{{ '<|START_OF_TURN_TOKEN|>' }}{{ {'user': '<|USER_TOKEN|>', 'assistant':"
    " '<|CHATBOT_TOKEN|>'}.get(m.role, '<|SYSTEM_TOKEN|>') }}{{ m.content.strip() + '<|END_OF_TURN_TOKEN|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %}"
)
# tool calls and tool definitions are written; text may come in parts
TOOL_CALLS = (
    "{% macro text(m) %}{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}{{ part.text }}{% endfor %}"
    "{% endif %}{% endmacro %}"
    "{% if tools %}{{ '<|im_start|>system\nTools: ' + tools | tojson + '<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{{ text(m) }}{% for call in m.tool_calls or [] %}"
    "{{ '<tool_call>' + (call.function | tojson) + '</tool_call>' }}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# plain text is left out without a word, as templates of models with pictures do
PARTS_ONLY = (
    "{% for m in messages %}{{ m.role | capitalize + ': ' }}{% for part in m.content %}{{ part.text }}{% endfor %}"
    "{{ '<end_of_utterance>\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
# marks that leave the end token out, and a reply in two blocks
MARKS_WITHOUT_END = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}{% endgeneration %}{{ '<|im_end|>\n' }}{% else %}{{ m.content + '<|im_end|>\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# inside a macro transformers counts the characters of a mark wrongly
MARKS_IN_MACRO = (
    "{% macro turn(m) %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{{ '\n' }}"
    "{% endmacro %}{% for m in messages %}{{ turn(m) }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

OWN: dict[str, str] = {
    **{"chatml": tiny.CHATML, "llama 2": LLAMA_2, "llama 3": LLAMA_3, "mistral": MISTRAL, "mistral system": MISTRAL_SYSTEM},
    **{"gemma": GEMMA, "qwen 3": QWEN_3, "r1": R1, "phi 3": PHI_3, "phi 4": PHI_4, "command r": COMMAND_R},
    **{
        "tool calls": TOOL_CALLS,
        "parts only": PARTS_ONLY,
        "marks without end": MARKS_WITHOUT_END,
        "marks in macro": MARKS_IN_MACRO,
    },
}
_CONTROL = re.compile(
    r"<\|[A-Za-z0-9_]+\|>|<｜[^｜<>]+｜>|<(?:start|end)_of_[a-z]+>|<\|[a-z_]+>|<[a-z_]+\|>|\[/?INST\]|</?s>|\[e~\["
)
_PIECED = ("system", "user", "assistant", "tool", "end")


def trl_templates() -> dict[str, str]:
    """Every chat template that the installed TRL ships; none where it is not installed."""
    found = importlib.util.find_spec("trl")
    if found is None or found.origin is None:
        return {}
    files = sorted((Path(found.origin).parent / "chat_templates").glob("*.jinja"))
    return {path.stem: path.read_text(encoding="utf-8") for path in files}


def tokenizer_for(template: str) -> Any:
    """The tiny tokenizer with a template and its control tokens."""
    tokenizer = copy.deepcopy(tiny.tokenizer())
    tokens = set(_CONTROL.findall(template)) | ({f"<|{role}|>" for role in _PIECED} if "'<|' +" in template else set())
    tokenizer.add_tokens(sorted(tokens), special_tokens=True)
    tokenizer.chat_template = template
    return tokenizer


def user(content: Any) -> dict[str, Any]:
    """A user's turn."""
    return {"role": "user", "content": content}


def reply(content: Any, **more: Any) -> dict[str, Any]:
    """An assistant's turn."""
    return {"role": "assistant", "content": content, **more}


def call(name: str, **arguments: Any) -> dict[str, Any]:
    """A tool call as templates get it."""
    return {"type": "function", "id": "abc123def", "function": {"name": name, "arguments": arguments}}


def result(content: str, name: str = "Fa1f") -> dict[str, Any]:
    """What a tool answered."""
    return {"role": "tool", "content": content, "name": name, "tool_call_id": "abc123def"}


def parts(text: str) -> list[dict[str, str]]:
    """A text in parts."""
    return [{"type": "text", "text": text}]


SYSTEM = {"role": "system", "content": "Sx0s"}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "Fa1f",
            "description": "Dx1d",
            "parameters": {"type": "object", "properties": {"x": {"type": "string"}}},
        },
    }
]
# every sentinel stands once; those of replies begin with R or F, thoughts with T
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "plain": [user("Qa1q"), reply("Ra1r"), user("Qb2q"), reply("Rb2r")],
    "ends with a question": [user("Qa1q"), reply("Ra1r"), user("Qb2q")],
    "system": [SYSTEM, user("Qa1q"), reply("Ra1r"), user("Qb2q"), reply("Rb2r"), user("Qc3q"), reply("Rc3r")],
    "many lines": [user("Qa1q\n\nQb2q "), reply("Ra1r\n\n- Rb2r\n"), user(" \nQc3q"), reply(" Rc3r\n ")],
    "thoughts": [user("Qa1q"), reply("Ra1r", reasoning_content="Ta1t"), user("Qb2q"), reply("Rb2r", reasoning_content="Tb2t")],
    "thoughts inside": [
        *(user("Qa1q"), reply("<think>\nTa1t\n</think>\n\nRa1r"), user("Qb2q"), reply("<think>\nTb2t\n</think>\n\nRb2r")),
    ],
    "tool": [SYSTEM, user("Qa1q"), reply("", tool_calls=[call("Fa1f", x="Ax1a")]), result("Oa1o"), reply("Ra1r")],
    "tools twice": [
        *(user("Qa1q"), reply("Ra1r", tool_calls=[call("Fa1f", x="Ax1a")]), result("Oa1o"), reply("Rb2r"), user("Qb2q")),
        *(reply("", tool_calls=[call("Fb2f", x="Ax2a")]), result("Ob2o", "Fb2f"), reply("Rc3r")),
    ],
    "reply first": [reply("Ra1r"), user("Qa1q"), reply("Rb2r")],
    "replies in a row": [user("Qa1q"), reply("Ra1r"), reply("Rb2r"), user("Qb2q"), reply("Rc3r")],
    "empty reply": [user("Qa1q"), reply(""), user("Qb2q"), reply("Rb2r")],
    "parts": [user(parts("Qa1q")), reply(parts("Ra1r")), user(parts("Qb2q")), reply(parts("Rb2r"))],
}
SENTINEL = re.compile(r"[QRSTOFAD][a-cx]\d[qrstofad]")
