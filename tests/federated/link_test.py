"""The wire itself: HTTPS, what is open to the network, and late answers."""

import os
import shutil
import subprocess
import sys

import pytest

PYTHON = os.environ.get('MEDJAX_FLOWER_PYTHON', sys.executable)
PROGRAM = """
import threading, time
import httpx
import numpy as np
from medjax.federated import link

def respond(message):
  fields, arrays = link.read(message.content)
  if fields['k'] == 1:
    raise link.RefusalError('not this one')
  if fields['k'] == 2:
    time.sleep(3)
  if fields['k'] == 4:
    raise FileNotFoundError('/hospital/a/Meier_Eva/ct.nii.gz: damaged')
  doubled = {k: 2 * v for k, v in arrays.items()}
  return link.record({'k': fields['k']}, doubled), fields['k'] == 3

options = dict(certificate='c.pem', key='k.pem')
with link.Link('127.0.0.1:0', **options) as served:
  def begin():
    before = served.nodes()
    site = threading.Thread(
      target=link.answer, args=(served.address, respond),
      kwargs={'authority': 'c.pem', 'patience': 20},
    )
    site.start()
    while not {*served.nodes()} - {*before}:
      time.sleep(0.1)
    return site, ({*served.nodes()} - {*before}).pop()

  site, node = begin()
  sent = np.arange(6, dtype=np.float32).reshape(2, 3)
  for k, timeout in ((0, 20), (1, 20), (2, 1), (0, 20)):
    found = served.ask({node: ({'k': k}, {'a/b': sent})}, timeout=timeout)
    answer = found[node]
    if not isinstance(answer, str):
      fields, arrays = answer
      assert (arrays['a/b'] == 2 * sent).all()
      assert arrays['a/b'].dtype == sent.dtype
      answer = fields
    print(k, answer)
  served.ask({node: ({'k': 3}, {})}, timeout=20)
  site.join(30)
  print('alive', site.is_alive())
  site, node = begin()
  print(served.ask({node: ({'k': 4}, {})}, timeout=20)[node])
  site.join(30)
  for path in ('/v1/control/list-runs', '/docs'):
    url = f'https://{served.address}{path}'
    print(path, httpx.post(url, verify='c.pem').status_code)
  try:
    link.answer(served.address, respond, patience=1)  # plain HTTP
  except OSError as e:
    print(e)
"""


def test_https_refusals_late_answers_and_what_is_open(tmp_path):
  if subprocess.run(
    [PYTHON, '-c', 'import flwr'], capture_output=True
  ).returncode or not shutil.which('openssl'):
    pytest.skip('needs Flower ($MEDJAX_FLOWER_PYTHON) and openssl')
  subprocess.run(
    ['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt',
     'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', 'k.pem', '-out',
     'c.pem', '-days', '2', '-subj', '/CN=localhost', '-addext',
     'subjectAltName=IP:127.0.0.1'],
    cwd=tmp_path, check=True, capture_output=True,
  )  # fmt: skip
  done = subprocess.run(
    [PYTHON, '-c', PROGRAM],
    cwd=tmp_path,
    capture_output=True,
    text=True,
    timeout=240,
    env={**os.environ, 'PYTHONPATH': os.getcwd()},
  )
  said = done.stdout.splitlines()
  # What became of a site that ended, unless Flower noticed first that it left.
  ended = said.pop(5)
  assert 'FileNotFoundError, of which the site' in ended or 'failed' in ended
  assert said[:7] == [
    "0 {'k': 0}",
    '1 failed (not this one)',
    '2 did not answer in 1 s',
    "0 {'k': 0}",
    'alive False',
    '/v1/control/list-runs 404',
    '/docs 404',
  ], done.stderr
  assert 'no server there for 1 s' in said[7]
  # Whose file it was is said where it lies.
  assert 'Meier_Eva' not in done.stdout
  assert 'Meier_Eva' in done.stderr


def test_parameters_do_not_travel_in_the_clear():
  from medjax.federated import link

  link.check_place('127.0.0.1:9092', '')
  link.check_place('[::1]:9092', '')
  link.check_place('hospital.example:9092', 'ca.pem')
  with pytest.raises(ValueError, match='would travel unencrypted'):
    link.check_place('hospital.example:9092', '')
