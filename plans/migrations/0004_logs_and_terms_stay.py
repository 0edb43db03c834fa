"""What was published or logged never changes: new terms join the triggers, logs take rows and nothing else."""

from django.db import migrations

VERSION_STAYS = """
CREATE OR REPLACE FUNCTION plan_version_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.state <> 'draft' AND (
    TG_OP = 'DELETE'
    OR (OLD.plan_id, OLD.number, OLD.currency, OLD.interval, OLD.fee_minor, OLD.trial_days, OLD.features, OLD.texts{more_old})
       IS DISTINCT FROM
       (NEW.plan_id, NEW.number, NEW.currency, NEW.interval, NEW.fee_minor, NEW.trial_days, NEW.features, NEW.texts{more_new})
  ) THEN
    RAISE EXCEPTION 'plan version % is published and cannot be changed', OLD.id USING ERRCODE = 'check_violation';
  END IF;
  RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END $$;
"""
ADDED = ("minimum_minor", "over_cap", "concurrency")
TIERS_STAY = """
CREATE FUNCTION price_tier_stays() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE owner bigint := CASE WHEN TG_OP = 'INSERT' THEN NEW.component_id ELSE OLD.component_id END;
BEGIN
  IF EXISTS (SELECT 1 FROM plans_pricecomponent c JOIN plans_planversion v ON v.id = c.version_id
             WHERE c.id = owner AND v.state <> 'draft') THEN
    RAISE EXCEPTION 'the tiers of price component % are published and cannot be changed', owner
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER price_tier_stays BEFORE INSERT OR UPDATE OR DELETE ON plans_pricetier
  FOR EACH ROW EXECUTE FUNCTION price_tier_stays();
"""
LOGS_STAY = """
CREATE FUNCTION log_row_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'rows of % are added, never changed', TG_TABLE_NAME USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER subscription_event_stays BEFORE UPDATE OR DELETE ON plans_subscriptionevent
  FOR EACH ROW EXECUTE FUNCTION log_row_stays();
CREATE TRIGGER spend_cap_stays BEFORE UPDATE OR DELETE ON plans_spendcap
  FOR EACH ROW EXECUTE FUNCTION log_row_stays();
CREATE TRIGGER cost_prices_stay BEFORE UPDATE OR DELETE ON plans_costprices
  FOR EACH ROW EXECUTE FUNCTION log_row_stays();
"""
FORWARD = (
    VERSION_STAYS.format(
        more_old="".join(f", OLD.{name}" for name in ADDED), more_new="".join(f", NEW.{name}" for name in ADDED)
    )
    + TIERS_STAY
    + LOGS_STAY
)
BACKWARD = (
    """
DROP TRIGGER cost_prices_stay ON plans_costprices;
DROP TRIGGER spend_cap_stays ON plans_spendcap;
DROP TRIGGER subscription_event_stays ON plans_subscriptionevent;
DROP FUNCTION log_row_stays();
DROP TRIGGER price_tier_stays ON plans_pricetier;
DROP FUNCTION price_tier_stays();
"""
    + VERSION_STAYS.format(more_old="", more_new="")
)


class Migration(migrations.Migration):
    dependencies = [("plans", "0003_pricing_and_controls")]
    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
