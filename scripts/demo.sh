#!/bin/sh
# Installs dmtl in an environment of its own, runs the daily chain over a generated click-bait world whose truth is
# known, recommends for one user and prints a table. Runs from any folder, and may be run again.
# DMTL_VENV: an environment to use as it is. DMTL_DEMO: where to work (default: work/demo and data/demo beside this).
# The small world has the default settings, without the trials that begin a chain: its table is there within a minute.
# --full: the world of docs/results.md, with trials, which alone take a quarter of an hour, and all baselines.
# Other arguments go to `dmtl synth`.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/scripts/env.sh"
venv=${DMTL_VENV:-$here/.venv}
[ -n "${DMTL_VENV:-}" ] || make_env "$venv" "$here" train,plot,report
dmtl=$venv/bin/dmtl
world=demo
trials="--set auto.budget=0"
beside=click_only,long_read_only
case ${1:-} in
  --full) world=demo-full trials="" beside=all && shift ;;
  "") set -- --users 500 --items 300 --events-per-day 20000 ;;
esac
work=${DMTL_DEMO:-$here/work/$world}${DMTL_DEMO:+/work}
data=${DMTL_DEMO:-$here/data/$world}${DMTL_DEMO:+/data}

echo "A world of clicks, some of them baited: four days in $data"
"$dmtl" synth "$data" --days 4 "$@"
set -- --config "$here/configs/demo.yaml" --set "workspace=$work" \
  --set "data.root=$data/log" --set "data.truth=$data/truth" $trials
echo "The daily chain of three days: evaluation, teacher, scores, student"
"$dmtl" backfill "$@" --from 2026-01-01 --to 2026-01-03
"$dmtl" status "$@"
export=$("$dmtl" path export "$@")
user=$("$venv/bin/python" -c 'import sys, polars; print(polars.read_parquet(sys.argv[1])["user_id"][0])' \
  "$export/users.parquet")
echo "Recommended for user $user (item, score):"
"$dmtl" recommend "$@" --user "$user" -k 5
echo "The day after, the top 50 of each model: what a user is expected to read (seconds), click, and read long"
"$dmtl" compare "$@" --day 2026-01-04 --baselines "$beside"
