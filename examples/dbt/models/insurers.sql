-- A screen as a model: companies of one label, corrections applied.
select key, probability, scored_at
from {{ source('ptec', 'label_scores') }}
where label = 'Insurance' and has_label
