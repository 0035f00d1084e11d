-- Companies that entered or left a label of the champion, and why.
{% set columns = "key, label, entered, reason, old_probability, new_probability, changed_at, run_id" %}
{% if target.type == 'spark' %}
select {{ columns }} from {{ source('ptec', 'why_changed') }}
{% else %}
select {{ columns }}
from {{ source('ptec_tables', 'score_changes') }}
where run_id in (
    select run_id from {{ source('ptec_tables', 'runs') }} where outcome = 'done' and alias = 'champion'
)
{% endif %}
