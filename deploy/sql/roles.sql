-- Two roles: farebox_owner migrates, farebox_app runs web, gateway, worker and beat. Run once as a superuser (a migration
-- could not: the migrating user may not create roles), connected to Farebox's database:
--
--   psql "$ADMIN_DATABASE_URL" -v owner_password=... -v app_password=... -f deploy/sql/roles.sql
--
-- Then migrate as farebox_owner, run this file once more (so that tables that are there already are granted too), and
-- give the processes farebox_app's address. One role for everything works as well; that is what `make demo` does.
\set ON_ERROR_STOP on

SELECT format('CREATE ROLE farebox_owner LOGIN PASSWORD %L', :'owner_password')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'farebox_owner') \gexec
SELECT format('CREATE ROLE farebox_app LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD %L', :'app_password')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'farebox_app') \gexec

SELECT format('GRANT CREATE, TEMPORARY ON DATABASE %I TO farebox_owner', current_database()) \gexec
SELECT format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO farebox_app', current_database()) \gexec
GRANT CREATE, USAGE ON SCHEMA public TO farebox_owner;
GRANT USAGE ON SCHEMA public TO farebox_app;

-- What farebox_owner makes later (also the months of the ledger) is granted as it is made.
ALTER DEFAULT PRIVILEGES FOR ROLE farebox_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO farebox_app;
ALTER DEFAULT PRIVILEGES FOR ROLE farebox_owner IN SCHEMA public GRANT USAGE ON SEQUENCES TO farebox_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO farebox_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO farebox_app;

-- The ledger: rows are added, never edited; farebox_app may not change or delete what was stored.
DO $$
DECLARE
    partition text;
BEGIN
    IF to_regclass('public.usage_event') IS NOT NULL THEN
        REVOKE UPDATE, DELETE, TRUNCATE ON usage_event, usage_event_key FROM farebox_app;
        REVOKE ALL ON FUNCTION usage_event_make_partition(date) FROM PUBLIC;
        GRANT EXECUTE ON FUNCTION usage_event_make_partition(date) TO farebox_app;
        FOR partition IN
            SELECT inhrelid::regclass::text FROM pg_inherits
            WHERE inhparent IN ('usage_event'::regclass, 'usage_event_key'::regclass)
        LOOP
            EXECUTE format('REVOKE ALL ON %s FROM farebox_app', partition);
        END LOOP;
    END IF;
END
$$;
