-- What the members of a group come to is read from the index alone: their rows lie all over the table.
drop index rentals_in_group;
create index rentals_in_group on rentals (tenant_id, billing_group_id, rental_id, monthly_amount, currency, status, start_date,
    end_date, contract_length) where billing_group_id is not null;
