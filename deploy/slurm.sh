#!/bin/bash
# Pretrain on several nodes of NVIDIA cards, or adapt a population on them:
#
#   sbatch deploy/slurm.sh pretrain --preset=large --workdir=/shared/large
#   sbatch --nodes=1 deploy/slurm.sh her_adapt --task=all --seeds=100 --workdir=/shared/all
#
# Run it from the folder of herjax, which all nodes see, as they see the workdir. Two minutes before
# the time is over the run saves and stops, and the job queues again: the same command continues.
# PYTHON names another interpreter. A slow test starts two local processes with it; it has run on no
# cluster yet.

#SBATCH --job-name=herjax
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=4
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=herjax-%j.log

set -euo pipefail

if [ $# -lt 2 ]; then
  echo "usage: sbatch deploy/slurm.sh pretrain|her_adapt OPTIONS..., with --workdir=FOLDER" >&2
  exit 2
fi

# JAX gives each process that SLURM starts the one card of its number on the node: so as many
# processes as cards.
code=0
srun --kill-on-bad-exit=1 "${PYTHON:-.venv/bin/python}" -m "experiments.$1" --distributed "${@:2}" ||
  code=$?
if [ "$code" -eq 143 ]; then # stopped by SIGTERM, and saved
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
