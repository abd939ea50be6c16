"""`scoring columns` reads an export, shows its roles, and writes and checks a roles file."""

import json

import pytest
from click.testing import CliRunner

from producers.cli.root import scoring
from producers.exports import read_roles
from shared.errors import RequestError, TableError

TABLE = "Report\nKeyword,Campaign,Clicks,Cost,Conversions,Conv. rate\n" + "".join(
    f"word {number},C{number % 2},{number + 1},{number + 1}.50,{number % 2},{100 * (number % 2) / (number + 1):.2f}%\n"
    for number in range(20)
)


@pytest.fixture
def report(tmp_path):
    path = tmp_path / "report.csv"
    path.write_text(TABLE)
    return path


def run(*arguments):
    return CliRunner().invoke(scoring, ["columns", *map(str, arguments)], catch_exceptions=False)


def test_roles_are_shown_and_written_beside_the_file(report):
    done = run(report)
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert lines[0] == "report.csv: utf-8, commas, header on line 2, 20 rows."
    assert lines[1] == "20 rows have clicks. All 10 conversions count."
    written = report.with_name("report.roles.yaml")
    assert lines[2] == f"Conv. rate is left out: it is known only with the conversions. Correct this in {written}."
    assert any(line.split() == ["Keyword", "text,", "keyword,", "key", "known", "name:", "keyword"] for line in lines)
    assert lines[-1] == f"Written: {written}. Correct it there, then: scoring columns {report} --roles {written}"
    assert read_roles(written).columns["Conv. rate"] == "leak"


def test_a_corrected_roles_file_is_checked_and_never_overwritten(report):
    run(report)
    written = report.with_name("report.roles.yaml")
    corrected = written.read_text().replace("Campaign: group", "Campaign: ignore")
    written.write_text(corrected)
    with pytest.raises(RequestError, match="is there already, and may have been corrected by hand"):
        run(report)
    checked = run(report, "--roles", written)
    assert checked.output.splitlines()[-1] == "These roles fit report.csv."
    assert written.read_text() == corrected
    run(report, "--replace")
    assert written.read_text() != corrected


def test_a_leak_as_a_feature_needs_anyway(report):
    run(report)
    written = report.with_name("report.roles.yaml")
    written.write_text(written.read_text().replace("Conv. rate: leak", "Conv. rate: number"))
    with pytest.raises(RequestError, match=r"makes Conv. rate a feature"):
        run(report, "--roles", written)
    assert run(report, "--roles", written, "--anyway").exit_code == 0


def test_the_facts_are_there_for_programs(report, tmp_path):
    facts = json.loads(run(report, "--json", "--out", tmp_path / "r.yaml").output)
    assert facts["rows"] == 20
    assert facts["roles"]["read"] == {
        "encoding": "utf-8", "separator": ",", "decimal": ".", "header_line": 2, "sheet": None, "totals": "drop",
    }  # fmt: skip
    assert facts["roles_file"] == str(tmp_path / "r.yaml")


def test_what_a_person_says_about_the_reading_goes_into_the_roles_file(tmp_path):
    report = tmp_path / "kosten.csv"
    report.write_text("Keyword;Klicks;Kosten\nshoes;10;1,234\nboots;7;2\n")
    with pytest.raises(TableError, match="can be read in two ways"):
        run(report)
    assert run(report, "--decimal", ",").exit_code == 0
    written = tmp_path / "kosten.roles.yaml"
    assert read_roles(written).read.decimal == ","
    assert run(report, "--roles", written).exit_code == 0


def test_a_missing_roles_file_is_refused(report, tmp_path):
    with pytest.raises(RequestError, match="cannot be read: No such file"):
        run(report, "--roles", tmp_path / "none.yaml")


def test_made_up_exports_are_written_in_all_shapes_and_can_be_read(tmp_path):
    arguments = ["sample", "--as", "amazon-sp", "--language", "fr", "--rows", "40", "--out", str(tmp_path)]
    done = CliRunner().invoke(scoring, arguments, catch_exceptions=False)
    names = [line.rpartition("/")[2] for line in done.output.splitlines()]
    assert names == ["amazon-sp.fr.csv", "amazon-sp.fr.bars.txt", "amazon-sp.fr.xlsx", "truth.csv"]
    assert len((tmp_path / "truth.csv").read_text().splitlines()) == 41
    for name in names[:3]:
        assert "40 rows" in run(tmp_path / name, "--out", tmp_path / f"{name}.roles.yaml").output


def test_made_up_exports_need_a_folder():
    with pytest.raises(RequestError, match="made-up exports are files of this machine"):
        CliRunner().invoke(scoring, ["sample", "--as", "google-ads"], catch_exceptions=False)
