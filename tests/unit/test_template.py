"""Templates are split into separators, headings, fields and a tail, or refused with every fault."""

from __future__ import annotations

import pytest

from ptec_udf.errors import ConfigError
from ptec_udf.text.template import Field, Segment, missing_columns, parse_template, text_id

COMPANY = "Company name: {name}. Keywords: {tags}. Description: {one_liner} {long_description}"


def test_words_before_a_field_are_its_separator_and_heading() -> None:
    template = parse_template(COMPANY)

    assert template.segments == (
        Segment("", "Company name: ", (Field("", "name"),)),
        Segment(". ", "Keywords: ", (Field("", "tags"),)),
        Segment(". ", "Description: ", (Field("", "one_liner"), Field(" ", "long_description"))),
    )
    assert template.tail == ""
    assert template.text == COMPANY


def test_what_follows_the_last_field_is_the_tail() -> None:
    assert parse_template("{name} This company classifies into:").tail == " This company classifies into:"


def test_fields_are_listed_once_in_the_order_of_the_template() -> None:
    assert parse_template("{b} {a} {b}").fields == ("b", "a")


@pytest.mark.parametrize("name", ["a.b", "my column", 'it\'s "quoted"', "a`b", "a: b", "会社名", "1", " padded "])
def test_a_field_may_have_any_name_without_braces(name: str) -> None:
    assert parse_template("x {" + name + "}").fields == (name,)


def test_doubled_braces_are_literal() -> None:
    template = parse_template("{{a}} {{{b}}} {c}}}")

    assert template.segments == (Segment("{", "a} {", (Field("", "b"), Field("} ", "c"))),)
    assert template.fields == ("b", "c")
    assert template.tail == "}"


@pytest.mark.parametrize(
    ("literal", "separator", "heading"), [(" | Ärzte: ", " | ", "Ärzte: "), ("。業種: ", "。", "業種: ")]
)
def test_letters_of_any_script_begin_a_heading(literal: str, separator: str, heading: str) -> None:
    assert parse_template("{a}" + literal + "{b}").segments[1] == Segment(separator, heading, (Field("", "b"),))


def test_all_faults_are_listed_with_their_places() -> None:
    with pytest.raises(ConfigError) as error:
        parse_template("{name} {} } { {ok} { }")

    assert [fault.split(";")[0] for fault in error.value.errors] == [
        "template has an empty field at character 8",
        "template has an unbalanced '}' at character 11",
        "template has an unbalanced '{' at character 13",
        "template has an empty field at character 20",
    ]


@pytest.mark.parametrize("template", ["", "no field", "{{name}}"])
def test_a_template_without_a_field_is_refused(template: str) -> None:
    with pytest.raises(ConfigError, match="at least one field"):
        parse_template(template)


def test_missing_columns_are_named_with_what_was_meant_and_what_is_there() -> None:
    faults = missing_columns(["Name", "about"], {"name": "name", "city": "town", "about": "about", "none": None})

    assert faults == [
        "the source has no column 'name'; did you mean 'Name'?",
        "'city': the source has no column 'town'",
        "columns of the source: 'Name', 'about'",
    ]


def test_text_id_changes_with_template_and_columns_only() -> None:
    plain = text_id("{a}")

    assert plain == text_id("{a}", {"a": "a"})
    assert (
        len({plain, text_id("{a} "), text_id("{a}", {"a": "b"}), text_id("{a}", {"a": None}), text_id("{a}", key="b")})
        == 5
    )
