"""A round: what is sent, what comes back, and what the server makes of it.

The simulation and the real server both go through `merged`; arrays are numpy.
"""

import dataclasses
import numbers
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class Server:
  """What the server knows after some rounds; a checkpoint is this.

  step: steps that each site has had. params, variables: of the model. own: the
  trees of the algorithm. counted: {site: step after the last round in which it
  was counted}.
  """

  step: int
  params: Any
  variables: Any
  own: Mapping[str, Any]
  counted: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Reply:
  """What a site sends back.

  step: that of the server whose parameters it began with. n: its training
  cases. leaves: {path: array} of what does not stay at the site. loss: mean
  over its steps.
  """

  site: str
  step: int
  n: int
  leaves: Mapping[str, np.ndarray]
  loss: float = float('nan')


def begun(algorithm, params, variables):
  """The server before the first round."""
  params, variables = map(on_host, (params, variables))
  return Server(0, params, variables, algorithm.of_server(params), {})


def on_host(tree):
  """A tree of arrays as numpy."""
  return jax.tree.map(np.asarray, jax.device_get(tree))


def leaves_of(params, variables, keep=()):
  """{path: array} of those leaves whose path matches none of `keep`."""
  pairs = jax.tree_util.tree_leaves_with_path(_both(params, variables))
  named = {_path(path): leaf for path, leaf in pairs}
  return {k: v for k, v in named.items() if not matches(keep, k)}


def replaced(params, variables, leaves):
  """(params, variables) with those leaves in their places."""
  both = jax.tree_util.tree_map_with_path(
    lambda path, leaf: leaves.get(_path(path), leaf), _both(params, variables)
  )
  return both['params'], {k: v for k, v in both.items() if k != 'params'}


def _both(params, variables):
  return {'params': params, **variables}


def _path(path):
  return jax.tree_util.keystr(path, simple=True, separator='/')


def matches(patterns, path):
  """Whether a leaf is one of those that stay at their site."""
  return any(re.search(pattern, path) for pattern in patterns)


def check_keep(keep, params, variables):
  """Raises ValueError for patterns of which none is found, or all is."""
  every = leaves_of(params, variables)
  kept = [path for path in every if matches(keep, path)]
  if keep and len(kept) in (0, len(every)):
    tops = dict.fromkeys('/'.join(path.split('/')[:2]) for path in every)
    what = 'all leaves' if kept else 'no leaf'
    raise ValueError(
      f'keep={", ".join(keep)} matches {what} of the model, which has '
      + ', '.join(tops)
    )


def refused(reply, server, sent):
  """Why a reply cannot be counted, or ''. `sent`: the leaves that were sent."""
  if reply.step != server.step:
    return f'answers step {reply.step}, and {server.step} was asked'
  whole = isinstance(reply.n, numbers.Integral)
  if not whole or isinstance(reply.n, bool) or not 0 < reply.n < 2**29:
    return f'says it has {reply.n!r} cases'
  if odd := {*reply.leaves} ^ {*sent}:
    return f'sends other parameters: {min(odd)}'
  for path, leaf in reply.leaves.items():
    like, leaf = sent[path], np.asarray(leaf)
    if leaf.shape != like.shape or leaf.dtype != like.dtype:
      return (
        f'sends {path} as {leaf.dtype} {leaf.shape}, not as {like.dtype} '
        f'{like.shape}'
      )
    floating = jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating)
    if floating and not np.isfinite(leaf).all():
      return f'sends {path} with values that are not finite'
  return ''


def sifted(algorithm, server, replies: Sequence[Reply]):
  """(replies that count, in order of their sites, {site: why not})."""
  sent = leaves_of(server.params, server.variables, algorithm.keep)
  good, out = {}, {}
  for reply in sorted(replies, key=lambda reply: reply.site):
    reason = refused(reply, server, sent)
    if not reason and reply.site in good:
      reason = 'answers twice'
    if reason:
      out[reply.site] = reason
    else:
      good[reply.site] = reply
  return list(good.values()), out


def mean_of(replies):
  """The mean of the leaves by cases: {path: array}.

  Summed in float64: what all sites have alike is unchanged to the bit. A leaf
  of integers is that of the first site.
  """
  total, first = sum(reply.n for reply in replies), replies[0].leaves
  mean = {}
  for path, like in first.items():
    mean[path] = like
    if jax.numpy.issubdtype(like.dtype, jax.numpy.floating):
      each = (reply.n * np.asarray(reply.leaves[path], np.float64)
              for reply in replies)  # fmt: skip
      mean[path] = (sum(each) / total).astype(like.dtype)
  return mean


def updated(algorithm, server, mean, counted, *, steps, rate, share):
  """The server after a round.

  mean: {path: array}, of the sites `counted`. steps: of each site in a round.
  rate: sum of their learning rates. share: of all cases, those of `counted`.
  """
  params, variables = replaced(server.params, server.variables, mean)
  params, own = algorithm.update(
    server.params, server.own, params, share=share, rate=rate
  )
  now = server.step + steps
  return Server(
    step=now,
    params=params,
    variables=variables,
    own=own,
    counted={**server.counted, **dict.fromkeys(counted, now)},
  )


def merged(algorithm, server, replies, *, steps, rate, total, mean=mean_of):
  """(server after a round, {site: why it was left out}).

  total: cases of all sites. mean: how that of replies is found. Where no reply
  counts, the server is as it was.
  """
  good, out = sifted(algorithm, server, replies)
  if not good:
    return server, out
  server = updated(
    algorithm, server, mean(good), [reply.site for reply in good],
    steps=steps, rate=rate, share=sum(reply.n for reply in good) / total,
  )  # fmt: skip
  return server, out


def size(leaves):
  """Bytes of arrays."""
  return sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(leaves))


def check_enough(counted, out, least):
  """Raises ValueError where too few sites took part in a round."""
  if len(counted) >= least:
    return
  why = '; '.join(f'{site} {reason}' for site, reason in sorted(out.items()))
  raise ValueError(
    f'{len(counted)} of at least {least} sites took part'
    + (f' ({why})' if why else '')
    + ': the rounds before are saved; mend the sites, and the same command '
    'goes on, or give a smaller --min_sites'
  )
