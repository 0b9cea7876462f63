"""Parameter tables: what is read, and what is said of each way to be broken."""

from __future__ import annotations

import csv
import io
import json
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kubeq.core.tables import (
    Table,
    empty_cells,
    parse_table,
    product,
    repeated_rows,
    sequence,
    unusable_columns,
)
from kubeq.errors import UsageError

CELL = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=12)


def rows(content: bytes | str, name: str = "p.csv") -> list[tuple[str, ...]]:
    table = parse_table(content if isinstance(content, bytes) else content.encode(), name)
    return [table.columns, *table.rows]


def refusal(content: bytes | str, name: str = "p.csv") -> UsageError:
    with pytest.raises(UsageError) as caught:
        parse_table(content if isinstance(content, bytes) else content.encode(), name)
    assert name in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a,b\n1,2\n", [("a", "b"), ("1", "2")]),
        ("a,b\n1,2", [("a", "b"), ("1", "2")]),
        ("\ufeffa,b\r\n1,2\r\n", [("a", "b"), ("1", "2")]),
        ("a,b\r1,2\r", [("a", "b"), ("1", "2")]),
        ("\n\na\n\n1\n\n", [("a",), ("1",)]),
        ('a\n""\n', [("a",), ("",)]),
        ('a,b\n"1\n2","say ""x"", y"\n', [("a", "b"), ("1\n2", 'say "x", y')]),
        ("a,b\n 1 , \n", [("a", "b"), (" 1 ", " ")]),
        ("a,b\n1;2,3\t4\n", [("a", "b"), ("1;2", "3\t4")]),
        ('a,b\n1E+05,NaN\n"1,234",\n', [("a", "b"), ("1E+05", "NaN"), ("1,234", "")]),
        ("größe,名\né,ü\n", [("größe", "名"), ("é", "ü")]),
        ("a,A\n1,2\n", [("a", "A"), ("1", "2")]),
        ("a\n1\n1\n", [("a",), ("1",), ("1",)]),
        ('a,b\n5" pipe,{b}\n', [("a", "b"), ('5" pipe', "{b}")]),
        ("a\n$(rm -rf ~)\n`x`\n", [("a",), ("$(rm -rf ~)",), ("`x`",)]),
    ],
)
def test_csv_cells_are_read_as_written(content: str, expected: list[tuple[str, ...]]) -> None:
    assert rows(content) == expected


def test_the_ending_of_the_name_says_how_to_read() -> None:
    assert rows("a\tb\n1,x\t2\n", "p.TSV") == [("a", "b"), ("1,x", "2")]
    assert rows('{"a": 1, "b": "x"}\n', "p.jsonl") == [("a", "b"), ("1", "x")]
    assert rows("a,b\n1,2\n", "/dev/fd/63") == [("a", "b"), ("1", "2")]


@pytest.mark.parametrize("content", ["", "\n\n", "a,b\n", "\ufeff", "a,b\n\n\n"])
@pytest.mark.parametrize("name", ["p.csv", "p.tsv"])
def test_a_table_without_rows_is_refused(content: str, name: str) -> None:
    assert "no rows" in refusal(content, name).message


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_json_lines_without_an_object_are_refused(content: str) -> None:
    assert "no rows" in refusal(content, "p.jsonl").message


@pytest.mark.parametrize("name", ["p.csv", "p.tsv", "p.jsonl"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\n1,é\n".encode("latin-1"), "byte 0xe9 at byte offset 6"),
        ("a,b\n1,2\n".encode("utf-16"), "UTF-16 (byte offset 0)"),
        ("a,b\n1,2\n".encode("utf-16-le"), "zero byte at byte offset 1"),
        (b"a,b\n1,\x002\n", "zero byte at byte offset 6"),
        (b"\xef\xbb\xbfa\n\xff\n", "byte 0xff at byte offset 5"),
    ],
)
def test_what_is_not_utf8_is_refused_with_its_offset(name: str, content: bytes, said: str) -> None:
    error = refusal(content, name)
    assert said in error.message
    assert "UTF-8" in str(error.hint)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("a,b,a", "column 'a' more than once"),
        ("a,b,a,b", "columns 'a', 'b' more than once"),
        ("a,,b,", "without a name: number 2, 4"),
        ("a, ", "without a name: number 2"),
        ("a,{b}", "column '{b}', with a brace"),
        ('a,"b\nc"', "control character"),
    ],
)
def test_bad_column_names_are_all_named(header: str, said: str) -> None:
    assert said in refusal(f"{header}\n1\n").message


def test_short_and_long_rows_are_named_with_their_lines_the_first_ten_and_a_count() -> None:
    error = refusal("a,b\n1\n1,2\n\n1,2,3\n")
    assert "needs 2 cells in every row: line 2 has 1, line 5 has 3" in error.message
    many = refusal("a,b\n" + "1\n" * 30).message
    assert "line 11 has 1 and 20 more" in many
    assert "line 12" not in many


def test_the_line_of_a_short_row_counts_line_ends_inside_quotes() -> None:
    assert "line 4 has 1" in refusal('a,b\n"1\n2",3\n4\n').message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('a,b\n1,2\n3,"x\ny,z\n', "a quote on line 3 that is never closed"),
        ('a,b\n"1","2"\n5" x,"y\n', "a quote on line 3 that is never closed"),
        ('a\n"x""\n', "a quote on line 2 that is never closed"),
        ('a,b\r\n1,"x\r\n2,"y"\r\n', "begins on line 2 and ends on line 3"),
        ('"a', "a quote on line 1 that is never closed"),
        ('a,b\n"x" ,2\n', "text right after the quoted cell that begins on line 2 and ends on line 2"),
    ],
)
def test_a_broken_quote_is_named_by_the_line_where_it_opened(content: str, said: str) -> None:
    assert said in refusal(content).message


def test_an_unterminated_quote_far_up_is_found_although_the_cell_is_too_long() -> None:
    content = "a,b\n" + "1,2\n" * 8 + '3,"x\n' + "4,5\n" * 400_000
    error = refusal(content)
    assert "more than 1,048,576 characters, which begins on line 10" in error.message


@pytest.mark.parametrize(
    ("content", "name", "hint"),
    [
        ("a;b\n1;2\n", "p.csv", "commas"),
        ("a\tb\n1\t2\n", "p.csv", "p.tsv"),
        ("a,b\n1,2\n", "p.tsv", "p.csv"),
    ],
)
def test_another_separator_is_suggested_and_not_applied(content: str, name: str, hint: str) -> None:
    error = refusal(content, name)
    assert "one column only" in error.message
    assert hint in str(error.hint)


def test_the_limits_are_stated() -> None:
    assert "10,000" in refusal(",".join(f"c{n}" for n in range(10_001)) + "\n" + ",".join("1" * 10_001)).message
    assert rows("a\n" + "x" * 2**20)[1] == ("x" * 2**20,)
    assert "1,048,576" in refusal("a\n" + "x" * (2**20 + 1)).message
    assert "1,048,576" in refusal('{"a": "' + "x" * (2**20 + 1) + '"}', "p.jsonl").message


def test_json_numbers_keep_their_text_and_words_are_words() -> None:
    content = '{"a": 1e400, "b": 0.10, "c": true}\n\n{"c": false, "b": -0, "a": 12345678901234567890123}\n'
    assert rows(content, "p.jsonl") == [
        ("a", "b", "c"),
        ("1e400", "0.10", "true"),
        ("12345678901234567890123", "-0", "false"),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[1, 2]", "line 2: not an object"),
        ("[[1, 2]]", "line 2: not an object"),
        ("7", "line 2: not an object"),
        ("{}", "line 2: the object is empty"),
        ('{"a": [1]}', "line 2: 'a' is an array"),
        ('{"a": {"b": 1}}', "line 2: 'a' is an object"),
        ('{"a": null}', "line 2: 'a' is null"),
        ('{"a": 1, "a": 2}', "line 2: the name 'a' is there twice"),
        ('{"b": 1}', "line 2: no value for 'a'"),
        ('{"a": 1, "b": 2}', "line 2: the name 'b' is not in the first"),
        ('{"a": 1,}', "line 2: "),
        ('{"a": NaN}', "line 2: NaN is not JSON"),
        ('{"a": "\\u0000"}', "line 2: 'a' holds a zero"),
        ('{"a": "\\ud800"}', "line 2: 'a' holds a zero or half a surrogate"),
        ('{"a": ' + "[" * 100_000, "line 2: nested too deeply"),
        ("{'a': 1}", "line 2: "),
    ],
)
def test_a_bad_json_line_is_named(line: str, said: str) -> None:
    assert said in refusal(f'{{"a": 1}}\n{line}\n', "p.jsonl").message


def test_bad_json_lines_are_named_all_at_once() -> None:
    assert "and 5 more" in refusal('{"a": 1}\n' + "x\n" * 15, "p.jsonl").message


def test_json_names_obey_the_rules_of_columns() -> None:
    assert "without a name" in refusal('{"": 1}', "p.jsonl").message
    assert "brace" in refusal('{"{x}": 1}', "p.jsonl").message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", ["1", "2", "3"]),
        ("5-7", ["5", "6", "7"]),
        ("0-10:5", ["0", "5", "10"]),
        ("4-4", ["4"]),
        ("1-6:4", ["1", "5"]),
    ],
)
def test_a_sequence_counts(text: str, expected: list[str]) -> None:
    table = sequence(text)
    assert table.columns == ("index",)
    assert [row[0] for row in table.rows] == expected


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "-3",
        "1000000000000",
        "10-1",
        "3:1",
        "a",
        "",
        "1-",
        "1-2:0",
        "1.5",
        "01",
        "٣",
        "10000001",
        "0-10000000",
        "1-5:-1",
    ],
)
def test_a_sequence_out_of_bounds_is_refused_with_the_bounds(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        sequence(text)
    assert "10,000,000" in str(caught.value.hint)


def test_ten_million_numbers_take_no_memory_and_can_be_sliced() -> None:
    table = sequence("10000000")
    assert len(table.rows) == 10_000_000
    assert table.rows[-1] == ("10000000",)
    assert list(table.rows[5:10:2]) == [("6",), ("8",), ("10",)]
    with pytest.raises(IndexError):
        table.rows[10_000_000]


def test_a_product_varies_the_last_table_fastest() -> None:
    table = product([Table(("a",), [("1",), ("2",)]), Table(("b", "c"), [("x", "y"), ("z", "w")]), sequence("2")])
    assert table.columns == ("a", "b", "c", "index")
    assert len(table.rows) == 8
    assert list(table.rows)[:3] == [("1", "x", "y", "1"), ("1", "x", "y", "2"), ("1", "z", "w", "1")]
    assert table.rows[7] == ("2", "z", "w", "2")


def test_a_product_with_a_column_in_two_tables_is_refused() -> None:
    with pytest.raises(UsageError, match="column 'index'"):
        product([sequence("2"), sequence("3")])


def test_a_product_that_is_too_large_shows_its_size_and_is_never_built() -> None:
    with pytest.raises(UsageError, match=r"10,000 x 1,001 = 10,010,000 tasks"):
        product([sequence("10000"), Table(("x",), [("",)] * 1001)])


def test_what_is_worth_a_note_is_counted() -> None:
    table = parse_table(b"a,b c,1x\n1,,3\n1,,3\n", "p.csv")
    assert unusable_columns(table) == ("b c", "1x")
    assert empty_cells(table) == 2
    assert repeated_rows(table) == 1


def test_reading_costs_in_proportion_to_the_rows() -> None:
    def cost(count: int) -> float:
        content = b"x,y,z\n" + b"".join(b"%d,%d,0.125\n" % (n, n * 7) for n in range(count))
        spent = []
        for _ in range(3):
            begun = time.process_time()
            assert len(parse_table(content, "p.csv").rows) == count
            spent.append(time.process_time() - begun)
        return min(spent)

    assert cost(100_000) < 30 * cost(10_000)


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=6), st.sampled_from(["\r\n", "\n", "\r"]))
def test_what_a_csv_writer_writes_is_read_back(cells: list[tuple[str, str]], end: str) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *cells])
    assert rows(text.getvalue()) == [("a", "b"), *cells]


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=6), st.booleans())
def test_what_a_json_writer_writes_is_read_back(cells: list[tuple[str, str]], ascii_only: bool) -> None:
    text = "\n".join(json.dumps({"a": a, "b": b}, ensure_ascii=ascii_only) for a, b in cells)
    assert rows(text, "p.jsonl") == [("a", "b"), *cells]


@given(
    st.binary(max_size=60) | st.text('ab,;\t"\n\r{}[]:1\\', max_size=60).map(str.encode),
    st.sampled_from(["csv", "tsv", "jsonl"]),
)
@example(b'a\n"', "csv")
def test_any_bytes_give_a_table_or_a_sentence(content: bytes, ending: str) -> None:
    try:
        table = parse_table(content, f"p.{ending}")
    except UsageError as error:
        assert "\n" not in error.message
    else:
        assert table.rows
        assert all(len(row) == len(table.columns) for row in table.rows)


@given(st.text(max_size=12) | st.text("0123456789-:", max_size=12))
def test_any_sequence_is_counted_or_refused(text: str) -> None:
    try:
        table = sequence(text)
    except UsageError:
        return
    assert 1 <= len(table.rows) <= 10_000_000
    assert table.rows[0] and table.rows[-1]
