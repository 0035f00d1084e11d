-- Every label of every company under the champion, corrections applied.
{% if target.type == 'spark' %}
select key, label, probability, threshold, has_label, corrected, status, scored_at, model_id
from {{ source('ptec', 'label_scores') }}
{% else %}
select
    scores.key,
    labels.name as label,
    scores.probabilities[labels.position + 1] as probability,
    labels.threshold,
    list_contains(scores.labels, labels.name) as has_label,
    list_filter(scores.corrected, lambda one: one.label = labels.name)[1].is_true as corrected,
    scores.status,
    scores.scored_at,
    scores.model_id
from {{ source('ptec_tables', 'scores') }} as scores
join {{ source('ptec_tables', 'labels') }} as labels on labels.model_id = scores.model_id
where
    scores.model_id
    = (select max_by(model_id, "at") from {{ source('ptec_tables', 'aliases') }} where alias = 'champion')
    and scores.removed_in is null
    and scores.probabilities is not null
{% endif %}
