-- The open stays of the history are the companies of the screen: rows that only one of them has.
select coalesce(screen.key, history.key) as key
from {{ ref('insurers') }} as screen
full join (select key from {{ ref('insurers_history') }} where valid_to is null) as history on history.key = screen.key
where screen.key is null or history.key is null
