#!/bin/sh
# A campaign on machines that are reached by ssh, by GNU parallel, over a directory that all of them
# see under one name; ubdlab and this directory have to be there too:
#
#   deploy/parallel.sh hosts 64 /shared/campaign --cases 100000000
#
# `hosts` names the machines, one a line, as parallel's --sshloginfile has it: `8/node1` is eight
# shards at a time on node1, and `2/:` two on this machine. What ends early is run again, anywhere,
# and goes on from its checkpoint; so does the whole command. At its end it merges. Its status is
# then that of the merge. It is 2 if a shard has met what its next try would meet likewise, as wrong
# options, and 3 if something else has failed in each of 100 tries.
set -u
hosts=$1 n=$2 directory=$3
shift 3
deploy=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
mkdir -p "$directory" || exit 3
# A machine that has died closes no connection: ssh gives it up after a minute.
refused=$(seq "$n" | parallel --ssh 'ssh -o ServerAliveInterval=15 -o ServerAliveCountMax=4' \
    --sshloginfile "$hosts" --env UBDLAB --retries 100 --joblog "$directory/parallel.log" \
    "$deploy/parallel-shard.sh" {} "$n" "$directory" --jobs 1 "$@") || exit 3
if [ -n "$refused" ]; then
    echo "$0: not run again, for what is said above: shard" $refused >&2
    exit 2
fi
"${UBDLAB:-ubdlab}" fuzz merge "$directory" --report "$directory/campaign.html"
