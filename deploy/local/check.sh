#!/usr/bin/env bash
# Every check that needs no test run. All run; each prints its name and, when it fails, its output. Usage: check.sh
set -u
cd "$(dirname "$0")/../.."
bin=.venv/bin
export PYTHONPATH=. DJANGO_SETTINGS_MODULE=config.settings
failed=()

step() { # name command...
  local name=$1 output
  shift
  printf '%-24s' "$name"
  if output=$("$@" 2>&1 </dev/null); then
    echo ok
  else
    echo FAILED
    printf '%s\n' "$output" | sed 's/^/    /'
    failed+=("$name")
  fi
}

servers() { "$bin/python" -m deploy.local with-servers "$@"; }

deploy_check() { # as in production: https, a host name, and keys of full length come from with-servers
  HTTPS_ONLY=1 DEBUG=0 ALLOWED_HOSTS=farebox.example FAREBOX_MAILBOX=0 EMAIL_URL=smtp://localhost:25 \
    servers "$bin/python" manage.py check --deploy --fail-level WARNING
}

step "ruff format" "$bin/ruff" format --check .
step "ruff check" "$bin/ruff" check --no-cache .
step "mypy" "$bin/mypy"
step "lint-imports" "$bin/lint-imports"
step "makemigrations" servers "$bin/python" manage.py makemigrations --check --dry-run
step "migration linter" servers "$bin/python" -m deploy.local.lint_migrations
step "check --deploy" deploy_check
step "djlint" "$bin/djlint" templates --lint --quiet
step "compose file" "$bin/check-jsonschema" --builtin-schema vendor.compose-spec docker-compose.yml
step "Dockerfile" "$bin/hadolint" Dockerfile

if [ ${#failed[@]} -gt 0 ]; then
  printf '\nmake check: %d failed: %s\n' "${#failed[@]}" "$(IFS=,; echo "${failed[*]}" | sed 's/,/, /g')"
  exit 1
fi
printf '\nmake check: all passed\n'
