"""Rounds under Flower's SecAgg+: the server sees only the mean of the steps.

What a site sends is its step, w − w₀, in float64, which Flower rounds to levels
and masks; `secure.Range` is the guard. Weights, losses and who took part are
seen by the server.
"""

import json
import types

import numpy as np

from medjax.federated import link as link_lib

_THRESHOLD = 0.6  # of the sites, whose shares undo the masks


class _Watched:
  """A grid whose messages are waited for as `Link.wait` does."""

  def __init__(self, link):
    self._link, self.errors = link, {}

  def send_and_receive(self, messages, *, timeout=None):
    messages = list(messages)
    nodes = [message.metadata.dst_node_id for message in messages]
    replies, late = self._link.wait(messages, nodes, timeout=timeout)
    for node in late:
      self.errors[node] = f'did not answer in {timeout:g} s'
    for node, reply in replies.items():
      if reply.has_error():
        self.errors[node] = f'failed ({reply.error.reason})'[:200]
    return list(replies.values())


class _Once:
  """A strategy of Flower's for one round: its question, and its answers."""

  def __init__(self, questions):
    self._questions, self.results = questions, None

  def configure_fit(self, server_round, parameters, client_manager):
    return [
      (types.SimpleNamespace(node_id=node), question)
      for node, question in self._questions.items()
    ]

  def aggregate_fit(self, server_round, results, failures):
    self.results = results
    return None, {}


def mean_of(link, questions, declared, *, number, timeout):
  """({path: mean step}, {node: fields}, {node: why not}) of a round.

  questions: {node: (fields, arrays)}. Raises ValueError where too few sites
  finished for the masks to be undone.
  """
  from flwr.app import ArrayRecord, ConfigRecord, Context, RecordDict
  from flwr.common import FitIns, ndarrays_to_parameters, parameters_to_ndarrays
  from flwr.server.compat.legacy_context import LegacyContext
  from flwr.server.workflow import SecAggPlusWorkflow
  from flwr.server.workflow.constant import (
    MAIN_CONFIGS_RECORD,
    MAIN_PARAMS_RECORD,
    Key,
  )

  declared.check_sum(len(questions))
  asked = {}
  for node, (fields, arrays) in questions.items():
    paths = sorted(arrays)
    asked[node] = FitIns(
      ndarrays_to_parameters([arrays[path] for path in paths]),
      {'json': json.dumps({**fields, 'paths': paths})},
    )
  strategy, grid = _Once(asked), _Watched(link)
  context = LegacyContext(
    context=Context(
      run_id=link.grid.run.run_id, node_id=0, node_config={},
      state=RecordDict(), run_config={},
    ),
    strategy=strategy,
    client_manager=types.SimpleNamespace(num_available=lambda: len(asked)),
  )  # fmt: skip
  context.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord(
    {Key.CURRENT_ROUND: number}
  )
  context.state.array_records[MAIN_PARAMS_RECORD] = ArrayRecord()
  SecAggPlusWorkflow(
    1.0,
    _THRESHOLD,
    max_weight=float(declared.most),
    clipping_range=float(declared.limit),
    quantization_range=declared.levels,
    modulus_range=2**declared.width,
    timeout=timeout,
  )(grid, context)
  if not strategy.results:
    why = '; '.join(f'a site {reason}' for reason in grid.errors.values())
    raise ValueError(
      f'secure aggregation: too few of {len(asked)} sites finished ({why}): '
      'the rounds before are saved, and the same command goes on'
    )
  found = {
    proxy.node_id: json.loads(result.metrics['json'])
    for proxy, result in strategy.results
  }
  fields = next(iter(found.values()))
  steps = parameters_to_ndarrays(strategy.results[0][1].parameters)
  mean = dict(zip(fields['paths'], steps, strict=True))
  return mean, found, {k: v for k, v in grid.errors.items() if k not in found}


class Masking:
  """A site's end: what `respond` says to a round is masked."""

  def __init__(self, declared, respond):
    from flwr.app import Context, RecordDict

    self._declared, self._respond = declared, respond
    self._context = Context(
      run_id=0, node_id=0, node_config={}, state=RecordDict(), run_config={}
    )

  @staticmethod
  def asked(content):
    """Whether a message is of a masked round."""
    from flwr.common.secure_aggregation.secaggplus_constants import (
      RECORD_KEY_CONFIGS,
    )

    return RECORD_KEY_CONFIGS in content

  def __call__(self, message):
    """The content of the answer to a stage of the protocol."""
    from flwr.client.mod import secaggplus_mod

    return secaggplus_mod(message, self._context, self._stepped).content

  def _stepped(self, message, context):
    """The step of a round, as Flower wants it."""
    from flwr.app import Message
    from flwr.common import (
      Code,
      FitRes,
      Status,
      ndarrays_to_parameters,
      parameters_to_ndarrays,
    )
    from flwr.compat.common import recorddict_compat as compat

    question = compat.recorddict_to_fitins(message.content, keep_input=True)
    fields = json.loads(question.config['json'])
    values = parameters_to_ndarrays(question.parameters)
    arrays = dict(zip(fields.pop('paths'), values, strict=True))
    about, leaves = self._respond(fields, arrays)
    steps = {
      path: np.subtract(leaf, arrays[path], dtype=np.float64)
      for path, leaf in sorted(leaves.items())
    }
    try:
      self._declared.check(steps, about['n'])
    except ValueError as e:  # the server must know which range would do
      raise link_lib.RefusalError(str(e)) from None
    result = FitRes(
      status=Status(Code.OK, ''),
      parameters=ndarrays_to_parameters([*steps.values()]),
      num_examples=about['n'],
      metrics={'json': json.dumps({**about, 'paths': [*steps]})},
    )
    content = compat.fitres_to_recorddict(result, keep_input=True)
    return Message(content, reply_to=message)
