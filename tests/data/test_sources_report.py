"""Counts are exact, lists are short, and too many broken rows stop with their places."""

import pytest
from training_pro.data.sources.report import BrokenRow, FileReport, SourceReport, check_broken_share


def report_of(num_rows: int, num_broken: int, where: str = "line") -> SourceReport:
    report = SourceReport(files=[FileReport("a.jsonl")])
    for _ in range(num_rows):
        report.add_row("text", ())
    for number in range(1, num_broken + 1):
        report.add_broken(BrokenRow("a.jsonl", number, where, "null row", "null"))
    return report


def test_only_so_many_broken_rows_are_kept():
    report = report_of(100, 300)
    assert (report.num_rows, report.num_broken, report.broken_share) == (100, 300, 0.75)
    assert [row.line for row in report.broken] == list(range(1, 201))


def test_an_empty_report():
    assert (SourceReport().num_rows, SourceReport().broken_share, SourceReport().notes) == (0, 0.0, [])


def test_notes_are_counted_and_limited():
    report = report_of(0, 0)
    for number in range(60):
        report.add_row("text", (f"keys not used: key{number}", "an empty message was kept"))
    assert report.row_notes["an empty message was kept"] == 60
    assert (len(report.row_notes), report.row_notes["other notes"]) == (51, 11)
    assert "keys not used: key0 (rows: 1)" in report.notes


def test_kinds_are_summed_over_files():
    report = report_of(2, 0)
    report.files.append(FileReport("b.jsonl"))
    for _ in range(3):
        report.add_row("alpaca", ())
    report.file_notes.append("b.jsonl: encoding utf-16")
    assert report.formats == {"alpaca": 3, "text": 2}
    assert report.notes == ["b.jsonl: encoding utf-16", "rows of several kinds: alpaca 3, text 2"]


@pytest.mark.parametrize(("num_rows", "num_broken", "limit"), [(19, 1, 0.05), (1, 99, 1.0), (1, 0, 0.0)])
def test_few_broken_rows_pass(num_rows, num_broken, limit):
    check_broken_share(report_of(num_rows, num_broken), limit)


def test_many_broken_rows_stop_with_their_places():
    with pytest.raises(ValueError, match="Broken rows allowed: 30 of 31 rows") as caught:
        check_broken_share(report_of(1, 30), 0.05)
    head, *shown, more, remedy = str(caught.value).split("\n")
    assert head == "Broken rows allowed: 30 of 31 rows (96.8%) cannot be used, 5.0% is allowed."
    assert shown == [f"  a.jsonl:{line}: null row" for line in range(1, 21)]
    assert (more, remedy) == ("  and 10 more", "Mend these rows, or raise Broken rows allowed.")


def test_one_row_too_many_stops():
    with pytest.raises(ValueError, match=r"2 of 20 rows \(10.0%\) cannot be used, 5.0% is allowed.\n  a.jsonl:1: null row\n"):
        check_broken_share(report_of(18, 2), 0.05)


@pytest.mark.parametrize("num_broken", [0, 2])
def test_no_usable_row_always_stops(num_broken):
    with pytest.raises(ValueError, match=f"Evaluation data set: none of the {num_broken} rows can be used.") as caught:
        check_broken_share(report_of(0, num_broken, "row"), 1.0, label="Evaluation data set")
    assert ("  a.jsonl row 1: null row\n" in str(caught.value)) == bool(num_broken)
    assert "and 0 more" not in str(caught.value)


def test_a_row_is_rejected_in_its_own_file():
    report = SourceReport(files=[FileReport("a.jsonl", num_rows=2), FileReport("b.jsonl", num_rows=1)])
    report.reject(BrokenRow("a.jsonl", 2, "line", "refused", "Hi"))
    assert [(file.num_rows, file.num_broken) for file in report.files] == [(1, 1), (1, 0)]
    assert [str(row) for row in report.broken] == ["a.jsonl:2: refused"]
