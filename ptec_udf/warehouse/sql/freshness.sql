-- One row: when the champion's scores were last checked against the source, and how old the newest score is.
CREATE OR REPLACE VIEW {database}.freshness (
  model_id COMMENT 'champion',
  model COMMENT 'name given at registration',
  last_run COMMENT 'start of the last run that ended without an error; null: no run yet',
  outcome COMMENT 'its outcome, done or nothing_to_do',
  source_name COMMENT 'name or path of the source',
  source_version COMMENT 'source version that was read; null if the source keeps no versions',
  companies COMMENT 'companies that are in the source',
  with_score COMMENT 'companies among them that have a score',
  newest_score COMMENT 'start of the run that wrote the newest score',
  hours_since_run COMMENT 'hours since last_run',
  hours_since_score COMMENT 'hours since newest_score; it grows while no text changes'
)
COMMENT 'How fresh the scores of the champion are'
AS
SELECT
  c.model_id, c.model, r.started AS last_run, r.outcome, r.source_name, r.source_version,
  s.companies, s.with_score, s.newest_score,
  (unix_micros(current_timestamp()) - unix_micros(r.started)) / 3600000000 AS hours_since_run,
  (unix_micros(current_timestamp()) - unix_micros(s.newest_score)) / 3600000000 AS hours_since_score
FROM {database}.champion AS c
LEFT JOIN (
  SELECT
    model_id, started, outcome, source_name, source_version,
    row_number() OVER (PARTITION BY model_id ORDER BY started DESC) AS age
  FROM {database}.runs
  WHERE outcome IN ('done', 'nothing_to_do') AND alias = 'champion'
) AS r ON r.model_id = c.model_id AND r.age = 1
CROSS JOIN (
  SELECT count(*) AS companies, count(probabilities) AS with_score, max(scored_at) AS newest_score
  FROM {database}.current_scores
) AS s
