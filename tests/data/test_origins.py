"""Entries of Further data sets, literally."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_pro.config import DataSettings
from training_pro.data.origins import MORE, Origin, OriginError, as_share, origins_of, parse_origin


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("recipes.jsonl", ("recipes.jsonl", 1.0, 1.0)),
        (" recipes.jsonl = 2 ", ("recipes.jsonl", 2.0, 1.0)),
        ("recipes.jsonl = 2, 50 %", ("recipes.jsonl", 2.0, 0.5)),
        ("recipes.jsonl=50%,2", ("recipes.jsonl", 2.0, 0.5)),
        ("recipes.jsonl = 0.5 %", ("recipes.jsonl", 1.0, 0.005)),
        ("my chats/a=b.jsonl", ("my chats/a=b.jsonl", 1.0, 1.0)),
        ("my chats/a=b.jsonl = 1e-1", ("my chats/a=b.jsonl", 0.1, 1.0)),
        ("a=3.jsonl", ("a=3.jsonl", 1.0, 1.0)),
        (r"C:\data\a.txt = 3", (r"C:\data\a.txt", 3.0, 1.0)),
    ],
)
def test_what_an_entry_means(line: str, expected: tuple) -> None:
    assert parse_origin(line) == Origin(MORE, *expected)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "No file is named"),
        ("= 2", "No file is named"),
        ("a.jsonl = 0", "The weight must be more than 0"),
        ("a.jsonl = -1", "The weight must be more than 0"),
        ("a.jsonl = 1 2", "The weight '1 2' is no number"),
        ("a.jsonl =", "The weight '' is no number"),
        ("a.jsonl = 1e999", "The weight must be more than 0"),
        ("a.jsonl = 0 %", "The percentage must be more than 0 and at most 100"),
        ("a.jsonl = 101 %", "The percentage must be more than 0 and at most 100"),
        ("a.jsonl = 1, 2", "more than one weight or percentage"),
        ("a.jsonl = 1,5 %, 2", "more than one weight or percentage"),
    ],
)
def test_entries_that_are_not_understood(line: str, message: str) -> None:
    with pytest.raises(OriginError, match=f"{MORE}: .*{message}.* Got: .*recipes.jsonl = 2, 50 %"):
        parse_origin(line)


@given(st.from_regex(r"[a-z][a-z =.]{0,10}\.jsonl", fullmatch=True), st.floats(1e-6, 1e6), st.integers(1, 100))
def test_what_is_written_is_read(path: str, weight: float, percent: int) -> None:
    assert parse_origin(f"{path} = {weight!r}, {percent} %") == Origin(MORE, path, weight, percent / 100)


@pytest.mark.parametrize(
    ("value", "share"), [("25 %", 0.25), ("0.5%", 0.005), (" 100 %", 1.0), (0.3, 0.3), ("0.3", "0.3"), ("x %", "x %")]
)
def test_shares_may_be_percentages(value: object, share: object) -> None:
    assert as_share(value) == share


def test_percentages_in_the_settings() -> None:
    assert DataSettings(dataset_share="25 %", text_share=0.5).dataset_share == 0.25
    with pytest.raises(ValueError, match="dataset_share"):
        DataSettings(dataset_share="x %")
    with pytest.raises(ValueError, match="text_share"):
        DataSettings(text_share="120 %")


def test_the_order_of_the_origins() -> None:
    settings = DataSettings(
        dataset="a.jsonl",
        text_file="b.txt",
        more_datasets=["c.jsonl = 2"],
        dataset_weight=3,
        dataset_share="50 %",
        text_share=0.1,
    )
    assert origins_of(settings) == [
        Origin("Data set", "a.jsonl", 3.0, 0.5),
        Origin("Text file", "b.txt", 1.0, 0.1),
        Origin("Further data sets", "c.jsonl", 2.0, 1.0),
    ]
    assert [origin.path for origin in origins_of(DataSettings(text_file="b.txt"))] == ["b.txt"]
