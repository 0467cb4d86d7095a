#!/bin/sh
# Runs one shard of a campaign, or goes on with it, and leaves its result whole or not at all. The
# exit status is 0 when the shard is finished, whatever it has found: that is for the merge to say.
# It is 2 if the next try would fail likewise, as for wrong options, and 3 if that is not known.
#
#   deploy/shard.sh K N DIRECTORY [OPTION OF ubdlab fuzz]...
set -u
k=$1 n=$2 directory=$3
shift 3
mkdir -p "$directory" || exit 3
"${UBDLAB:-ubdlab}" fuzz "$@" --shard "$k/$n" --checkpoint "$directory/$k-of-$n.checkpoint" \
    --result "$directory/$k-of-$n.json" >/dev/null &
child=$!
# Whoever takes the machine away says so to this shell, which may be the first process.
trap 'kill -TERM "$child" 2>/dev/null' TERM INT
wait "$child"
status=$?
while kill -0 "$child" 2>/dev/null; do
    wait "$child"
    status=$?
done
case $status in
0 | 1) exit 0 ;;
*) exit "$status" ;;
esac
