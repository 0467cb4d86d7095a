#!/bin/bash
# A campaign as a Slurm array job, a shard each, over a directory that all nodes see:
#
#   sbatch deploy/slurm.sh /shared/campaign --cases 100000000
#
# and when the array is done
#
#   ubdlab fuzz merge /shared/campaign --report campaign.html
#
# `sbatch --array=1-1000` cuts the campaign into another number of shards. What is ended early, by
# a node that dies, by preemption or at the time limit, goes on from its checkpoint.
#SBATCH --job-name=ubdlab
#SBATCH --array=1-8
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem=1G
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@60
#SBATCH --requeue
#SBATCH --open-mode=append
set -u
directory=$1
shift
# Slurm runs a copy of this script: where it was submitted from says where the other one is.
status=0
srun --ntasks=1 "${DEPLOY:-$SLURM_SUBMIT_DIR/deploy}/shard.sh" \
    "$SLURM_ARRAY_TASK_ID" "$SLURM_ARRAY_TASK_COUNT" "$directory" \
    --jobs "${SLURM_CPUS_PER_TASK:-1}" "$@" || status=$?
# Ended by a signal: once more, unless that has happened too often to be an accident. If something has
# failed, as writing to a directory that is away for a moment: a few times more. Wrong options stay
# wrong.
most=0
[ "$status" -eq 3 ] && most=10
[ "$status" -gt 128 ] && most=1000
if [ "${SLURM_RESTART_COUNT:-0}" -lt "$most" ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
