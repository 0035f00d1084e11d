"""Templates are split into separators, headings, fields and a tail, or refused with all errors."""

from __future__ import annotations

import pytest
from pyspark.sql import types as T

from ptec_udf.errors import ConfigError
from ptec_udf.text.columns import column_errors
from ptec_udf.text.template import Field, Segment, parse_template, text_id

COMPANY = "Company name: {name}. Keywords: {tags}. Description: {one_liner} {long_description}"


class TestParsing:
    def test_words_before_a_field_are_separator_and_heading(self):
        template = parse_template(COMPANY)
        assert template.segments == (
            Segment("", "Company name: ", (Field("", "name"),)),
            Segment(". ", "Keywords: ", (Field("", "tags"),)),
            Segment(". ", "Description: ", (Field("", "one_liner"), Field(" ", "long_description"))),
        )
        assert template.tail == ""

    def test_text_after_the_last_field_is_the_tail(self):
        assert parse_template("{name} This company classifies into:").tail == " This company classifies into:"

    def test_doubled_braces_are_literal(self):
        template = parse_template("{{a}} {{{b}}} {c}}}")
        assert template.segments == (Segment("{", "a} {", (Field("", "b"), Field("} ", "c"))),)
        assert template.tail == "}"


class TestErrors:
    def test_are_listed_with_their_positions(self):
        with pytest.raises(ConfigError) as caught:
            parse_template("{name} {} } { {ok} { }")
        assert [error.split(";")[0] for error in caught.value.errors] == [
            "template has an empty field at character 8",
            "template has an unbalanced '}' at character 11",
            "template has an unbalanced '{' at character 13",
            "template has an empty field at character 20",
        ]

    @pytest.mark.parametrize("template", ["", "no field", "{{name}}"])
    def test_a_template_needs_a_field(self, template):
        with pytest.raises(ConfigError, match="at least one field"):
            parse_template(template)

    def test_wrong_columns_come_with_a_suggestion(self):
        schema = T.StructType([T.StructField(name, T.StringType()) for name in ("Name", "about")])
        schema.add("m", T.ArrayType(T.MapType(T.BinaryType(), T.StringType())))
        wanted = {"name": "name", "city": "town", "about": "about", "none": None, "m": "m"}
        assert column_errors(schema, wanted)[:-1] == [
            "the source has no column 'name'; did you mean 'Name'?",
            "'city': the source has no column 'town'",
            "columns of the source: 'Name', 'about', 'm'",
        ]
        assert "'m' of the source has variants or maps with binary or nested keys" in column_errors(schema, wanted)[-1]


def test_text_id_changes_with_template_columns_and_key():
    plain = text_id("{a}")
    others = [text_id("{a} "), text_id("{a}", {"a": "b"}), text_id("{a}", {"a": None}), text_id("{a}", key="b")]
    assert text_id("{a}", {"a": "a"}) == plain
    assert len({plain, *others}) == 5
