#!/bin/sh
# Runs every fuzz target of the project for the given time each.
set -eu
cd "$(dirname "$0")/.."
time="${1:-30s}"
grep -rl --include='*_test.go' '^func Fuzz' . | while read -r file; do
  grep -o '^func Fuzz[A-Za-z0-9_]*' "$file" | sed 's/^func //' | while read -r target; do
    echo "== $(dirname "$file") $target"
    go test "$(dirname "$file")" -run '^$' -fuzz "^$target\$" -fuzztime "$time" </dev/null
  done
done
