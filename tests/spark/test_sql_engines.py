"""DuckDB answers as Spark does: every view, every query of the documents."""

from __future__ import annotations

from typing import Any

import pytest

from ptec_jobs.site import Site as SiteFile
from ptec_jobs.sql import on_duckdb, on_spark
from ptec_jobs.sql.answer import Answer
from ptec_udf.config import WarehouseConfig
from ptec_udf.errors import SourceError, UntranslatableError
from ptec_udf.warehouse.view_files import VIEWS
from ptec_udf.warehouse.views import create_views
from tests.documents.pages import blocks
from tests.site import write_site
from tests.spark.support import Site, warehouse_section
from tests.tiny import LABELS

AGE = ("hours_since_run", "hours_since_score")  # grow between two questions
ELSEWHERE = ("INSERT", "DELETE", "DESCRIBE HISTORY", "UPDATE", "CREATE")
QUERIES = [
    *(pytest.param(f"SELECT * FROM ptec.{view}", id=view) for view in VIEWS),
    *(
        pytest.param(f"SELECT * FROM ptec.screen('Insurance', {least})", id=f"screen {least}")
        for least in ("NULL", 0.3)
    ),
    pytest.param("SELECT count(*), sum(n_tokens), avg(n_tokens) / 3 FROM ptec.scores", id="sums"),
    pytest.param("SELECT 'it''s' AS a, 'say \"no\"' AS b, 'a\\'b' AS c", id="quotes"),
    pytest.param("SELECT key AS k, key AS k FROM ptec.scores", id="same name"),
    *(
        pytest.param(one.strip(), id=f"{block.name} {at}")
        for block in blocks("sql")
        for at, one in enumerate(block.text.split(";"))
        if one.strip()
    ),
]


class Both:
    """Ask both engines of a site."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.file = SiteFile(write_site(site.folder, warehouse=warehouse_section(site)))
        self.config: WarehouseConfig = self.file.warehouse

    def local(self, query: str) -> str:
        """Name a database, a table and labels of the tests in place of the documents'."""
        query = query.replace("ptec.", f"{self.site.database}.").replace("c.symbol", "c.key")
        return query.replace("'Insurance'", f"'{LABELS[0]}'").replace("'Education'", f"'{LABELS[1]}'")

    def duckdb(self, query: str) -> Answer:
        return on_duckdb.answer(self.config, self.local(query), None)

    def spark(self, query: str) -> Answer:
        return on_spark.answer(self.file, self.local(query), None)


@pytest.fixture
def both(changed: Site) -> Both:
    """A site with changes, corrections and a table of companies as in the documents."""
    changed.correct(("c0001", LABELS[0], True), ("c0002", LABELS[1], False))
    changed.run()
    create_views(changed.spark, changed.database)
    changed.sql("CREATE TABLE {db}.startups USING delta AS SELECT key AS company_id, name, about FROM {db}.companies")
    return Both(changed)


def normal(value: Any) -> Any:
    """Make values comparable: sums of floats depend on the order, and a mapping has none."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, list):
        return [normal(one) for one in value]
    return {name: normal(value[name]) for name in sorted(value)} if isinstance(value, dict) else value


def test_answers_are_equal(both: Both) -> None:
    """One test for all queries: the site takes longer than they do."""
    told, n_rows = {}, 0
    for parameter in QUERIES:
        query = str(parameter.values[0])
        if query.startswith(ELSEWHERE) or "VERSION AS OF" in query:
            with pytest.raises(UntranslatableError):
                both.duckdb(query)
            continue
        found, expected = both.duckdb(query), both.spark(query)
        assert found.names == expected.names, query
        rows = [
            sorted(repr(normal({name: value for name, value in row.items() if name not in AGE})) for row in answer.rows)
            for answer in (found, expected)
        ]
        assert rows[0] == rows[1], query
        told[parameter.id], n_rows = len(rows[0]), n_rows + len(rows[0])
    assert [view for view in VIEWS if not told[view]] == ["label_drift", "drift_summary"]  # drift was not measured
    assert n_rows > 500


def test_tables_are_read_again_for_each_statement(both: Both) -> None:
    query = "SELECT count(*) AS n FROM ptec.corrections"
    assert both.duckdb(query).rows == [{"n": 2}]
    both.site.correct(("c0003", LABELS[0], True))
    assert both.duckdb(query).rows == [{"n": 3}]


def test_unknown_names_are_corrected(both: Both) -> None:
    for query, remedy in {
        "SELECT keyy FROM ptec.scores": "no table or column 'keyy'; did you mean 'key'?",
        "SELECT * FROM ptec.label_score": "no table or column 'label_score'; did you mean 'label_scores'?",
        "DESCRIBE zzz": "no table or column 'zzz'; SHOW TABLES lists all",
    }.items():
        with pytest.raises(SourceError) as raised:
            both.duckdb(query)
        assert remedy in str(raised.value)
