"""Names of adapters: what would break a folder, peft or the WebUI's list is refused, with a name that works."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_pro.config.checks import name_problem


@pytest.mark.parametrize("name", ["my-lora", "a", "Veltmor_2", "my lora", "größe", "灯台", "x" * 120, "console", "txt", "np"])
def test_good_names(name: str) -> None:
    assert name_problem(name) is None


@pytest.mark.parametrize(
    ("name", "message", "remedy"),
    [
        ("", "A name is needed.", "Write a name such as my-lora."),
        ("  ", "A name is needed.", "Write a name such as my-lora."),
        (" a", "It begins or ends with a space.", "Write 'a'."),
        ("a\n", "It begins or ends with a space.", "Write 'a'."),
        ("lora.v2", "A name with a dot cannot be loaded by the WebUI.", "Write 'lora-v2'."),
        ("..", "A name with a dot", ""),
        ("../up", "A name with a dot", ""),
        (".hidden", "A name with a dot", "Write 'hidden'."),
        ("a.txt", "A name with a dot", "Write 'a-txt'."),
        ("a/b", "A name must not contain parts of a path", "Use letters, digits, '-' and '_'."),
        ("a\\b", "A name must not contain parts of a path", ""),
        ("/etc", "A name must not contain parts of a path", ""),
        ("C:", "A name must not contain parts of a path", ""),
        *((f"a{sign}b", "A name must not contain", "") for sign in '*?"<>|\t\0'),
        ("con", "That name is reserved.", "Choose another name."),
        ("LPT1", "That name is reserved.", ""),
        ("None", "That name is reserved.", ""),
        ("old-np", "The WebUI hides names that end in .txt, -np, .pt, .json.", "Choose another ending."),
        ("x" * 121, "The name is too long for a folder.", "Use at most 120 characters."),
    ],
)
def test_names_that_are_refused(name: str, message: str, remedy: str) -> None:
    problem = name_problem(name)
    assert problem is not None
    assert problem[0].startswith(message)
    assert problem[1].startswith(remedy)
    assert problem[1]


@given(st.text(max_size=10))
def test_a_name_that_passes_is_one_part_of_a_path(name: str) -> None:
    if name_problem(name) is None:
        assert not set(name) & set('./\\:*?"<>|\0')
        assert name.strip() == name != ""
