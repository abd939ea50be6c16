"""Roles of columns: inferred from names and values, written to a file, corrected by hand, and checked."""

import pytest

from shared.errors import RequestError, TableError
from shared.exports.describing import describe_outcomes
from shared.exports.known_names import Concept, concept_of
from shared.exports.reading import read_export_bytes
from shared.exports.roles.checks import check_roles
from shared.exports.roles.inference import infer_roles
from shared.exports.roles.roles_file import ColumnRole, Roles, parse_roles, roles_text

NAMES = "Keyword,Campaign,Match type,Device,Clicks,Interactions,Cost,Conversions,Conv. rate,Shop value,Currency,Label,Note"
ROW = "{term},{campaign},Exact,Computers,{clicks},{clicks},{cost},{conversions},{rate},{value},EUR,{label},"


def table(rows=60, **changes):
    lines = [NAMES]
    for number in range(rows):
        clicks, conversions = 10 + number % 7, number % 3
        lines.append(
            ROW.format(
                term=f"term {number}",
                campaign=f"C{number % 2}",
                clicks=clicks,
                cost=f"{clicks * 0.31 + number / 7:.2f}",
                conversions=conversions,
                rate=f"{100 * conversions / clicks:.2f}%",
                value=f"{conversions * 19.5:.2f}",
                label=f"L{number % 4}",
            )
        )
    text = "\n".join(lines) + "\n"
    for old, new in changes.items():
        text = text.replace(old, new)
    return read_export_bytes(text.encode(), "report.csv")


def test_each_column_gets_a_role_with_its_reason():
    inferred = infer_roles(table())
    roles = inferred.roles
    assert (roles.clicks, roles.conversions, roles.keyword, roles.keys) == ("Clicks", "Conversions", "Keyword", ("Keyword",))
    assert {name: (str(role), inferred.reasons[name]) for name, role in roles.columns.items()} == {
        "Keyword": ("text", "known name: keyword"),
        "Campaign": ("group", "known name: campaign"),
        "Match type": ("ignore", "it has one value"),
        "Device": ("ignore", "it has one value"),
        "Interactions": ("ignore", "it repeats Clicks"),
        "Cost": ("number", "known name: cost"),
        "Conv. rate": ("leak", "it is known only with the conversions"),
        "Shop value": ("leak", "it is above 0 exactly where there are conversions"),
        "Currency": ("ignore", "known name: a date, a status or a currency"),
        "Label": ("category", "it has 4 different values"),
        "Note": ("ignore", "it is empty"),
    }
    assert inferred.repeated_rows == 0


def test_a_rate_under_any_name_is_a_leak():
    inferred = infer_roles(table(**{"Conv. rate": "Success"}))
    assert inferred.roles.columns["Success"] == ColumnRole.LEAK


def test_keys_are_the_fewest_columns_that_tell_rows_apart():
    text = "Search term,Match type,Campaign,Clicks\nshoes,Exact,A,3\nshoes,Broad,A,4\nboots,Exact,A,1\n"
    inferred = infer_roles(read_export_bytes(text.encode(), "report.csv"))
    assert inferred.roles.keys == ("Search term", "Match type")
    assert inferred.roles.conversions is None
    repeated = infer_roles(read_export_bytes((text + "boots,Exact,A,2\n").encode(), "report.csv"))
    assert repeated.repeated_rows == 1


def test_the_keyword_of_unknown_names_is_the_text_with_the_most_values():
    text = "Shop,Word,Clicks\n" + "".join(f"S{number % 3},word {number},{number}\n" for number in range(80))
    roles = infer_roles(read_export_bytes(text.encode(), "report.csv")).roles
    assert roles.keyword == "Word"
    assert roles.columns == {"Shop": ColumnRole.CATEGORY, "Word": ColumnRole.TEXT}


def test_a_roles_file_says_what_its_reader_reads():
    export = table(**{"Label": '"Label: a, [b] #1 ""ü"""', "Note": "'1:30"})
    inferred = infer_roles(export)
    text = roles_text(inferred.roles, inferred.reasons)
    assert parse_roles(text.encode(), "report.roles.yaml") == inferred.roles
    assert "  Conv. rate: leak  # it is known only with the conversions" in text.splitlines()
    assert "  separator: ','" in text.splitlines()


def roles_with(**columns) -> Roles:
    roles = infer_roles(table()).roles
    return Roles.model_validate(roles.model_dump() | {"columns": {**roles.columns, **columns}})


def test_a_leak_as_a_feature_is_refused_unless_a_person_insists():
    for name in ("Conv. rate", "Shop value"):
        roles = roles_with(**{name: "number"})
        with pytest.raises(RequestError, match=rf"makes {name} a feature, but it is known only with the conversions"):
            check_roles(roles, table(), "report.roles.yaml")
        check_roles(roles, table(), "report.roles.yaml", anyway=True)


def test_the_roles_of_another_table_are_refused():
    roles = infer_roles(table()).roles
    with pytest.raises(TableError, match=r"lacks the column Label, which r.yaml names: is it the roles file of another table"):
        check_roles(roles, table(**{"Label": "Sign"}), "r.yaml")
    smaller = Roles.model_validate(
        roles.model_dump() | {"columns": {name: role for name, role in roles.columns.items() if name != "Label"}}
    )
    with pytest.raises(TableError, match=r"r.yaml says nothing about the column Label of report.csv"):
        check_roles(smaller, table(), "r.yaml")


def test_a_text_that_is_called_a_number_is_refused():
    with pytest.raises(TableError, match=r"says that Label is a number, but report.csv has texts there, such as 'L0'"):
        check_roles(roles_with(Label="number"), table(), "r.yaml")


def test_exchanged_roles_are_refused():
    roles = infer_roles(table()).roles
    exchanged = Roles.model_validate(roles.model_dump() | {"clicks": "Conversions", "conversions": "Clicks"})
    with pytest.raises(TableError, match="are the two exchanged"):
        check_roles(exchanged, table(), "r.yaml")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("clicks: [", "it is not YAML"),
        ("clicks: Clicks", "invalid in keyword: Field required"),
        ("clicks: A\nconversions: A\nkeyword: K\nkeys: [K]\ncolumns: {K: text}", "clicks and conversions must be two columns"),
        ("clicks: A\nkeyword: K\nkeys: [K]\ncolumns: {A: number, K: text}", "'A' has two roles"),
        ("clicks: A\nkeyword: K\nkeys: [X]\ncolumns: {K: text}", "'X' names rows, so it must be one of the columns"),
        ("clicks: A\nkeyword: K\nkeys: [K, K]\ncolumns: {K: text}", "a column is there twice in keys"),
        ("clicks: A\nkeyword: K\nkeys: [K]\ncolumns: {K: word}", "invalid in columns.K"),
        ("clicks: A\nkeyword: K\nkeys: [K]\ncolumns: {K: text}\nread: {decimal: x}", "invalid in read.decimal"),
        ("clicks: A\nkeyword: K\nkeys: [K]\ncolumns: {K: text}\nweights: 3", "invalid in weights"),
    ],
)
def test_an_invalid_roles_file_is_refused_with_its_field(text, reason):
    with pytest.raises(RequestError) as raised:
        parse_roles(text.encode(), "r.yaml")
    assert reason in raised.value.message
    assert raised.value.next_step == "Correct r.yaml, or write it again: scoring columns FILE"


def test_conversions_above_the_clicks_of_their_row_are_counted():
    text = "Keyword,Clicks,Conversions\na,10,2.5\nb,1,3.5\nc,0,1\nd,20,1\n"
    export = read_export_bytes(text.encode(), "report.csv")
    assert describe_outcomes(export, infer_roles(export).roles) == (
        "3 rows have clicks. 4.5 of 8 conversions count: 3.5 are above the clicks of their row."
    )


@pytest.mark.parametrize(
    ("name", "concept"),
    [
        ("Impr.", Concept.IMPRESSIONS),
        ("Klicks", Concept.CLICKS),
        ("Conv.-Rate", Concept.OUTCOME),
        ("Kosten/Conv.", Concept.OUTCOME),
        ("COST / CONV.", Concept.OUTCOME),
        ("Mot-clé", Concept.KEYWORD),
        ("Groupe d’annonces", Concept.AD_GROUP),
        ("Coste (EUR)", Concept.COST),
        ("7 Day Total Sales ($)", Concept.OUTCOME_COUNT),
        ("7 Day Total Orders (#)", Concept.CONVERSIONS),
        ("Amount spent (USD)", Concept.COST),
        ("Dispositivo", Concept.DEVICE),
        ("Anything", None),
    ],
)
def test_names_are_known_in_any_case_with_units_accents_and_abbreviations(name, concept):
    assert concept_of(name) == concept
