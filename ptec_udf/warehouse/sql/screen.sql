-- SELECT * FROM ptec.screen('Fintech', NULL)   companies that have the label
-- SELECT * FROM ptec.screen('Fintech', 0.3)    companies whose probability is at least 0.3
-- What an analyst says of a company and the label (table corrections) counts more than its probability.
-- A label that the champion does not know gives no row; its labels: SELECT DISTINCT label FROM ptec.label_scores
CREATE OR REPLACE FUNCTION {database}.screen(
  label STRING COMMENT 'label as the taxonomy spells it',
  min_probability DOUBLE COMMENT 'least probability; NULL takes the threshold of the label'
)
RETURNS TABLE (
  key STRING COMMENT 'company',
  probability FLOAT COMMENT 'calibrated probability that the label is true of the company',
  threshold FLOAT COMMENT 'probability from which the label is assigned',
  status STRING COMMENT 'ok or truncated (too long, so not all of it was read)',
  scored_at TIMESTAMP COMMENT 'begin of the run that wrote it',
  model_id STRING COMMENT 'champion',
  corrected BOOLEAN COMMENT 'true: it is here since an analyst says so; null: nobody says anything'
)
COMMENT 'Companies of a label under the champion (definition {definition})'
RETURN
  SELECT s.key, s.probability, s.threshold, s.status, s.scored_at, s.model_id, s.corrected
  FROM {database}.label_scores AS s
  -- screen.label is the parameter. As float .7 is less than double .7, both sides are floats.
  WHERE s.label = screen.label
    AND coalesce(
      s.corrected, s.probability >= CAST(coalesce(screen.min_probability, CAST(s.threshold AS DOUBLE)) AS FLOAT)
    )
