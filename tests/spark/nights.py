"""What tests of the run's inside share; see ``support`` for sites."""

from __future__ import annotations

from tests.spark.support import SOURCE_SCHEMA as SCHEMA
from tests.spark.support import Site, changed_companies, companies

__all__ = ["SCHEMA", "Site", "changed_companies", "companies"]
