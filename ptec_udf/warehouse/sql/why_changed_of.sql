-- SELECT * FROM ptec.why_changed('key of a company') ORDER BY changed_at   its changes over all runs
CREATE OR REPLACE FUNCTION {database}.why_changed(
  company STRING COMMENT 'key of the company'
)
RETURNS TABLE (
  changed_at TIMESTAMP COMMENT 'start of the run',
  label STRING COMMENT 'label that the company entered or left',
  entered BOOLEAN COMMENT 'true: the company has the label now; false: it had it before',
  reason STRING COMMENT 'text, model, threshold, correction, new (company) or removed (company)',
  old_probability FLOAT COMMENT 'null without an old score',
  new_probability FLOAT COMMENT 'null without a new score',
  old_threshold FLOAT COMMENT 'null if the old model lacks the label',
  new_threshold FLOAT COMMENT 'null if the new model lacks the label',
  source_name STRING COMMENT 'name or path of the source',
  source_version BIGINT COMMENT 'source version of the run; null if the source keeps no versions',
  model STRING COMMENT 'name of the model of the new score',
  previous_model STRING COMMENT 'name of the model of the old score',
  run_id STRING COMMENT 'run that made the change'
)
COMMENT 'Labels that a company entered and left, and why'
RETURN
  SELECT
    c.changed_at, c.label, c.entered, c.reason, c.old_probability, c.new_probability, c.old_threshold, c.new_threshold,
    c.source_name, c.source_version, c.model, c.previous_model, c.run_id
  FROM {database}.why_changed AS c
  WHERE c.key = why_changed.company
