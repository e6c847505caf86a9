#!/bin/bash
# Trains on two machines of eight GPUs:
#   sbatch launch/slurm.sh configs/unet.py /shared/runs/unet \
#     --config.data.batch_size=16 [--config.FIELD=…]
# data.batch_size, of all GPUs together, must be a multiple of their number.
# One process per GPU; each takes the GPU of its number on the machine, so ask
# for --gpus-per-node, not --gpus-per-task. Five minutes before the time is up
# the run saves itself, and queues again.
#SBATCH --job-name=medjax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
set -u
config=$1 workdir=$2
shift 2

srun --kill-on-bad-exit=1 python -m medjax.main --config="$config" \
  --workdir="$workdir" --coordinator=auto "$@"
code=$?

if [ "$code" = 143 ]; then  # told to stop, and saved
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
