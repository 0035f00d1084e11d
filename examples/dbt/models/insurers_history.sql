-- The screen's history: one row for each stay of a company. valid_to is null while the company is in the screen.
select key, valid_from, valid_to, entered_by, left_by, probability, run_id
from (
    select
        key,
        entered,
        reason as entered_by,
        new_probability as probability,
        run_id,
        changed_at as valid_from,
        lead(changed_at) over (partition by key order by changed_at) as valid_to,
        lead(reason) over (partition by key order by changed_at) as left_by
    from {{ ref('why_changed') }}
    where label = '{{ var("screen_label") }}'
) as changes
where entered
