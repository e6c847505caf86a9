"""Messages between a server and its sites, over Flower.

A message is a question, {field: number or text} and {path: array}, and so is
its answer. The server's process holds Flower's SuperLink, and a site's process
speaks to its Fleet API, so that compiled programs live from round to round;
`flwr run` would start a process, and load JAX, for every message. These are
parts that Flower does not promise to keep: its version is pinned.
"""

import contextlib
import json
import logging
import os
import pathlib
import socket
import threading
import time

os.environ.setdefault('FLWR_TELEMETRY_ENABLED', '0')

LOOPBACK = ('127.0.0.1', 'localhost', '[::1]')
_POLL = 0.1  # seconds between looking for messages
_FIELDS = 'medjax'
_FLEET = '/v1/fleet/'
_BEAT = 10  # seconds between signs of life of the server's own task


class ToldError(ValueError):
  """What ends a site, in words for the server: of no case and no path."""


class RefusalError(ToldError):
  """A question that a site does not answer; it stays in the federation.

  Its words are for the server too.
  """


def told(error):
  """What the server learns of an error of a site.

  Its own words may name a patient's file, and the server tells all sites.
  """
  if isinstance(error, ToldError):
    return ' '.join(str(error).split())[:200]
  return f'{type(error).__name__}, of which the site itself says more'


def _flower():
  """Flower, or an OSError that says how to get it."""
  try:
    import flwr
  except ImportError:
    raise OSError(
      'sites talk over Flower, which is not here: pip install '
      "'medjax[federated]' into an environment of its own"
    ) from None
  logging.getLogger('flwr').setLevel(logging.CRITICAL)  # it says a lot
  return flwr


def check_place(address, safe):
  """Raises ValueError for plain HTTP beyond this machine."""
  host = address.rpartition(':')[0]
  if not safe and host not in LOOPBACK:
    raise ValueError(
      f'{address}: parameters would travel unencrypted: give --certificate and '
      '--key to the server, and --authority to the sites'
    )


def record(fields, arrays=()):
  """What Flower sends, of fields and arrays."""
  from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

  content = {_FIELDS: ConfigRecord({'json': json.dumps(fields)})}
  if arrays:
    content[f'{_FIELDS}.arrays'] = ArrayRecord(
      {path: Array(leaf) for path, leaf in arrays.items()}
    )
  return RecordDict(content)


def read(content):
  """(fields, arrays) of what Flower sent.

  Raises ValueError for what `record` did not make.
  """
  try:
    fields = json.loads(content[_FIELDS]['json'])
    arrays = content.get(f'{_FIELDS}.arrays', {})
    arrays = {path: array.numpy() for path, array in arrays.items()}
  except Exception as e:  # of others: anything may be in it
    raise ValueError(f'is no message ({type(e).__name__})') from None
  if not isinstance(fields, dict):
    raise ValueError('is no message (no fields)')
  return fields, arrays


class Link:
  """The server's end, for the body of a `with`.

  address: HOST:PORT to listen on, port 0 for any. certificate, key: files in
  PEM for HTTPS. Attributes: `address`; `grid`, Flower's.
  """

  def __init__(self, address, *, certificate='', key=''):
    check_place(address, certificate)
    if bool(certificate) != bool(key):
      raise ValueError('--certificate and --key go together')
    _flower()
    for path in filter(None, (certificate, key)):
      pathlib.Path(path).read_bytes()  # or the error says which
    host, _, port = address.rpartition(':')
    if not port.isdigit():
      raise ValueError(f'{address} is not HOST:PORT')
    self._host = host.strip('[]')
    self._tls = (certificate, key)
    self._socket = _listening(self._host, int(port), address)
    self.address = f'{host}:{self._socket.getsockname()[1]}'

  def __enter__(self):
    from flwr.common.constant import SUPERLINK_NODE_ID
    from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
    from flwr.supercore.task_identity import TaskIdentity
    from flwr.superlink import main as superlink
    from flwr.superlink.grid import HttpGrid

    certificate, key = self._tls
    app = superlink.create_app()
    inside = _listening('127.0.0.1', 0, 'this machine')
    self._served = [
      _serving(app, inside),  # for the grid below
      _serving(
        _fleet_only(app), self._socket,
        ssl_certfile=certificate or None, ssl_keyfile=key or None,
      ),
    ]  # fmt: skip
    state = app.state.linkstate_factory.state()
    run_id = state.create_run(
      None, None, None, {}, NOOP_FEDERATION_ID, None, None, TaskType.SERVER_APP
    )
    (run,) = state.get_run_info(run_ids=[run_id])
    token = state.claim_task(run.primary_task_id)
    state.activate_task(run.primary_task_id)
    self._state, self._task = state, run.primary_task_id
    TaskIdentity.task_id, TaskIdentity.run_id = run.primary_task_id, run_id
    TaskIdentity.node_id = SUPERLINK_NODE_ID
    self._ended = threading.Event()
    threading.Thread(target=self._beat, daemon=True).start()
    place = f'127.0.0.1:{inside.getsockname()[1]}'
    self.grid = HttpGrid(place, insecure=True, token=token)
    self.grid.set_run(run)
    return self

  def _beat(self):
    while not self._ended.wait(_BEAT):
      self._state.acknowledge_task_heartbeat(self._task)

  def __exit__(self, *exception):
    self._ended.set()
    self.grid.close()
    for server, _ in self._served:
      server.should_exit = True
    for _, thread in self._served:
      thread.join(10)

  def nodes(self):
    """The numbers of the sites that are connected."""
    return sorted(self.grid.get_node_ids())

  def ask(self, questions, *, timeout):
    """Answers by node: (fields, arrays), or an error as text.

    questions: {node: (fields, arrays)}.
    A site that has not answered after `timeout` seconds, or went away, has an
    error for an answer.
    """
    from flwr.app import Message
    from flwr.app.message_type import MessageType

    messages = [
      Message(record(*question), node, MessageType.TRAIN, ttl=2 * timeout + 60)
      for node, question in questions.items()
    ]
    replies, late = self.wait(messages, [*questions], timeout=timeout)
    found = dict.fromkeys(late, f'did not answer in {timeout:g} s')
    for node, reply in replies.items():
      try:
        if reply.has_error():
          raise ValueError(f'failed ({reply.error.reason})'[:200])
        found[node] = read(reply.content)
      except ValueError as e:
        found[node] = str(e)
    return found

  def wait(self, messages, nodes, *, timeout):
    """({node: its reply}, [nodes that have not answered in time])."""
    ids = self.grid.push_messages(messages)
    waiting, found = dict(zip(ids, nodes, strict=True)), {}
    until = time.monotonic() + timeout
    while waiting and time.monotonic() < until:
      for reply in self.grid.pull_messages([*waiting]):
        node = waiting.pop(reply.metadata.reply_to_message_id, None)
        if node is not None:
          found[node] = reply
      time.sleep(_POLL if waiting else 0)
    return found, [*waiting.values()]


def _fleet_only(app):
  """What sites need of Flower's app, without what starts and stops runs."""

  async def outside(scope, receive, send):
    if scope['type'] == 'http' and not scope['path'].startswith(_FLEET):
      await send({'type': 'http.response.start', 'status': 404, 'headers': []})
      await send({'type': 'http.response.body', 'body': b''})
    else:
      await app(scope, receive, send)

  return outside


def _serving(app, listening, **options):
  """(uvicorn's server, its thread) of an app, listening."""
  import uvicorn

  server = uvicorn.Server(
    uvicorn.Config(app, log_level='error', lifespan='off', **options)
  )
  thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
  thread.start()
  while not server.started:
    if not thread.is_alive():
      raise OSError('the server did not start: is its certificate whole?')
    time.sleep(0.01)
  return server, thread


def _listening(host, port, address):
  family = socket.AF_INET6 if ':' in host else socket.AF_INET
  listening = socket.socket(family)
  listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
  try:
    listening.bind((host, port))
  except OSError as e:
    listening.close()
    raise OSError(f'{address}: cannot listen there ({e.strerror})') from None
  return listening


def answer(address, respond, *, authority='', patience=600):
  """Answers the server's questions until one of them was the last.

  respond: a message → (content of the answer, whether it was the last); where
  it raises `RefusalError`, that is the answer, and the site goes on.
  authority: a file in PEM by which the server's certificate is known.

  Raises OSError where the server cannot be reached for `patience` seconds.
  """
  check_place(address, authority)
  _flower()
  from flwr.supernode.fleet_http_connection import http_request_response

  gone = OSError(
    f'{address}: no server there for {patience:g} s: start it, or say where it '
    'is with --server'
  )
  ended = []
  try:
    # It swallows what goes wrong within, so the answer is whether it ended.
    with http_request_response(
      address, not authority, authority or None, None, None, patience
    ) as connection:
      _answering(connection, respond, ended)
  except SystemExit:
    raise gone from None
  if isinstance(ended and ended[0], Exception):
    raise ended[0]
  if not ended:
    raise gone


def _answering(connection, respond, ended):
  from flwr.app import Error, Message
  from flwr.common.constant import ErrorCode
  from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
  )
  from flwr.supercore.inflatable.inflatable_utils import (
    inflate_object_from_contents,
    pull_objects,
  )

  _, receive, send, _, _, pull, push, confirm = connection
  while not ended:
    found = receive()
    if found is None:
      time.sleep(_POLL)
      continue
    head, tree = found
    run_id, message_id = head.metadata.run_id, head.metadata.message_id
    contents = pull_objects(
      [each.object_id for each in iterate_object_tree(tree)],
      pull_object_fn=lambda name, run_id=run_id: pull(run_id, name),
    )
    confirm(run_id, message_id)
    message = inflate_object_from_contents(message_id, contents)
    message.metadata.__dict__['_message_id'] = message_id
    begun = time.monotonic()
    try:
      content, last = respond(message)
    except RefusalError as e:
      content, last = (
        Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, told(e)),
        False,
      )
    except Exception as e:  # the connection would swallow it
      ended.append(e)
      with contextlib.suppress(Exception):
        content, last = record({'error': told(e)}), True
    reply = Message(content, reply_to=message)
    reply.metadata.__dict__['_message_id'] = reply.object_id
    every = get_all_nested_objects(reply)
    wanted, session = send(
      reply, get_object_tree(reply), time.monotonic() - begun
    )
    for name in wanted:
      push(run_id, session, name, every[name].deflate())
    if last and not ended:
      ended.append(True)
