-- A row for each label and run of the champion.
CREATE OR REPLACE VIEW {database}.label_drift (
  started COMMENT 'start of the run',
  population COMMENT 'all: active companies; fresh: new or with another text, if fewer than half',
  label COMMENT 'label as the taxonomy spells it',
  companies COMMENT 'companies with a probability',
  share COMMENT 'share of them at or over the threshold, 0 to 1',
  mean_probability COMMENT 'mean of their probabilities',
  psi_training COMMENT 'population stability index against the training extract; null: not compared',
  psi_runs COMMENT 'population stability index against earlier runs; null: not compared',
  violated COMMENT 'references against which a limit is exceeded: training, runs; it accounts for chance',
  run_id COMMENT 'run',
  model_id COMMENT 'model'
)
COMMENT 'Drift of labels: a row for each label, run and population'
AS
SELECT
  d.measured_at AS started, d.population, d.label, d.companies, d.share, d.mean AS mean_probability,
  d.psi_training, d.psi_runs, d.violated, d.run_id, d.model_id
FROM {database}.drift AS d
LEFT SEMI JOIN {database}.runs AS r ON r.run_id = d.run_id AND r.outcome = 'done' AND r.alias = 'champion'
WHERE d.figure = 'probability'
