-- depends: 0019-sign-in
--
-- An approved review that cannot be completed, because a prepaid balance fell since, is given up as a posting run is:
-- what is posted is issued, and the drafts of the other shards become void and are due again. No draft of a shard that
-- was posted, and nothing of a run that was completed, can be taken back so.

-- As in 0010, and: a draft is void also with a run that was given up.
CREATE OR REPLACE FUNCTION issued_block_stays() RETURNS trigger
    LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' OR OLD.state IN ('issued', 'void') OR NEW.id <> OLD.id OR NEW.series_id <> OLD.series_id
       OR NEW.invoices_count <> OLD.invoices_count OR (OLD.state = 'posted' AND NEW.state <> 'issued')
       OR (OLD.state = 'draft' AND NEW.state NOT IN ('draft', 'posted', 'void'))
       OR (NEW.run_id, NEW.shard_no, NEW.written_in, NEW.written_at)
          IS DISTINCT FROM (OLD.run_id, OLD.shard_no, OLD.written_in, OLD.written_at) THEN
        RAISE EXCEPTION 'invoice block % is % and stays so', OLD.id, OLD.state;
    END IF;
    IF NEW.state = 'void' AND NOT EXISTS (
        SELECT FROM public.bill_runs r
        WHERE r.id = NEW.run_id AND (r.state = 'void' OR (r.state = 'done' AND r.abandoned_by IS NOT NULL))) THEN
        RAISE EXCEPTION 'invoice block % is void only with its run', OLD.id;
    END IF;
    RETURN NEW;
END
$$;

-- As in 0006, and: a period goes with the void draft it was billed on; one without an invoice with its payer's shard.
CREATE OR REPLACE FUNCTION settled_period_stays() RETURNS trigger
    LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    IF TG_OP <> 'DELETE' OR NOT EXISTS (
        SELECT FROM public.bill_runs r
        WHERE r.id = OLD.run_id
          AND (r.state = 'void'
               OR (r.state = 'done' AND r.abandoned_by IS NOT NULL AND CASE WHEN OLD.invoice_id IS NULL
                   THEN EXISTS (SELECT FROM public.orders o JOIN public.bill_shards s
                                  ON o.payer_account_id BETWEEN s.first_account_id AND s.last_account_id
                                WHERE o.id = OLD.order_id AND s.run_id = r.id AND s.state = 'drafted')
                   ELSE EXISTS (SELECT FROM public.invoice_blocks b
                                WHERE b.id = OLD.invoice_id >> 20 AND b.state = 'void') END))) THEN
        RAISE EXCEPTION 'a billed or waived period stays so: % refused', TG_OP;
    END IF;
    RETURN OLD;
END
$$;

-- As in 0010, and: an order comes back with the shard of an approved review that was not posted.
CREATE OR REPLACE FUNCTION order_stays_settled() RETURNS trigger
    LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    IF NEW.settled_at IS NOT NULL OR NOT EXISTS (
        SELECT FROM public.bill_runs r
        WHERE r.kind = 'review' AND r.started_at <= OLD.settled_at
          AND (r.state IN ('running', 'reviewed')
               OR (r.state = 'approving' AND EXISTS (
                   SELECT FROM public.bill_shards s
                   WHERE s.run_id = r.id AND s.state = 'drafted'
                     AND OLD.payer_account_id BETWEEN s.first_account_id AND s.last_account_id)))) THEN
        RAISE EXCEPTION 'order % is settled and stays so', coalesce(OLD.number, '#' || OLD.id)
            USING HINT = 'Only `kopeck bill void-review` and `kopeck bill abandon` make due again what a review settled.';
    END IF;
    RETURN NEW;
END
$$;
