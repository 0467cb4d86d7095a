#!/usr/bin/env bash
# Runs every fuzz target for the given number of seconds (20 if none is given) on the good inputs of
# the repository, with a fixed seed and bounded memory. Needs a nightly toolchain, cargo-fuzz and a
# C++ compiler.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-20}
targets=(chain cow image nbd trace)
built=target
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The good inputs of a target, into its corpus.
seed() {
    local corpus=corpus/$1
    mkdir -p "$corpus" "artifacts/$1"
    case $1 in
    chain) cp seeds/chain/* "$corpus" ;;
    cow) cp seeds/cow/* "$corpus" ;;
    image) cp ../driver/tests/golden/*.bin "$corpus" ;;
    nbd) cp seeds/nbd/* "$corpus" ;;
    trace)
        cp seeds/trace/* "$corpus"
        find ../traces/samples -type f ! -name '*.expected' ! -name '*.py' ! -name '*.md' \
            -exec cp -t "$corpus" {} +
        ;;
    esac
}

# The longest input of a target, in bytes.
longest() {
    case $1 in
    chain) echo 2048 ;;
    cow) echo 256 ;;
    image) echo 131072 ;;
    nbd) echo 4096 ;;
    trace) echo 65536 ;;
    esac
}

# Without a sanitizer: there is no unsafe code of ours to catch, and a panic ends a run as it is.
# Debug assertions and overflow checks are on.
cargo +nightly fuzz build --sanitizer none --codegen-units 16 --target-dir "$built"

run() {
    local program
    program=$(echo "$built"/*/release/"$1")
    # KiB: an allocation that no input justifies fails here.
    ulimit -v $((4 << 20))
    "$program" "corpus/$1" -artifact_prefix="artifacts/$1/" -seed=1 -max_total_time="$seconds" \
        -timeout=10 -rss_limit_mb=1024 -max_len="$(longest "$1")" -print_final_stats=1 \
        -verbosity=1 >"$work/$1" 2>&1
}

# Side by side: a target has one thread.
failed=0
declare -A running
for target in "${targets[@]}"; do
    seed "$target"
    run "$target" &
    running[$target]=$!
done
for target in "${targets[@]}"; do
    if wait "${running[$target]}"; then
        executed=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/$target")
        reached=$(grep -o 'cov: [0-9]*' "$work/$target" | tail -n 1)
        echo "$target: $executed inputs, $reached"
    else
        tail -n 40 "$work/$target"
        echo "$target: failed; the input is in fuzz/artifacts/$target" >&2
        failed=1
    fi
done
exit "$failed"
