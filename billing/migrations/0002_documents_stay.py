"""What was charged or credited never changes: triggers on statements, their lines and tiers, and on the credit ledger."""

from django.db import migrations

TRIGGERS = """
CREATE FUNCTION statement_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' OR OLD.state <> 'finalised' OR NEW.state <> 'void'
    OR to_jsonb(OLD) - '{state,voided_at,void_reason}'::text[] IS DISTINCT FROM
       to_jsonb(NEW) - '{state,voided_at,void_reason}'::text[]
  THEN
    RAISE EXCEPTION 'statement % is final and cannot be changed', OLD.number USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER statement_stays BEFORE UPDATE OR DELETE ON billing_statement
  FOR EACH ROW EXECUTE FUNCTION statement_stays();

CREATE FUNCTION billing_row_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'rows of % are added, never changed', TG_TABLE_NAME USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER statement_line_stays BEFORE UPDATE OR DELETE ON billing_statementline
  FOR EACH ROW EXECUTE FUNCTION billing_row_stays();
CREATE TRIGGER statement_tier_stays BEFORE UPDATE OR DELETE ON billing_statementtier
  FOR EACH ROW EXECUTE FUNCTION billing_row_stays();
CREATE TRIGGER credit_grant_stays BEFORE UPDATE OR DELETE ON billing_creditgrant
  FOR EACH ROW EXECUTE FUNCTION billing_row_stays();
CREATE TRIGGER credit_transaction_stays BEFORE UPDATE OR DELETE ON billing_credittransaction
  FOR EACH ROW EXECUTE FUNCTION billing_row_stays();
CREATE TRIGGER credit_entry_stays BEFORE UPDATE OR DELETE ON billing_creditentry
  FOR EACH ROW EXECUTE FUNCTION billing_row_stays();

-- All lines of a statement come in one statement, so that a line added later shows as a wrong total.
CREATE FUNCTION statement_lines_add_up() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE wrong bigint;
BEGIN
  SELECT n.statement_id INTO wrong
  FROM (SELECT statement_id, sum(amount_minor) AS amount FROM added GROUP BY 1) n
  LEFT JOIN billing_statement s ON s.id = n.statement_id
  WHERE n.amount IS DISTINCT FROM s.total_minor
  LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'the lines of statement % do not add up to its total', wrong USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER statement_lines_add_up AFTER INSERT ON billing_statementline
  REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION statement_lines_add_up();

CREATE FUNCTION statement_tiers_have_lines() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM added a LEFT JOIN billing_statementline l ON l.id = a.line_id WHERE l.id IS NULL) THEN
    RAISE EXCEPTION 'a tier belongs to a line' USING ERRCODE = 'foreign_key_violation';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER statement_tiers_have_lines AFTER INSERT ON billing_statementtier
  REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION statement_tiers_have_lines();

-- Double entry: a transaction sums to zero in each currency, and no more of a grant is used than was given.
CREATE FUNCTION credit_balances() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM billing_creditentry WHERE transaction_id = NEW.transaction_id
             GROUP BY currency HAVING sum(amount_minor) <> 0) THEN
    RAISE EXCEPTION 'credit transaction % does not sum to zero', NEW.transaction_id USING ERRCODE = 'check_violation';
  END IF;
  IF (SELECT sum(amount_minor) FROM billing_creditentry WHERE grant_id = NEW.grant_id AND account = 'customer') < 0 THEN
    RAISE EXCEPTION 'more of credit grant % is used than was given', NEW.grant_id USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER credit_balances AFTER INSERT ON billing_creditentry
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION credit_balances();
"""
DROPPED = """
DROP TRIGGER credit_balances ON billing_creditentry;
DROP FUNCTION credit_balances();
DROP TRIGGER statement_tiers_have_lines ON billing_statementtier;
DROP FUNCTION statement_tiers_have_lines();
DROP TRIGGER statement_lines_add_up ON billing_statementline;
DROP FUNCTION statement_lines_add_up();
DROP TRIGGER credit_entry_stays ON billing_creditentry;
DROP TRIGGER credit_transaction_stays ON billing_credittransaction;
DROP TRIGGER credit_grant_stays ON billing_creditgrant;
DROP TRIGGER statement_tier_stays ON billing_statementtier;
DROP TRIGGER statement_line_stays ON billing_statementline;
DROP FUNCTION billing_row_stays();
DROP TRIGGER statement_stays ON billing_statement;
DROP FUNCTION statement_stays();
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_statements_and_credits")]
    operations = [migrations.RunSQL(TRIGGERS, DROPPED)]
