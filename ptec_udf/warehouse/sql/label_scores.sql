-- One row for each company and label of current_scores that has a score.
CREATE OR REPLACE VIEW {database}.label_scores (
  key COMMENT 'company',
  label COMMENT 'label as the taxonomy spells it',
  probability COMMENT 'calibrated probability that the company has the label',
  threshold COMMENT 'probability from which the label is assigned',
  at_or_over COMMENT 'true: the probability is at or over the threshold',
  corrected COMMENT 'whether an analyst gave the company the label; null: no correction',
  has_label COMMENT 'true: the company has the label, by its correction or else by the threshold',
  status COMMENT 'ok or truncated (the text was too long)',
  scored_at COMMENT 'start of the run that wrote the score',
  model_id COMMENT 'champion'
)
COMMENT 'Every label of every company under the champion'
AS
SELECT
  s.key, l.name AS label, s.probability, l.threshold, s.probability >= l.threshold AS at_or_over,
  try_element_at(filter(s.corrected, one -> one.label = l.name), 1).is_true AS corrected,
  array_contains(s.labels, l.name) AS has_label,
  s.status, s.scored_at, s.model_id
FROM (
  -- In a subquery, because LATERAL VIEW followed by JOIN is a syntax error.
  SELECT key, status, scored_at, model_id, labels, corrected, posexplode(probabilities) AS (position, probability)
  FROM {database}.current_scores
) AS s
JOIN {database}.labels AS l ON l.model_id = s.model_id AND l.position = s.position
