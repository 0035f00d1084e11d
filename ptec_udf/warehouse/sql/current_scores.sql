-- One row for each company that is in the source, under the model of the alias champion.
CREATE OR REPLACE VIEW {database}.current_scores (
  key COMMENT 'company',
  model_id COMMENT 'champion',
  status COMMENT 'ok, truncated (the text was too long), empty (no text) or error',
  labels COMMENT 'labels at or over their threshold, corrections applied',
  probabilities COMMENT 'calibrated probability of each label, in the order of labels.position',
  logits COMMENT 'raw score of each label, in the same order',
  n_tokens COMMENT 'tokens of the text that the model read',
  n_truncated COMMENT 'tokens that were cut off',
  error COMMENT 'why there is no score',
  text_hash COMMENT 'SHA-256 of the text',
  source_id COMMENT 'identity of the source',
  source_version COMMENT 'source version of the text',
  run_id COMMENT 'run that wrote the row',
  scored_at COMMENT 'start of that run',
  corrected COMMENT 'labels that analysts corrected, and whether the company has them'
)
COMMENT 'Scores of the champion for companies that are in the source'
AS
SELECT
  key, model_id, status, labels, probabilities, logits, n_tokens, n_truncated, error, text_hash,
  source_id, source_version, run_id, scored_at, corrected
FROM {database}.scores
WHERE
  -- A scalar subquery lets Spark read the champion's partition only.
  model_id = (SELECT max_by(model_id, at) FROM {database}.aliases WHERE alias = 'champion')
  AND removed_in IS NULL
