"""The recipes of launch/: their syntax, and what they say to each other."""

import os
import pathlib
import re
import subprocess

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[1]
SLURM, JOBSET = (ROOT / 'launch' / n for n in ('slurm.sh', 'jobset.yaml'))


@pytest.mark.parametrize('file', [SLURM, JOBSET], ids=lambda f: f.name)
def test_the_flags_exist(file):
  program = (ROOT / 'medjax/main.py').read_text()
  line = re.search(r'medjax\.main(.*?)(\n\n|resources)', file.read_text(), re.S)
  names = re.findall(r'--(\w+)=', line[1])
  assert {'config', 'workdir', 'coordinator'} <= {*names}
  for name in names:
    assert f"'{name}'" in program


def test_the_pods_know_the_first_one():
  tree = yaml.safe_load(JOBSET.read_text())
  name = tree['metadata']['name']
  (job,) = tree['spec']['replicatedJobs']
  spec = job['template']['spec']
  pod = spec['template']['spec']
  (container,) = pod['containers']
  (line,) = container['args']
  # The DNS name that JobSet gives to pod 0 of job 0.
  assert f'--coordinator={name}-{job["name"]}-0-0.{name}:' in line
  assert f'--num_processes={spec["parallelism"]} ' in line
  assert spec['parallelism'] == spec['completions']
  mounts = {m['name'] for m in container['volumeMounts']}
  assert mounts == {v['name'] for v in pod['volumes']}


def test_the_batch_can_be_spread_over_the_gpus():
  tree = yaml.safe_load(JOBSET.read_text())
  (job,) = tree['spec']['replicatedJobs']
  spec = job['template']['spec']
  (container,) = spec['template']['spec']['containers']
  gpus = (
    spec['parallelism'] * container['resources']['limits']['nvidia.com/gpu']
  )
  told = SLURM.read_text()
  nodes, each = (
    int(re.search(rf'#SBATCH --{name}=(\d+)', told)[1])
    for name in ('nodes', 'gpus-per-node')
  )
  guide = (ROOT / 'docs/scaling.md').read_text()
  for text, count in (
    (container['args'][0], gpus),
    (told, nodes * each),
    (re.search(r'sbatch .*', guide)[0], nodes * each),
  ):
    assert '--config=configs/unet.py' in text or 'sbatch' in text
    batch = int(re.search(r'--config\.data\.batch_size=(\d+)', text)[1])
    assert batch % count == 0


@pytest.mark.parametrize(
  ('code', 'again'), [(0, False), (1, False), (143, True)]
)
def test_slurm_queues_again_what_was_told_to_stop(tmp_path, code, again):
  subprocess.run(['bash', '-n', SLURM], check=True)
  calls = tmp_path / 'calls'
  for name, end in (('srun', code), ('scontrol', 0)):
    stub = tmp_path / name
    stub.write_text(f'#!/bin/sh\necho {name} "$@" >> {calls}\nexit {end}\n')
    stub.chmod(0o755)
  done = subprocess.run(
    ['bash', SLURM, 'configs/unet.py', 'my runs/unet', '--config.seed=1'],
    env={'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'SLURM_JOB_ID': '7'},
  )
  assert done.returncode == code
  first, *rest = calls.read_text().splitlines()
  assert first == (
    'srun --kill-on-bad-exit=1 python -m medjax.main --config=configs/unet.py '
    '--workdir=my runs/unet --coordinator=auto --config.seed=1'
  )
  assert rest == (['scontrol requeue 7'] if again else [])
