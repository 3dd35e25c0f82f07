"""Which tokenizers' tokens may be joined, and where words certainly begin and end."""

from __future__ import annotations

import pytest
from tokenizers import AddedToken, Regex, normalizers, pre_tokenizers
from trained_tokenizers import JOINED, LLAMA_3, TOKENIZERS, byte_level, encode, split
from training_pro.slicing.grammar import Grammar, SpacedGrammar, find_grammar

GPT_4O = "|".join(
    [
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ]
)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_families(name):
    if not TOKENIZERS[name].is_fast:
        return
    grammar = find_grammar(TOKENIZERS[name])
    expected = {"gpt2": Grammar, "smollm": Grammar, "llama3": SpacedGrammar, "qwen": SpacedGrammar}.get(name)
    assert (name in JOINED) == (expected is not None)
    assert (type(grammar) is expected) if expected else grammar is None


@pytest.mark.parametrize(
    ("steps", "known"),
    [
        ([split(GPT_4O)], True),
        ([split(LLAMA_3, behavior="removed", invert=True)], True),
        ([split(LLAMA_3, behavior="merged_with_next")], False),
        ([split(LLAMA_3.replace(r"\p{L}+|", r"\p{L}+ ?|"))], False),
        ([split(LLAMA_3), split("e")], False),
        ([split(LLAMA_3.removesuffix(r"|\s+"))], False),
        ([pre_tokenizers.Whitespace()], False),
    ],
)
def test_expressions(steps, known):
    assert (find_grammar(byte_level(*steps, use_regex=False)) is not None) == known


def test_steps_that_change_the_text_are_unknown():
    assert find_grammar(byte_level(normalizer=normalizers.NFC())) is not None
    assert find_grammar(byte_level(normalizer=normalizers.NFKC())) is None
    assert find_grammar(byte_level(normalizer=normalizers.Replace(Regex(" +"), " "))) is None


@pytest.mark.parametrize("added", [AddedToken("<x>", lstrip=True), AddedToken("<a b>"), AddedToken("end", single_word=True)])
def test_added_tokens_that_reach_over_borders_are_unknown(added):
    tokenizer = byte_level()
    assert find_grammar(tokenizer) is not None
    tokenizer.add_tokens([added])
    assert find_grammar(tokenizer) is None


@pytest.mark.parametrize("name", sorted(JOINED))
@pytest.mark.parametrize(
    "text",
    ["One.\n\nTwo, 345 it's.\tThree… 灯塔。海边！「好。」次 </s>x\u3000y /z\n/w é.e\u0301 \x1c ½", "a  b\r\n\r\nc 'tis'stop"],
)
def test_certain_borders_part_no_token(name, text):
    """The oracle: tokens of both sides alone are those of the whole."""
    tokenizer = TOKENIZERS[name]
    grammar = find_grammar(tokenizer)
    found = 0
    for at in range(1, len(text)):
        sides = encode(tokenizer, text[:at]) + encode(tokenizer, text[at:])
        if not text[at].isspace() and grammar.begins(text, at):
            assert sides == encode(tokenizer, text), (text[:at], text[at:])
            found += 1
        if not text[at - 1].isspace() and grammar.ends(text, at):
            assert sides == encode(tokenizer, text), (text[:at], text[at:])
            found += 1
    assert found > 2


def test_no_border_inside_an_added_token():
    grammar = Grammar(frozenset({("|", "i")}))
    assert not grammar.ends("<|im|>", 2)
    assert Grammar(frozenset()).ends("<|im|>", 2)
