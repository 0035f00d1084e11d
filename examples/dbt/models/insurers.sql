-- A screen as a model: companies of one label, corrections applied.
select key, probability, corrected is not null as is_corrected, scored_at
from {{ ref('label_scores') }}
where label = '{{ var("screen_label") }}' and has_label
