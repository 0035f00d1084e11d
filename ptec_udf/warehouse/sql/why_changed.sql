-- Why a company entered or left a label: probabilities, thresholds and models before and after, source version, run.
CREATE OR REPLACE VIEW {database}.why_changed (
  key COMMENT 'company',
  label COMMENT 'label that the company entered or left',
  entered COMMENT 'true: the company has the label now; false: it had it before',
  reason COMMENT 'text, model, threshold, correction, new (company) or removed (company)',
  old_probability COMMENT 'null without an old score',
  new_probability COMMENT 'null without a new score',
  old_threshold COMMENT 'null if the old model lacks the label',
  new_threshold COMMENT 'null if the new model lacks the label',
  source_name COMMENT 'name or path of the source',
  source_version COMMENT 'source version of the run; null if the source keeps no versions',
  changed_at COMMENT 'start of the run',
  run_id COMMENT 'run that made the change',
  model_id COMMENT 'model of the new score',
  model COMMENT 'its name',
  previous_model_id COMMENT 'model of the old score',
  previous_model COMMENT 'its name'
)
COMMENT 'Companies that entered or left a label of the champion, and why'
AS
SELECT
  c.key, c.label, c.entered, c.reason,
  c.old_probability, c.new_probability, c.old_threshold, c.new_threshold,
  r.source_name, c.source_version, c.changed_at, c.run_id,
  c.model_id, m.name AS model, c.previous_model_id, p.name AS previous_model
FROM {database}.score_changes AS c
-- Screens show the champion only, and changes of a run count once it is done.
JOIN {database}.runs AS r ON r.run_id = c.run_id AND r.outcome = 'done' AND r.alias = 'champion'
LEFT JOIN {database}.models AS m ON m.model_id = c.model_id
LEFT JOIN {database}.models AS p ON p.model_id = c.previous_model_id
