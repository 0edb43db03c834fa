"""A published plan version never changes: the database refuses what the admin does not offer."""

from django.db import migrations

FORWARD = """
CREATE FUNCTION plan_version_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.state <> 'draft' AND (
    TG_OP = 'DELETE'
    OR (OLD.plan_id, OLD.number, OLD.currency, OLD.interval, OLD.fee_minor, OLD.trial_days, OLD.features, OLD.texts)
       IS DISTINCT FROM
       (NEW.plan_id, NEW.number, NEW.currency, NEW.interval, NEW.fee_minor, NEW.trial_days, NEW.features, NEW.texts)
  ) THEN
    RAISE EXCEPTION 'plan version % is published and cannot be changed', OLD.id USING ERRCODE = 'check_violation';
  END IF;
  RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER plan_version_stays BEFORE UPDATE OR DELETE ON plans_planversion
  FOR EACH ROW EXECUTE FUNCTION plan_version_stays();

CREATE FUNCTION plan_terms_stay() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE owner bigint := CASE WHEN TG_OP = 'INSERT' THEN NEW.version_id ELSE OLD.version_id END;
BEGIN
  IF EXISTS (SELECT 1 FROM plans_planversion WHERE id = owner AND state <> 'draft') THEN
    RAISE EXCEPTION 'the terms of plan version % are published and cannot be changed', owner
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER price_component_stays BEFORE INSERT OR UPDATE OR DELETE ON plans_pricecomponent
  FOR EACH ROW EXECUTE FUNCTION plan_terms_stay();
CREATE TRIGGER rate_limit_stays BEFORE INSERT OR UPDATE OR DELETE ON plans_ratelimit
  FOR EACH ROW EXECUTE FUNCTION plan_terms_stay();
"""
BACKWARD = """
DROP TRIGGER rate_limit_stays ON plans_ratelimit;
DROP TRIGGER price_component_stays ON plans_pricecomponent;
DROP FUNCTION plan_terms_stay();
DROP TRIGGER plan_version_stays ON plans_planversion;
DROP FUNCTION plan_version_stays();
"""


class Migration(migrations.Migration):
    dependencies = [("plans", "0001_catalogue_and_subscriptions")]
    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
