import os

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from clients.sources import Source, load_rows
from fedcore.errors import DataError

SECRET = "Miss-Marple-7"


def source(tmp_path, content, name="customers.csv"):
    path = tmp_path / name
    if isinstance(content, pl.DataFrame):
        content.write_parquet(path)
    else:
        path.write_bytes(content)
    return path


def rows_of(path, columns):
    return load_rows(Source(path), columns)


def refused(path, columns=("a", "b")):
    with pytest.raises(DataError) as error:
        rows_of(path, list(columns))
    assert SECRET not in repr((error.value.public, error.value.detail, str(error.value)))
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__ or error.value.__context__ is None
    return error.value


def test_cells_are_text_without_outer_space_and_empty_ones_are_null(tmp_path):
    path = source(tmp_path, b'a,b,c\n 1 ,007,x\n"", \t ,y\n')
    expected = pl.DataFrame({"b": ["007", None], "a": ["1", None]})
    assert_frame_equal(rows_of(path, ["b", "a"]).frame, expected)


@pytest.mark.parametrize("content", [b"\xef\xbb\xbfa,b\n1,2\n", b"a,b\r\n1,2\r\n", b"a,b\n1,2"])
def test_csv_as_other_programs_write_it_reads_the_same(tmp_path, content):
    assert rows_of(source(tmp_path, content), ["a", "b"]).frame.rows() == [("1", "2")]


def test_parquet_reads_like_csv(tmp_path):
    csv = rows_of(source(tmp_path, b"a,b\n1,x\n2.5,\n"), ["a", "b"]).frame
    frame = pl.DataFrame({"a": ["1", "2.5"], "b": ["x", None]})
    assert_frame_equal(rows_of(source(tmp_path, frame, "c.parquet"), ["a", "b"]).frame, csv)


@pytest.mark.parametrize(
    ("series", "cells"),
    [
        (pl.Series([1, None]), ["1", None]),
        (pl.Series([1.5, float("nan")]), ["1.5", "NaN"]),
        (pl.Series([True, False]), ["true", "false"]),
        (pl.Series(["x", ""], dtype=pl.Categorical), ["x", None]),
        (pl.Series([None, None]), [None, None]),
    ],
)
def test_typed_parquet_cells_become_text(tmp_path, series, cells):
    frame = pl.DataFrame({"id": ["x"] * len(series), "a": series})
    path = source(tmp_path, frame, "c.parquet")
    assert rows_of(path, ["id", "a"]).frame["a"].to_list() == cells


@pytest.mark.parametrize("series", [pl.Series([1.0, None]), pl.Series([True, False])])
def test_identifiers_that_a_table_has_turned_into_other_things_are_refused(tmp_path, series):
    """17 and 17.0 have different pseudonyms: an opt-out would silently match no longer."""
    path = source(tmp_path, pl.DataFrame({"a": series, "b": ["1", "2"]}), "c.parquet")
    assert refused(path).code == "data.column_not_text"
    twin = source(tmp_path, pl.DataFrame({"a": [1, None], "b": ["1", "2"]}), "c.parquet")
    assert rows_of(twin, ["a", "b"]).frame["a"].to_list() == ["1", None]


def test_all_missing_columns_are_named_and_present_ones_are_not(tmp_path):
    error = refused(source(tmp_path, f"a,x\n{SECRET},1\n".encode()), ("a", "b", "c"))
    assert error.code == "data.column_missing"
    assert error.public.endswith("lacks the contract's columns: b, c")


def test_a_file_without_a_header_does_not_tell_its_first_customer(tmp_path):
    assert refused(source(tmp_path, f"{SECRET},1\n".encode())).code == "data.column_missing"


def test_a_csv_without_a_line_is_refused(tmp_path):
    assert refused(source(tmp_path, b"")).code == "data.unreadable"


@pytest.mark.parametrize(
    "line",
    [
        f"1,2,{SECRET}".encode(),
        f'1,"{SECRET}'.encode(),
        f"1,{SECRET}\xff".encode("latin-1"),
        b"x" * 10_000_000 + b",1",
    ],
    ids=["ragged", "open quote", "other encoding", "10 MB"],
)
def test_a_broken_line_is_counted_and_leaves_the_others_as_they_are(tmp_path, line):
    rows = rows_of(source(tmp_path, b"a,b\n1,2\n" + line + b"\n3,4\n"), ["a", "b"])
    assert rows.frame.rows() == [("1", "2"), ("3", "4")]
    assert rows.malformed == 1


@pytest.mark.parametrize(
    "series",
    [
        pl.Series([[SECRET]]),
        pl.Series([b"\xff" + SECRET.encode()]),
        pl.Series([1]).cast(pl.Duration),
    ],
    ids=["list", "binary", "duration"],
)
def test_a_parquet_column_that_is_no_text_is_one_fault_that_quotes_nothing(tmp_path, series):
    frame = pl.DataFrame({"a": ["1"], "b": series})
    assert refused(source(tmp_path, frame, "c.parquet")).code == "data.unreadable"


@pytest.mark.filterwarnings("ignore")
def test_a_damaged_parquet_file_is_read_or_refused_and_never_quoted(tmp_path, capfd):
    frame = pl.DataFrame({"a": ["1", SECRET], "b": ["1", "2"]})
    sound = source(tmp_path, frame, "c.parquet").read_bytes()
    codes, said = set(), ""
    for place in range(0, len(sound), 7):
        damaged = bytearray(sound)
        damaged[place] ^= 0xFF
        try:
            rows_of(source(tmp_path, bytes(damaged), "c.parquet"), ["a", "b"])
        except DataError as error:
            codes.add(error.code)
            said += error.public + error.detail
    assert SECRET not in said
    assert codes <= {"data.unreadable", "data.column_missing"}
    assert "data.unreadable" in codes
    capfd.readouterr()


def test_a_source_that_is_missing_a_folder_or_closed_is_unreadable(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    for name in ("missing.csv", "missing.parquet", "folder.csv"):
        error = refused(tmp_path / name)
        assert error.code == "data.unreadable"
        assert str(tmp_path) not in error.public


def test_noise_is_no_parquet(tmp_path):
    path = source(tmp_path, os.urandom(3000), "c.parquet")
    assert refused(path).code == "data.unreadable"


def test_a_table_without_rows_has_no_rows(tmp_path):
    assert rows_of(source(tmp_path, b"a,b\n"), ["a", "b"]).frame.height == 0


def test_a_panic_of_the_reader_is_a_fault_of_the_source(tmp_path, monkeypatch):
    """Some damaged files make polars panic, which Python does not count among exceptions."""

    def panics(source):
        raise pl.exceptions.PanicException(SECRET)

    monkeypatch.setattr(pl, "read_parquet", panics)
    path = source(tmp_path, pl.DataFrame({"a": ["1"], "b": ["2"]}), "c.parquet")
    assert refused(path).code == "data.unreadable"
