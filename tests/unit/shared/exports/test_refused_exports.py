"""An export that cannot be read without doubt is refused with one sentence: what, where, and what next."""

import base64
import io
import json
import zipfile
import zlib

import pytest

from producers.sample.exports.workbook import write_workbook
from shared.errors import TableError
from shared.exports.options import ReadOptions
from shared.exports.reading import read_export, read_export_bytes
from shared.exports.roles.inference import infer_roles
from shared.exports.workbooks import files

GOOD = "Keyword,Campaign,Clicks,Cost,Conversions\nshoes,A,10,4.50,1\nboots,A,7,3.20,0\ntents,B,1,0.75,1\n"


def refusal(text, name="report.csv", **options):
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(TableError) as raised:
        infer_roles(read_export_bytes(data, name, ReadOptions(**options)))
    error = raised.value
    assert "\n" not in error.message
    assert error.next_step
    return error


def test_the_table_of_these_tests_is_read():
    assert read_export_bytes(GOOD.encode(), "report.csv").table["Clicks"].to_pylist() == [10, 7, 1]


def test_a_table_without_header_is_refused():
    error = refusal("shoes,A,10,4.50,1\nboots,A,7,3.20,0\n")
    assert error.message == "report.csv has no header: line 1 is the first row, and no line above it names all 5 columns"


def test_two_headers_are_refused_with_the_line_of_the_second():
    assert refusal(GOOD + GOOD).message == "line 5 of report.csv repeats the header: the file holds more than one table"


def test_another_table_below_is_refused():
    other = "Device,Network,Clicks,Cost,Conversions\nPC,Search,18,8.45,2\n"
    assert refusal(GOOD + other).message == "line 5 of report.csv has 'Clicks' in Clicks, which is not a number"
    titled = refusal(GOOD + "\nDevices\n" + other)
    assert titled.message == "line 6 of report.csv has a single cell, and rows follow it: does the file hold more than one table?"


def test_a_header_in_two_lines_is_refused():
    error = refusal("Search,Camp,Clicks,Cost,Conv.\nkeyword,name,,,\nshoes,A,10,4.50,1\nboots,A,7,3.20,0\n")
    assert error.message == "line 2 of report.csv has no number in Clicks: it looks like the second line of a header"
    assert error.next_step == "Put the names of the columns into one line."


def test_a_table_without_clicks_is_refused_with_the_columns_that_it_has():
    error = refusal("Keyword,Campaign,Views\nshoes,A,10\nboots,B,7\n")
    assert error.message == "report.csv has no column that is known as clicks; it has Keyword, Campaign, Views"


def test_a_table_of_totals_only_is_refused():
    assert refusal("Keyword,Clicks,Cost\nTotal: Account,10,2.50\nTotal: Search,10,2.50\n").message == "report.csv has only rows of totals"


def test_a_total_that_differs_is_refused_with_both_numbers():
    error = refusal(GOOD + "Total,--,19,8.45,2\n")
    assert error.message == "the rows of report.csv have 18 in Clicks, but its total on line 5 says 19"
    assert "totals: unchecked" in error.next_step
    table = read_export_bytes((GOOD + "Total,--,19,8.45,2\n").encode(), "report.csv", ReadOptions(totals="unchecked"))
    assert len(table.lines) == 3


def test_a_total_without_name_is_refused():
    assert "is the sum of all other lines" in refusal(GOOD + "all of it,C,18,8.45,2\n").message


def test_another_number_of_rows_than_the_report_says_is_refused():
    error = refusal("Report Name: x\nRows: 4\n\n" + GOOD)
    assert error.message == "report.csv has 3 rows, but says above its header that it has 4"


def test_numbers_of_two_decimal_marks_are_refused_with_one_of_each():
    error = refusal(GOOD.replace(",,", "").replace(",", ";").replace("3.20", "3,20"))
    assert error.message == "report.csv has numbers of two decimal marks: '4.50' in Cost on line 2, and '3,20' in Cost on line 3"


def test_a_number_with_two_meanings_is_refused_unless_a_person_says_the_decimal_mark():
    text = "Keyword;Clicks;Cost\nshoes;10;1,234\nboots;7;2\n"
    error = refusal(text)
    assert error.message == "'1,234' in Cost on line 2 of report.csv can be read in two ways, and no other number of the file says which"
    for mark, cost in ((".", 1234), (",", 1.234)):
        assert read_export_bytes(text.encode(), "report.csv", ReadOptions(decimal=mark)).table["Cost"].to_pylist() == [cost, 2]


def test_clicks_that_are_not_whole_are_refused():
    error = refusal("Keyword,Clicks,Cost\nshoes,1.234,4.50\nboots,7,3.20\n")
    assert error.message == "line 2 of report.csv has 1.234 in Clicks, which must be a whole number"


def test_three_decimals_among_two_are_refused():
    error = refusal("Keyword,Clicks,Cost\na,1,1.23\nb,2,2.34\nc,3,3.45\nd,4,1.234\n")
    assert error.message == (
        "line 5 of report.csv has '1.234' in Cost, but it has three decimals and the others have two: is its mark that of thousands?"
    )


def test_a_column_with_percent_signs_in_some_rows_only_is_refused():
    error = refusal("Keyword,Clicks,CTR\na,1,1.23%\nb,2,2.34%\nc,3,3.45\n")
    assert error.message == "line 4 of report.csv has '3.45' in CTR, but some of its values have a percent sign and others do not"


def test_two_currencies_in_a_column_are_refused():
    assert "more than one currency: $, €" in refusal("Keyword,Clicks,Cost\na,1,$1.23\nb,2,€2.34\n").message


def test_a_row_with_another_number_of_cells_is_refused():
    error = refusal(GOOD.replace("boots,A,7", "boots,A,1,7"))
    assert error.message == "line 3 of report.csv has 6 cells, but its header on line 1 has 5"


def test_a_quote_that_never_closes_is_refused():
    assert refusal(GOOD.replace("boots", '"boots')).message.startswith("line 3 of report.csv cannot be divided into cells")


def test_a_separator_line_that_lies_is_refused():
    assert refusal("sep=;\n" + GOOD).message == "line 1 of report.csv says that ';' separates its columns, but commas do"


def test_names_that_occur_twice_are_refused_where_they_are_needed_and_numbered_elsewhere():
    error = refusal("Keyword,Clicks,Cost,Clicks,Cost\na,1,1.20,2,2.50\nb,3,3.20,4,1.10\n")
    assert error.message == "report.csv has more than one column Clicks; the later one is read as Clicks (2)"
    assert "pivot" in error.next_step
    table = read_export_bytes(b"Keyword,Clicks,Note,Note\na,1,x,y\n", "report.csv")
    assert table.names == ["Keyword", "Clicks", "Note", "Note (2)"]
    assert table.notes == ["Note is the name of more than one column: the later one is called Note (2)."]


def test_exchanged_clicks_and_conversions_are_refused():
    error = refusal("Keyword,Clicks,Conversions\na,1,10\nb,0,7\n")
    assert error.message == "report.csv has 17 in Conversions, more than the 1 in Clicks: are the two exchanged?"


def test_ten_thousand_columns_are_refused():
    names = ",".join(f"name {chr(97 + place % 26)}{'x' * (place // 26)}" for place in range(10_000))
    error = refusal(f"{names}\n{','.join('1' * 10_000)}\n")
    assert error.message == "report.csv has 10,000 columns, more than the 1,000 that are read"


@pytest.mark.parametrize("text", ["", "   \n \n", "\ufeff"])
def test_an_empty_file_is_refused(text):
    assert "is empty" in refusal(text).message


def test_a_text_without_columns_is_refused():
    assert refusal("just\nsome\nlines\n").message == (
        "report.csv has no columns: its lines are not divided by commas, tabs, semicolons, bars"
    )


def test_a_header_without_rows_is_refused():
    assert refusal("Keyword,Campaign,Clicks\n").message == "report.csv has a header but no rows"


def test_utf8_with_a_damaged_byte_is_refused_with_its_line():
    data = GOOD.replace("shoes", "Schuhe für Mädchen").replace("boots", "böse Stiefel").encode().replace("ö".encode(), b"\xc3\x28")
    assert refusal(data).message == "report.csv is damaged: it is utf-8, but not at byte 75 (line 3)"


def test_a_cut_text_of_utf16_is_refused():
    assert refusal(GOOD.encode("utf-16")[:-1]).message.startswith("report.csv is damaged: it is utf-16, but not at byte")


def test_zero_bytes_are_refused():
    assert refusal(GOOD.replace("boots", "bo\0ts")).message.startswith("report.csv is not a text, or damaged: line 3 has the control")


def test_an_unknown_encoding_is_refused():
    assert refusal(GOOD, encoding="klingon").message == "report.csv cannot be read: 'klingon' is not an encoding"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"<html><table><tr><td>Clicks</td></tr></table></html>", "is a web page or XML"),
        (b"\x1f\x8b\x08\x00rest", "is compressed with gzip"),
        (b"PAR1rest", "is a Parquet file"),
        (b"%PDF-1.7", "is a PDF file"),
    ],
)
def test_a_file_of_another_format_is_refused_whatever_its_name(data, what):
    assert what in refusal(data, "report.xls").message


def workbook(sheets, **parts):
    """A workbook with several sheets, and other content of some of its parts."""
    made = {}
    for number, (name, lines) in enumerate(sheets.items(), 1):
        with zipfile.ZipFile(io.BytesIO(write_workbook(lines))) as archive:
            made |= {part: archive.read(part) for part in archive.namelist() if part not in made}
            made[f"xl/worksheets/sheet{number}.xml"] = archive.read("xl/worksheets/sheet1.xml")
        if number > 1:
            book, relations = made["xl/workbook.xml"].decode(), made["xl/_rels/workbook.xml.rels"].decode()
            added = f'<sheet name="{name}" sheetId="{number}" r:id="rId{number + 10}"/></sheets>'
            made["xl/workbook.xml"] = book.replace("</sheets>", added).encode()
            kind = relations.partition('Type="')[2].partition('"')[0]
            added = f'<Relationship Id="rId{number + 10}" Type="{kind}" Target="worksheets/sheet{number}.xml"/></Relationships>'
            made["xl/_rels/workbook.xml.rels"] = relations.replace("</Relationships>", added).encode()
        else:
            made["xl/workbook.xml"] = made["xl/workbook.xml"].replace(b'"Report"', f'"{name}"'.encode())
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**made, **parts}.items():
            archive.writestr(name, content)
    return file.getvalue()


LINES = [["Keyword", "Campaign", "Clicks"], ["shoes", "A", 10], ["boots", "B", 7]]


def test_an_empty_sheet_is_refused():
    assert refusal(write_workbook([]), "report.xlsx").message == "no sheet of report.xlsx holds a table: 'Report'"


def test_a_workbook_of_several_tables_is_refused_unless_a_person_names_the_sheet():
    data = workbook({"May": LINES, "Notes": [["a remark"]], "June": [*LINES, ["tents", "B", 3]]})
    assert refusal(data, "report.xlsx").message == "report.xlsx has 2 sheets with a table: 'May', 'June'"
    assert refusal(data, "report.xlsx", sheet="July").message == "report.xlsx has no sheet 'July'; it has 'May', 'Notes', 'June'"
    table = read_export_bytes(data, "report.xlsx", ReadOptions(sheet="June"))
    assert table.table["Clicks"].to_pylist() == [10, 7, 3]
    assert table.read.sheet == "June"


def test_the_only_sheet_with_a_table_is_read():
    data = workbook({"Notes": [["a remark"]], "May": LINES})
    assert read_export_bytes(data, "report.xlsx").read.sheet == "May"


def test_a_workbook_with_a_password_is_refused():
    data = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 504 + "EncryptedPackage".encode("utf-16-le")
    error = refusal(data, "report.xlsx")
    assert error.message == "report.xlsx is protected by a password"


def test_a_zip_bomb_is_refused_before_it_is_unpacked(monkeypatch):
    monkeypatch.setattr(files, "MOST_UNPACKED_BYTES", 10 << 20)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("xl/workbook.xml", b"x")
        with archive.open("xl/worksheets/sheet1.xml", "w", force_zip64=True) as part:
            for _ in range(11):
                part.write(bytes(1 << 20))
    assert refusal(file.getvalue(), "report.xlsx").message.startswith("report.xlsx unpacks to 11 MB, more than the 10 MB")


def test_a_sheet_with_cells_in_two_far_corners_is_refused():
    sheet = (
        '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData><row r="1"><c r="A1"><v>1</v></c></row>'
        '<row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData></worksheet>'
    )
    data = workbook({"May": LINES}, **{"xl/worksheets/sheet1.xml": sheet})
    assert refusal(data, "report.xlsx").message == "report.xlsx is a workbook whose sheet is too large to read"


def test_another_archive_is_refused():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("report.csv", GOOD)
    assert refusal(file.getvalue(), "report.zip").message == "report.zip is a zip archive, not a workbook"


def test_a_workbook_that_was_cut_short_is_refused():
    data = write_workbook(LINES)
    assert refusal(data[: len(data) // 2], "report.xlsx").message.startswith("report.xlsx is a damaged workbook: ")


XLS = (
    "eNrtWE1IVFEU/u77cf78GSetNDARsjIhok0bndTKRSgmQRFBPZ2hBqd5MjMQtsmyWQZBq6KN4KaN1aYfKqhWLQKtFkFgaC1bBQUtdF7nnvfe5OQEDpVgvG94"
    "555z7jnfu3fu33tvdqZ2fvJe4wJ+QSdU5K0AKpb5BF0B1wiD6i1Lqm7pp8vysK4Q8NNAVuh4XPXKJ8dQjvcCFNzVnpMEPtJ1EqPoN1Px5jVEN7fBELINHSQF"
    "bpGnGg3cqgjLYZYbWN7hyCcs97PnKssOip0XJzAT7W/b58zi40oL11VD8j7gnPfs2YN6vJSz+OI1Ycfq6EonjOQ6q2jSKjEFGtDeeCqeNpLzqKORncI3qxn4"
    "6i7hZ82ef239AuT/Xuz3/cbvR80K/3VFA8ZhneYVkUMIuzVZo6LPSCzSQg2REbKX8WB81ExnaQ4cjo+dN9Mx2p17jHOjRuJMSgUOGGMU05NMDI9kiKLHzGR1"
    "IHPWjGdoKnWRPmSaWal3k37UzBrJoNz+ebsIF20XVbyMKknGqMlSr+XFFKYuLN7+8qZvaCB6ij3jfETYB8k22RVYuCQzKLmaa/SCbOOMXSwvM+sW1htZ1lEM"
    "la0D9Y5yaIJjrnBtK91nL+NtdPsyfQfpuc9HHjblPkV3kj7du3ChbvpddBItdLDFKF/+JtAu2sXNGxKPom4pnE1njmXDig3Ir4SdvlnOaVmDJQRZrWUpIwT3"
    "rjhCcISUtuX+f7alkKUWLJUsrWBpZOkOs1KCWWHmCifeHhk5bE+xmSyFepSflfwvIjIuRFUac6kluFTm8jtcKnMFHC6VuZTXkquJ4zbpLpdWgkvjmCBnR8iS"
    "vfrAbdhaKfM6lQjuy8bTVv4TQXjw4MGDBw8ePHj4Y8jHToXfIOA8qtkP9T7nu84SXXnvM8l/i0GY9MvSe+ZBpKhMY6ys+bMRunC5xCpz3O+FEsfo7mmMYIjb"
    "MVL2/KXXDrG8P6tODP+9JVTu/fPltPMf3/8Hn5/q3Q=="
)
"""A workbook of Excel 97, compressed: a title, two rows with a day, and a total."""


def test_a_workbook_of_excel_97_is_read_with_its_days_and_its_total():
    table = read_export_bytes(zlib.decompress(base64.b64decode(XLS)), "report.xls")
    assert table.table.to_pylist() == [
        {"Keyword": "shoes", "Campaign": "A", "Day": "2026-05-01", "Clicks": 1200, "Cost": 4.5},
        {"Keyword": "boots", "Campaign": "B", "Day": "2026-05-02", "Clicks": 7, "Cost": 3.25},
    ]
    assert table.totals.agreeing == {"Clicks": 1207, "Cost": 7.75}
    assert table.lines.tolist() == [3, 4]


def test_a_cell_beside_the_table_of_a_workbook_is_refused():
    assert "row 3 of report.xlsx has a cell to the right" in refusal(write_workbook([*LINES[:2], [*LINES[2], "x"]]), "report.xlsx").message


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(TableError, match="cannot be read: No such file"):
        read_export(tmp_path / "report.csv")


def test_options_are_plain_data():
    assert json.loads(ReadOptions(decimal=",").model_dump_json()) == {
        "encoding": None, "separator": None, "decimal": ",", "header_line": None, "sheet": None, "totals": "drop",
    }  # fmt: skip
