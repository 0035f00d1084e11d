-- One row a run, with what a person looks at first.
CREATE OR REPLACE VIEW {database}.run_summary (
  run_id COMMENT 'run',
  command COMMENT 'command, for instance score',
  outcome COMMENT 'running, done, nothing_to_do, superseded, failed or interrupted',
  error COMMENT 'why it failed or was skipped; null otherwise',
  started COMMENT 'begin',
  seconds COMMENT 'from begin to end',
  source_name COMMENT 'name or path of the source table',
  source_version COMMENT 'source version that was read',
  alias COMMENT 'alias that chose the model; null if it was named by id',
  model_id COMMENT 'model',
  model COMMENT 'name of the model',
  companies COMMENT 'rows written, removed companies included; 0 of a run that failed, whose errors are in counts',
  counts COMMENT 'companies by status',
  skipped COMMENT 'companies left as they were',
  reused COMMENT 'companies whose text had a score already',
  tokens COMMENT 'tokens read by the model',
  padding COMMENT 'share of text positions that were padding, 0 to 1',
  rows_per_second COMMENT 'texts scored per second of scoring',
  dtype COMMENT 'arithmetic of the backbone; null if nothing was to be scored',
  drifted COMMENT 'what drifted over its limit, the farthest first; null if that was not measured',
  retrain COMMENT 'true: drift says that it is time to train again'
)
COMMENT 'Runs, one a row'
TBLPROPERTIES ('ptec.definition' = '{definition}')
AS
SELECT
  r.run_id, r.command, r.outcome, r.error, r.started,
  CAST(r.ended AS DOUBLE) - CAST(r.started AS DOUBLE) AS seconds,
  r.source_name, r.source_version, r.alias, r.model_id, m.name AS model,
  CASE WHEN r.outcome = 'failed' THEN 0L
    ELSE aggregate(map_values(map_filter(r.counts, (status, rows) -> status <> 'null_key')), 0L, (total, rows) -> total + rows)
  END AS companies,
  r.counts, r.skipped, r.reused, r.tokens, r.padding, r.rows_per_second, r.dtype,
  r.drifted, r.retrain
FROM {database}.runs AS r
LEFT JOIN {database}.models AS m ON m.model_id = r.model_id
