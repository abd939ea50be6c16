"""Rows that are left out of a training table are weighed, however many they are and however they are broken."""

from tests.growth import best_of
from workers.tables.rows import Reject
from workers.tables.training.left_out_rows import LeftOutRow, csv_source, weigh

NAMES = ["entity_id", "device", "keyword", "Clicks", "Conversions"]


def test_the_clicks_of_a_row_with_a_stray_quote_are_read_from_its_line():
    source = csv_source(b'1,Computer,"24 inch,70,1\n2,Tablet,32",5,0\n', 2, NAMES, "Clicks")
    rejects = [Reject(line=line, column="", value="", reason="a quote is stray") for line in (2, 3)]
    assert [source.left_out(reject, "").clicks for reject in rejects] == [70.0, 5.0]
    assert source.record_on(2) == ["1", "Computer", '"24 inch', "70", "1"]


def test_each_of_several_totals_counts_no_clicks():
    rows = [LeftOutRow(text="line 2", clicks=200.0), LeftOutRow(text="line 3", clicks=3.0), LeftOutRow(text="line 4", clicks=200.0)]
    assert weigh(rows, 100, 200.0) == (3.0, ["line 2", "line 4"])


def test_the_time_to_weigh_rows_grows_with_their_number_alone():
    def seconds(count: int) -> float:
        rows = [LeftOutRow(text=f"line {line}", clicks=200.0) for line in range(count)]
        return best_of(lambda: weigh(rows, 1_000_000, 200.0))

    assert seconds(4000) < 8 * seconds(1000), "four times as many"


def test_the_time_to_weigh_a_short_line_does_not_grow_with_the_columns():
    def seconds(columns: int) -> float:
        lines = 400
        source = csv_source(b"x\n" * lines, 1, [*(f"note{number}" for number in range(columns)), "Clicks"], "Clicks")
        return best_of(lambda: [source.clicks_on(line) for line in range(1, lines + 1)])

    assert seconds(40_000) < 4 * seconds(100)
