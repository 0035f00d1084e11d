"""Errors have stable codes, and all user errors are reported at once."""

from __future__ import annotations

from ptec_udf import errors
from ptec_udf.errors import ConfigError, PtecError, SourceError, collect_errors, did_you_mean


class TestErrors:
    def test_have_codes_of_their_own_and_a_meaning(self):
        kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PtecError)]
        codes = [kind.code for kind in kinds]
        assert len(set(codes)) == len(codes) > 10
        assert [code for code in codes if not code.startswith("PTEC-E")] == []
        assert [kind for kind in kinds if not (kind.__doc__ or "").strip()] == []

    def test_are_collected(self):
        errors = []
        with collect_errors(errors, "space: "):
            raise ConfigError(["a", "b"])
        with collect_errors(errors):
            raise SourceError("c")
        assert errors == ["space: a", "space: b", "c"]


class TestMessages:
    def test_suggest_the_nearest_name(self):
        assert did_you_mean("LABLES", ["labels", "logits"]) == "did you mean 'labels'?"
        assert did_you_mean("zzz", ["labels"], "known: labels") == "known: labels"
