#!/bin/bash
# Pretrain on a slice of Cloud TPUs, the same command on every worker:
#
#   deploy/tpu.sh NAME ZONE pretrain --preset=large --workdir=/shared/large
#
# NAME is a TPU VM, on whose workers herjax is installed (with its extra tpu) in ~/herjax/.venv, and
# which all see the workdir. Stopped or killed, the same command continues.
# Has run on no TPU yet.

set -euo pipefail

if [ $# -lt 4 ]; then
  echo "usage: deploy/tpu.sh NAME ZONE pretrain|her_adapt OPTIONS..., with --workdir=FOLDER" >&2
  exit 2
fi
name=$1 zone=$2 module=$3
shift 3

# Quoted once more, for the shell of the workers.
command="cd herjax && exec .venv/bin/python -m experiments.$module --distributed$(printf ' %q' "$@")"
exec gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="$command"
