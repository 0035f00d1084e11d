-- SELECT * FROM ptec.why_changed('key of a company') ORDER BY changed_at   why it entered and left labels, over all nights
CREATE OR REPLACE FUNCTION {database}.why_changed(
  company STRING COMMENT 'key of the company'
)
RETURNS TABLE (
  changed_at TIMESTAMP COMMENT 'begin of the run that wrote it',
  label STRING COMMENT 'label that was entered or left',
  entered BOOLEAN COMMENT 'true: the company has the label now; false: it lost it',
  reason STRING COMMENT 'text, model, threshold, correction, new (company) or removed (company)',
  old_probability FLOAT COMMENT 'null if there was no score',
  new_probability FLOAT COMMENT 'null if there is no score any more',
  old_threshold FLOAT COMMENT 'null if the label was not known',
  new_threshold FLOAT COMMENT 'null if the label is not known any more',
  source_name STRING COMMENT 'name or path of the source table',
  source_version BIGINT COMMENT 'source version in which the change was seen',
  model STRING COMMENT 'name of the model of the new score',
  previous_model STRING COMMENT 'name of the model of the old score',
  run_id STRING COMMENT 'run that found the change'
)
COMMENT 'Why a company entered and left labels (definition {definition})'
RETURN
  SELECT
    c.changed_at, c.label, c.entered, c.reason, c.old_probability, c.new_probability, c.old_threshold, c.new_threshold,
    c.source_name, c.source_version, c.model, c.previous_model, c.run_id
  FROM {database}.why_changed AS c
  WHERE c.key = why_changed.company
