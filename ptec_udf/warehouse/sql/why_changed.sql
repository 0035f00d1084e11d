-- Why a company entered or left a label: both probabilities, both thresholds, both models, source version and run.
CREATE OR REPLACE VIEW {database}.why_changed (
  key COMMENT 'company',
  label COMMENT 'label that was entered or left',
  entered COMMENT 'true: the company has the label now; false: it lost it',
  reason COMMENT 'text, model, threshold, correction, new (company) or removed (company)',
  old_probability COMMENT 'null if there was no score',
  new_probability COMMENT 'null if there is no score any more',
  old_threshold COMMENT 'null if the label was not known',
  new_threshold COMMENT 'null if the label is not known any more',
  source_name COMMENT 'name or path of the source table',
  source_version COMMENT 'source version in which the change was seen',
  changed_at COMMENT 'begin of the run that wrote it',
  run_id COMMENT 'run that found the change',
  model_id COMMENT 'model of the new score',
  model COMMENT 'its name',
  previous_model_id COMMENT 'model of the old score',
  previous_model COMMENT 'its name'
)
COMMENT 'Companies that entered or left a label, and why'
TBLPROPERTIES ('ptec.definition' = '{definition}')
AS
SELECT
  c.key, c.label, c.entered, c.reason,
  c.old_probability, c.new_probability, c.old_threshold, c.new_threshold,
  r.source_name, c.source_version, c.changed_at, c.run_id,
  c.model_id, m.name AS model, c.previous_model_id, p.name AS previous_model
FROM {database}.score_changes AS c
JOIN (
  -- Of runs that came to their end, since changes are written before the scores that they explain; and of the
  -- champion, since screens show no other.
  SELECT run_id, max_by(source_name, ended) AS source_name FROM {database}.runs WHERE outcome = 'done' AND alias = 'champion'
  GROUP BY run_id
) AS r ON r.run_id = c.run_id
LEFT JOIN {database}.models AS m ON m.model_id = c.model_id
LEFT JOIN {database}.models AS p ON p.model_id = c.previous_model_id
