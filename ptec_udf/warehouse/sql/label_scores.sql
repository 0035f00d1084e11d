-- Company x label: a row for each label of each company in current_scores that has a score.
CREATE OR REPLACE VIEW {database}.label_scores (
  key COMMENT 'company',
  label COMMENT 'label as the taxonomy spells it',
  probability COMMENT 'calibrated probability that the label is true of the company',
  threshold COMMENT 'probability from which the label is assigned',
  at_or_over COMMENT 'true: the probability is at or over the threshold',
  corrected COMMENT 'true or false: whether the company has the label, as an analyst says; null: nobody says',
  has_label COMMENT 'true: the company has the label, by what an analyst says, else by the threshold',
  status COMMENT 'ok or truncated (too long, so not all of it was read)',
  scored_at COMMENT 'begin of the run that wrote it',
  model_id COMMENT 'champion'
)
COMMENT 'Every label of every company under the champion, one a row'
TBLPROPERTIES ('ptec.definition' = '{definition}')
AS
SELECT
  s.key, l.name AS label, s.probability, l.threshold, s.probability >= l.threshold AS at_or_over,
  try_element_at(filter(s.corrected, one -> one.label = l.name), 1).is_true AS corrected,
  array_contains(s.labels, l.name) AS has_label,
  s.status, s.scored_at, s.model_id
FROM (
  -- In a subquery, as LATERAL VIEW followed by JOIN is a syntax error.
  SELECT key, status, scored_at, model_id, labels, corrected, posexplode(probabilities) AS (position, probability)
  FROM {database}.current_scores
) AS s
JOIN {database}.labels AS l ON l.model_id = s.model_id AND l.position = s.position
