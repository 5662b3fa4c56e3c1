#!/bin/sh
# Installs dmtl in an environment of its own, runs the daily chain over a generated click-bait world whose right answer
# is known, recommends for one user and ends on a table. Works from any folder, again and again.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/scripts/env.sh"
make_env "$here/.venv" "$here"
dmtl="$here/.venv/bin/dmtl"

work=${DMTL_DEMO:-$here/work/demo}
data=${DMTL_DEMO_DATA:-$here/data/demo}
first=2026-01-01 last=2026-01-03 after=2026-01-04
set -- --config "$here/configs/demo.yaml" --set "workspace=$work" --set "data.root=$data/log" --set "data.truth=$data/truth"

echo "the world: four days of clicks, baited"
"$dmtl" synth "$data" --days 4
echo "the daily chain: teacher, scores, student, evaluation"
"$dmtl" backfill "$@" --from "$first" --to "$last"
"$dmtl" status "$@"
user=$("$here/.venv/bin/python" -c 'import sys, polars; print(polars.read_parquet(sys.argv[1])["user_id"][0])' \
  "$("$dmtl" path export "$@")/users.parquet")
echo "recommended for user $user:"
"$dmtl" recommend "$@" --user "$user" -k 5
echo "on $after, the day after the last: expected read seconds, click rate and long-read rate of the top 50"
"$dmtl" compare "$@" --day "$after"
