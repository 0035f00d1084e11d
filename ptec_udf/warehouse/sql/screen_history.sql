-- One row each time that a company entered or left the screen of a label.
CREATE OR REPLACE VIEW {database}.screen_history (
  key COMMENT 'company',
  label COMMENT 'label that the company entered or left',
  move COMMENT 'entered or left',
  changed_at COMMENT 'start of the run',
  reason COMMENT 'text, model, threshold, correction, new (company) or removed (company)',
  probability COMMENT 'probability after the change; null without a new score',
  model COMMENT 'name of the model of the new score',
  run_id COMMENT 'run that made the change'
)
COMMENT 'Who entered and left each screen, when and why'
AS
SELECT
  key, label, CASE WHEN entered THEN 'entered' ELSE 'left' END AS move, changed_at, reason,
  new_probability AS probability, model, run_id
FROM {database}.why_changed
