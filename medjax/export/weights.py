"""Weights in a .safetensors file: float32 arrays by name."""

import json

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from medjax import files
from medjax.finetune import adapted


def flat(members):
  """{'0/params/…': float32 array} of the variables of each member.

  Raises ValueError for members that are not alike.
  """
  found, shapes = {}, []
  for i, variables in enumerate(members):
    if adapted.FROZEN in variables:
      variables = adapted.merge(variables)
    arrays = flatten_dict(jax.tree.map(np.asarray, dict(variables)), sep='/')
    shapes.append({k: v.shape for k, v in arrays.items()})
    found |= {f'{i}/{k}': np.asarray(v, np.float32) for k, v in arrays.items()}
  if any(each != shapes[0] for each in shapes):
    raise ValueError(
      'the members differ in their weights: export each by itself, '
      '--workdir=RUN/member0'
    )
  return found


def write(path, arrays):
  """Writes a .safetensors file: its header's size, the header, the numbers."""
  header, at = {}, 0
  for name, array in arrays.items():
    header[name] = {
      'dtype': 'F32',
      'shape': [*array.shape],
      'data_offsets': [at, at + array.nbytes],
    }
    at += array.nbytes
  text = json.dumps(header).encode()
  text += b' ' * (-len(text) % 8)
  with files.replacing(path, 'wb') as f:
    f.write(len(text).to_bytes(8, 'little') + text)
    for array in arrays.values():
      f.write(np.ascontiguousarray(array, '<f4').tobytes())
