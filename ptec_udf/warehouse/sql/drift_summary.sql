-- A row a night and population of the champion: what its texts and labels are like, and whether to train again.
CREATE OR REPLACE VIEW {database}.drift_summary (
  night COMMENT 'begin of the run after which it was measured',
  population COMMENT 'all: every company that stands; fresh: new or with another text, where these are the fewer',
  companies COMMENT 'companies',
  labels_per_company COMMENT 'mean number of labels of a company, corrections applied',
  tokens_per_text COMMENT 'mean length of a text that was scored in tokens, those that were cut off among them',
  empty COMMENT 'share without a text, 0 to 1',
  truncated COMMENT 'share whose text was too long to be read whole',
  error COMMENT 'share without a score since something failed',
  languages COMMENT 'share of each language among companies with a text, told roughly',
  mix_psi_training COMMENT 'population stability index of how often labels are given beside each other, against the training extract; null: not compared',
  mix_psi_nights COMMENT 'the same against the nights before',
  drifted COMMENT 'what drifted over its limit that night, of either population, the farthest first',
  retrain COMMENT 'true: drift says that it is time to train again',
  run_id COMMENT 'run',
  model_id COMMENT 'model'
)
COMMENT 'Drift of nights, one a row and population'
TBLPROPERTIES ('ptec.definition' = '{definition}')
AS
SELECT
  d.night, d.population, d.companies, d.labels_per_company, d.tokens_per_text,
  coalesce(d.status['empty'], 0) / d.companies AS empty,
  coalesce(d.status['truncated'], 0) / d.companies AS truncated,
  coalesce(d.status['error'], 0) / d.companies AS error,
  transform_values(d.language, (name, n) -> n / d.told) AS languages,
  d.mix_psi_training, d.mix_psi_nights, r.drifted, r.retrain, d.run_id, d.model_id
FROM (
  SELECT
    run_id, model_id, population, max(measured_at) AS night,
    max(companies) FILTER (WHERE figure = 'status') AS companies,
    max(mean) FILTER (WHERE figure = 'labels') AS labels_per_company,
    max(mean) FILTER (WHERE figure = 'tokens') AS tokens_per_text,
    max(psi_training) FILTER (WHERE figure = 'mix') AS mix_psi_training,
    max(psi_nights) FILTER (WHERE figure = 'mix') AS mix_psi_nights,
    first(counts) FILTER (WHERE figure = 'status') AS status,
    first(counts) FILTER (WHERE figure = 'language') AS language,
    max(companies) FILTER (WHERE figure = 'language') AS told
  FROM {database}.drift
  WHERE figure <> 'probability'
  GROUP BY run_id, model_id, population
) AS d
JOIN (
  SELECT run_id, max_by(drifted, ended) AS drifted, max_by(retrain, ended) AS retrain FROM {database}.runs
  WHERE outcome = 'done' AND alias = 'champion' GROUP BY run_id
) AS r ON r.run_id = d.run_id
