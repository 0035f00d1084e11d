-- A row for each run and population of the champion: texts, labels and whether it is time to retrain.
CREATE OR REPLACE VIEW {database}.drift_summary (
  started COMMENT 'start of the run',
  population COMMENT 'all: active companies; fresh: new or with another text, if fewer than half',
  companies COMMENT 'companies',
  labels_per_company COMMENT 'mean number of labels at or over their threshold',
  tokens_per_text COMMENT 'mean tokens of a scored text, truncated tokens included',
  empty COMMENT 'share of companies without a text, 0 to 1',
  truncated COMMENT 'share of companies whose text was cut, 0 to 1',
  error COMMENT 'share of companies without a score because of an error, 0 to 1',
  mix_psi_training COMMENT 'population stability index of the label mix against the training extract; null: not compared',
  mix_psi_runs COMMENT 'population stability index of the label mix against earlier runs; null: not compared',
  drifted COMMENT 'figures of both populations over a limit, the largest excess first',
  retrain COMMENT 'whether it is time to retrain',
  run_id COMMENT 'run',
  model_id COMMENT 'model'
)
COMMENT 'Drift of runs: a row for each run and population'
AS
SELECT
  d.started, d.population, d.companies, d.labels_per_company, d.tokens_per_text,
  coalesce(d.status['empty'], 0) / d.companies AS empty,
  coalesce(d.status['truncated'], 0) / d.companies AS truncated,
  coalesce(d.status['error'], 0) / d.companies AS error,
  d.mix_psi_training, d.mix_psi_runs, r.drifted, r.retrain, d.run_id, d.model_id
FROM (
  SELECT
    run_id, model_id, population, max(measured_at) AS started,
    max(companies) FILTER (WHERE figure = 'status') AS companies,
    max(mean) FILTER (WHERE figure = 'mix') AS labels_per_company,
    max(mean) FILTER (WHERE figure = 'tokens') AS tokens_per_text,
    max(psi_training) FILTER (WHERE figure = 'mix') AS mix_psi_training,
    max(psi_runs) FILTER (WHERE figure = 'mix') AS mix_psi_runs,
    first(counts) FILTER (WHERE figure = 'status') AS status
  FROM {database}.drift
  WHERE figure <> 'probability'
  GROUP BY run_id, model_id, population
) AS d
JOIN (
  SELECT run_id, max_by(drifted, ended) AS drifted, max_by(retrain, ended) AS retrain FROM {database}.runs
  WHERE outcome = 'done' AND alias = 'champion' GROUP BY run_id
) AS r ON r.run_id = d.run_id
