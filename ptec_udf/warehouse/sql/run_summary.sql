-- One row for each run.
CREATE OR REPLACE VIEW {database}.run_summary (
  run_id COMMENT 'run',
  outcome COMMENT 'running, done, nothing_to_do, superseded, failed or interrupted',
  error COMMENT 'why the run failed',
  started COMMENT 'start',
  seconds COMMENT 'duration; null while the run is running',
  source_name COMMENT 'name or path of the source',
  source_version COMMENT 'source version that was read; null if the source keeps no versions',
  alias COMMENT 'alias that chose the model; null if the model was named by id',
  model_id COMMENT 'model',
  model COMMENT 'name of the model',
  companies COMMENT 'rows written, removed companies included; 0 for a failed run, whose errors are in counts',
  counts COMMENT 'companies by status',
  skipped COMMENT 'companies left unchanged',
  reused COMMENT 'companies whose text had a score already',
  tokens COMMENT 'tokens that the model read',
  padding COMMENT 'share of the positions of the model that were padding, 0 to 1',
  rows_per_second COMMENT 'texts scored per second of scoring',
  dtype COMMENT 'dtype of the backbone; null if no text was to be scored',
  drifted COMMENT 'what drifted over its limit, the farthest first; null if not measured',
  retrain COMMENT 'true: drift says that it is time to retrain'
)
COMMENT 'Runs, one a row'
TBLPROPERTIES ('ptec.definition' = '{definition}')
AS
SELECT
  r.run_id, r.outcome, r.error, r.started,
  (unix_micros(r.ended) - unix_micros(r.started)) / 1000000 AS seconds,
  r.source_name, r.source_version, r.alias, r.model_id, m.name AS model,
  CASE WHEN r.outcome = 'failed' THEN 0L
    ELSE aggregate(map_values(r.counts), 0L, (total, rows) -> total + rows) - coalesce(r.counts['null_key'], 0L)
  END AS companies,
  r.counts, r.skipped, r.reused, r.tokens, r.padding, r.rows_per_second, r.dtype,
  r.drifted, r.retrain
FROM {database}.runs AS r
LEFT JOIN {database}.models AS m ON m.model_id = r.model_id
