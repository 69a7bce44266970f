#!/bin/sh
# Runs the reference's own API tests against a fresh server: test/conformance/run.sh SHARED SUITE...
# SHARED is the folder with the suites. A test that fails must be in testdata/conformance/SUITE.missing, with its reason.
# DOMAINS=1 runs them with domains on; what fails then beside those is in SUITE.domains.missing.
# DATABASE=postgres://USER:PASSWORD@HOST:PORT/NAME runs the server on a new database of that PostgreSQL server.
set -eu
cd "$(dirname "$0")/../.."
shared="$1"; shift
if [ ! -x "$shared/conformance/run" ]; then
  echo "conformance: no suites at $shared: nothing was run"
  exit "${CONFORMANCE_REQUIRED:-0}"
fi
work="$(mktemp -d)"
port="${CONFORMANCE_PORT:-8085}"
url="http://localhost:$port"
cat >"$work/settings.py" <<PY
CONTENT_ORIGIN = "$url"
ALLOWED_CONTENT_CHECKSUMS = ["md5", "sha1", "sha224", "sha256", "sha384", "sha512"]
ALLOWED_IMPORT_PATHS = ALLOWED_EXPORT_PATHS = ["/tmp"]
CACHE_ENABLED = True
PY
if [ -n "${DOMAINS:-}" ]; then echo "DOMAIN_ENABLED = True" >>"$work/settings.py"; fi
database=""
drop() { [ -z "$database" ] || psql -q "$DATABASE" -c "DROP DATABASE $database WITH (FORCE)" || true; }
if [ -n "${DATABASE:-}" ]; then
  database="granary_conformance_$port"
  drop 2>/dev/null
  psql -q "$DATABASE" -c "CREATE DATABASE $database"
  python3 - "$DATABASE" "$database" >>"$work/settings.py" <<'PY'
import sys, urllib.parse as u
at, name = u.urlsplit(sys.argv[1]), sys.argv[2]
parts = {"ENGINE": "django.db.backends.postgresql", "NAME": name, "HOST": at.hostname or "", "PORT": at.port or 5432, "USER": u.unquote(at.username or ""), "PASSWORD": u.unquote(at.password or "")}
print("DATABASES =", {"default": parts})
PY
fi
export GRANARY_DATA="$work/data" GRANARY_TEST_TASKS=true PULP_DEFAULT_ADMIN_PASSWORD=password PULP_SETTINGS="$work/settings.py" PULP_WORKERS=4
export GRANARY_TRUSTED_PROXIES=127.0.0.1,::1 # the tests say in a header which certificate their client has, as a proxy would
[ -z "$database" ] || bin/granary migrate >"$work/migrate.log" 2>&1 || { cat "$work/migrate.log"; exit 1; }
bin/granary server --listen "127.0.0.1:$port" >"$work/log" 2>&1 &
server=$!
trap 'kill $server 2>/dev/null || true; wait $server 2>/dev/null || true; drop; rm -rf "$work"' EXIT
bin/granary ready --url "$url" --wait 30s
mkdir "$work/bin"
printf '#!/bin/sh\nexport GRANARY_DATA="%s" PULP_SETTINGS="%s"\nexec "%s/bin/granary" manager "$@"\n' "$GRANARY_DATA" "$PULP_SETTINGS" "$PWD" >"$work/bin/pulpcore-manager"
chmod +x "$work/bin/pulpcore-manager"
status=0
[ -z "${DOMAINS:-}" ] || CONFORMANCE_ARGS="--domains ${CONFORMANCE_ARGS:-}"
for suite; do
  # the suites look for the options of the default store, which their settings lack
  env -u PULP_SETTINGS -u GRANARY_DATA PULP_STORAGES__default__OPTIONS='@json {}' "$shared/conformance/run" "$suite" --url "$url" --manager "$work/bin" --media "$work/data/media" ${CONFORMANCE_ARGS:-} ${DOMAINS:+-- "$PWD/test/conformance/domains"} >"$work/$suite.out" 2>&1 || true
  grep '^conformance ' "$work/$suite.out" || { tail -50 "$work/$suite.out"; status=1; }
  sed -n 's/^  \(failed\|skipped\|not run\) *\([a-z_]*\..*::.*\)$/\2/p' "$work/$suite.out" | sort >"$work/$suite.failed"
  for list in "$suite.missing" ${DOMAINS:+"$suite.domains.missing"}; do
    [ ! -f "testdata/conformance/$list" ] || sed 's/[[:space:]]*#.*//' "testdata/conformance/$list"
  done | sort -u >"$work/$suite.known"
  comm -23 "$work/$suite.failed" "$work/$suite.known" >"$work/$suite.new"
  if [ -s "$work/$suite.new" ]; then
    tail -200 "$work/$suite.out"
    echo "conformance $suite: these fail, and testdata/conformance/$suite${DOMAINS:+.domains}.missing does not say why:"
    cat "$work/$suite.new"
    status=1
  fi
done
[ -z "${CONFORMANCE_KEEP:-}" ] || cp -r "$work" "$CONFORMANCE_KEEP"
exit $status
