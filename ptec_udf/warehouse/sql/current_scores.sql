-- One row a company that is in the source now, under the model that the alias champion points to.
CREATE OR REPLACE VIEW {database}.current_scores (
  key COMMENT 'company',
  model_id COMMENT 'champion',
  status COMMENT 'ok, truncated (too long, so not all of it was read), empty (no text) or error',
  labels COMMENT 'labels whose probability is at or over their threshold, corrections applied',
  probabilities COMMENT 'one calibrated probability a label, in the order of position in labels',
  logits COMMENT 'one raw score a label, in the same order',
  n_tokens COMMENT 'tokens of the text that were read',
  n_truncated COMMENT 'tokens that were cut off',
  error COMMENT 'why there is no score',
  text_hash COMMENT 'hash of the text that was scored',
  source_id COMMENT 'identity of the source table',
  source_version COMMENT 'source version in which the text was read',
  run_id COMMENT 'run that wrote the row',
  scored_at COMMENT 'begin of the run that wrote it',
  corrected COMMENT 'labels that analysts corrected, and whether the company has them'
)
COMMENT 'Companies under the champion; companies that left the source are not in it'
TBLPROPERTIES ('ptec.definition' = '{definition}')
AS
SELECT
  key, model_id, status, labels, probabilities, logits, n_tokens, n_truncated, error, text_hash,
  source_id, source_version, run_id, scored_at, corrected
FROM {database}.scores
WHERE
  -- The newest move counts. One value, so that Spark reads only this model's partition.
  model_id = (SELECT max_by(model_id, at) FROM {database}.aliases WHERE alias = 'champion')
  AND removed_in IS NULL
