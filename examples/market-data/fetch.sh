#!/bin/bash
# Fetches 314,057 real order events (Bitstamp BTC/USD, 30 minutes) into the cache: they ship as sample data in
# the Python package ob-analytics 0.1.0 (GPL-2.0-or-later), and are not part of this repository.
# Says so and succeeds where the registry cannot be reached: the show then runs on generated events only.
set -euo pipefail

data="${FOREBAY_CACHE:-$HOME/.cache/forebay}/data"
orders="$data/orders.csv"
digest=598d98870b8bf10b41099a5e439629f8dc66bb8cf64f9ccadb5e592a15997dcc
[ -e "$orders" ] && exit
mkdir -p "$data"
scratch=$(mktemp -d "$data/.fetch.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

if ! python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --retries 1 --timeout 20 \
    --dest "$scratch" ob-analytics==0.1.0 </dev/null >"$scratch/log" 2>&1; then
    echo "market-data: ob-analytics 0.1.0 cannot be downloaded ($(tail -1 "$scratch/log")): generated events instead" >&2
    exit
fi
python3 -m zipfile --extract "$scratch"/ob_analytics-*.whl "$scratch/wheel"
gunzip <"$scratch/wheel/ob_analytics/_sample_data/orders.csv.gz" >"$scratch/orders.csv"
if ! echo "$digest  $scratch/orders.csv" | sha256sum --check --status; then
    echo "market-data: orders.csv of ob-analytics 0.1.0 is not the file that this was written for: generated events instead" >&2
    exit
fi
mv "$scratch/orders.csv" "$orders"
echo "market-data: $(($(wc -l <"$orders") - 1)) real order events in $orders" >&2
