-- SELECT * FROM ptec.screen('Fintech', NULL)   companies that have the label
-- SELECT * FROM ptec.screen('Fintech', 0.3)    companies whose probability is at least 0.3
-- A correction of an analyst counts more than the probability. A label that the champion lacks returns no row.
CREATE OR REPLACE FUNCTION {database}.screen(
  label STRING COMMENT 'label as the taxonomy spells it',
  min_probability DOUBLE COMMENT 'smallest probability; NULL: the threshold of the label'
)
RETURNS TABLE (
  key STRING COMMENT 'company',
  probability FLOAT COMMENT 'calibrated probability that the company has the label',
  threshold FLOAT COMMENT 'probability from which the label is assigned',
  status STRING COMMENT 'ok or truncated (the text was too long)',
  scored_at TIMESTAMP COMMENT 'start of the run that wrote the score',
  model_id STRING COMMENT 'champion',
  corrected BOOLEAN COMMENT 'true: an analyst gave the company the label; null: no correction'
)
COMMENT 'Companies that have a label under the champion'
RETURN
  SELECT s.key, s.probability, s.threshold, s.status, s.scored_at, s.model_id, s.corrected
  FROM {database}.label_scores AS s
  -- screen.label is the parameter. Both sides are floats, because float 0.7 is less than double 0.7.
  WHERE s.label = screen.label
    AND coalesce(
      s.corrected, s.probability >= CAST(coalesce(screen.min_probability, CAST(s.threshold AS DOUBLE)) AS FLOAT)
    )
