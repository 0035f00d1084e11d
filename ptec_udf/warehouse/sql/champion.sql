-- One row: the model whose scores everybody sees. No row before the first promotion.
CREATE OR REPLACE VIEW {database}.champion (
  model_id COMMENT 'champion',
  model COMMENT 'name given at registration',
  since COMMENT 'moment of the move',
  who COMMENT 'person or job that moved it',
  why COMMENT 'reason given',
  gate COMMENT 'first, passed, or forced with the rules that were broken; null for a rollback',
  backbone COMMENT 'frozen language model, as hf:, path: or pypi:; null: none, TF-IDF',
  extract_source COMMENT 'table that the extract was made from',
  extract_version COMMENT 'version of that table',
  labels COMMENT 'label names in the order of the logits',
  mean_dev_f1 COMMENT 'mean of dev_f1 over the labels; null if not measured',
  created COMMENT 'end of training'
)
COMMENT 'The champion'
AS
SELECT
  a.model_id, m.name AS model, a.at AS since, a.who, a.why, a.gate, m.backbone, m.extract_source, m.extract_version,
  m.labels, l.mean_dev_f1, m.created
FROM {database}.aliases AS a
LEFT JOIN {database}.models AS m ON m.model_id = a.model_id
LEFT JOIN (
  SELECT model_id, avg(dev_f1) AS mean_dev_f1 FROM {database}.labels GROUP BY model_id
) AS l ON l.model_id = a.model_id
WHERE a.alias = 'champion' AND a.at = (SELECT max(at) FROM {database}.aliases WHERE alias = 'champion')
