"""Times an ONNX model alone, by python -m medjax.compress.clock.

Given are its file, one of inputs, and the number of threads. A process of its
own, so that its memory is that of the model. Prints JSON: p50 and p95 in ms,
the process's peak in MB.
"""

import json
import pathlib
import re
import sys
import time

import numpy as np

_SECONDS, _LEAST = 2.0, 20


def measure(path, inputs, threads):
  """{'p50', 'p95'}: milliseconds of a call."""
  import onnxruntime

  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads, options.log_severity_level = threads, 3
  session = onnxruntime.InferenceSession(
    path, options, providers=['CPUExecutionProvider']
  )
  for _ in range(3):
    session.run(None, inputs)
  times, begun = [], time.perf_counter()
  while time.perf_counter() - begun < _SECONDS or len(times) < _LEAST:
    before = time.perf_counter()
    session.run(None, inputs)
    times.append(1e3 * (time.perf_counter() - before))
  p50, p95 = np.percentile(times, (50, 95))
  return {'p50': float(p50), 'p95': float(p95), 'least': min(times)}


def _peak():
  status = pathlib.Path('/proc/self/status')
  if not status.exists():
    return None
  (kb,) = re.findall(r'VmHWM:\s+(\d+) kB', status.read_text())
  return int(kb) / 1024


if __name__ == '__main__':
  path, inputs, threads = sys.argv[1:]
  with np.load(inputs, allow_pickle=False) as kept:
    found = measure(path, dict(kept), int(threads))
  print(json.dumps({**found, 'peak_mb': _peak()}))
