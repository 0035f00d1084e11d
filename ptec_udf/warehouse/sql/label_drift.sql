-- A row a label and night of the champion: how its probabilities stand, and how far they are from what they were.
CREATE OR REPLACE VIEW {database}.label_drift (
  night COMMENT 'begin of the run after which it was measured',
  population COMMENT 'all: every company that stands; fresh: new or with another text, where these are the fewer',
  label COMMENT 'label as the taxonomy spells it',
  companies COMMENT 'companies with a probability',
  share COMMENT 'share of them at or over the threshold, 0 to 1',
  mean_probability COMMENT 'mean of their probabilities',
  psi_training COMMENT 'population stability index against the training extract; from 0.25 on a great change, where chance does not explain it; null: not compared',
  psi_nights COMMENT 'the same against the nights before',
  violated COMMENT 'references from which it is farther than it may be: training, nights',
  corrected COMMENT 'companies of which an analyst said whether they have the label; null: none',
  corrected_true COMMENT 'those of them that have it',
  corrected_expected COMMENT 'how many of them should have it by their probabilities',
  run_id COMMENT 'run',
  model_id COMMENT 'model'
)
COMMENT 'Drift of labels, one a row and night'
TBLPROPERTIES ('ptec.definition' = '{definition}')
AS
SELECT
  d.measured_at AS night, d.population, d.label, d.companies, d.share, d.mean AS mean_probability,
  d.psi_training, d.psi_nights, d.violated, d.corrected, d.corrected_true, d.corrected_expected, d.run_id, d.model_id
FROM {database}.drift AS d
LEFT SEMI JOIN {database}.runs AS r ON r.run_id = d.run_id AND r.outcome = 'done' AND r.alias = 'champion'
WHERE d.figure = 'probability'
