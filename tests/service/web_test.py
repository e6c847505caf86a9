"""HTTP: who may do what, STOW-RS, the API, and nothing of a patient in it."""

import contextlib
import io
import json
import re
import shutil

import hospital
import pydicom
import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from medjax import files
from medjax.service import (
  audit,
  complete,
  intake,
  models,
  tables,
  users,
  worker,
)
from medjax.service.web import serve

SECRETS = (hospital.NAME.split('^')[1], hospital.BORN, hospital.MRN)
HOST = 'http://localhost'


@pytest.fixture
def client(store):
  return TestClient(
    serve.make_app(store), base_url=HOST, follow_redirects=False
  )


def add(store, name, role):
  with store.write() as c:
    return users.add(
      c, name, role, password='' if role == 'machine' else 'p' * 12
    )


def log_in(client, store, role='doctor'):
  add(store, role, role)
  reply = client.post('/login', data={'name': role, 'password': 'p' * 12})
  assert reply.status_code == 303
  return reply


def bearer(store):
  return {'Authorization': f'Bearer {add(store, "scanner", "machine")}'}


def multipart(parts, boundary='XX'):
  body = b''.join(
    f'--{boundary}\r\nContent-Type: application/dicom\r\n\r\n'.encode()
    + part + b'\r\n'
    for part in parts
  )  # fmt: skip
  return body + f'--{boundary}--\r\n'.encode()


def stow(client, headers, body, kind=None):
  kind = kind or 'multipart/related; type="application/dicom"; boundary=XX'
  return client.post(
    '/dicomweb/studies', content=body, headers={**headers, 'Content-Type': kind}
  )


@pytest.mark.parametrize(
  'path',
  ['/api/studies', '/api/studies/x', '/api/jobs/1', '/metrics',
   '/results/1/sr.dcm', '/agreement', '/studies/x', '/'],
)  # fmt: skip
def test_nothing_without_logging_in(client, path):
  assert client.get(path).status_code == 401
  html = client.get(path, headers={'Accept': 'text/html'})
  assert (html.status_code, html.headers['location']) == (303, '/login')


def test_cookies_and_headers(client, store):
  reply = log_in(client, store)
  cookie = reply.headers['set-cookie'].casefold()
  assert 'httponly' in cookie
  assert 'samesite=strict' in cookie
  page = client.get('/')
  assert page.status_code == 200
  assert "default-src 'self'" in page.headers['content-security-policy']
  assert not re.search(r'(src|href)="(https?:)?//', page.text)
  with store.read() as c:
    kept = json.dumps([list(r) for r in c.execute(sa.select(tables.sessions))])
  assert client.cookies['medjax_session'] not in kept
  assert client.post('/logout').status_code == 303
  assert client.get('/').status_code == 401


def test_other_pages_and_hosts_are_refused(client, store):
  log_in(client, store)
  assert client.get('/', headers={'Host': 'evil'}).status_code == 400
  other = {'Origin': 'http://evil'}
  assert client.post('/logout', headers=other).status_code == 403
  assert client.get('/').status_code == 200
  data = {'name': 'doctor', 'password': 'p' * 12}
  assert client.post('/login', data=data, headers=other).status_code == 403


def test_wrong_passwords_have_to_wait(client, store):
  add(store, 'doctor', 'doctor')
  wrong = {'name': 'doctor', 'password': 'wrong'}
  for _ in range(5):
    assert client.post('/login', data=wrong).status_code == 401
  right = {'name': 'doctor', 'password': 'p' * 12}
  reply = client.post('/login', data=right)
  assert reply.status_code == 429
  assert 'wait' in reply.text
  nobody = {'name': 'my-password', 'password': 'x'}
  assert client.post('/login', data=nobody).status_code == 401
  with store.read() as c:
    assert 'my-password' not in audit.export(c)


@pytest.mark.parametrize(
  ('role', 'stow_status', 'answer'),
  [('viewer', 403, 403), ('doctor', 400, 404), ('admin', 400, 403)],
)
def test_roles(client, store, role, stow_status, answer):
  log_in(client, store, role)
  assert stow(client, {}, b'').status_code == stow_status
  body = {'job': 1, 'finding': 'x', 'verdict': 'agree'}
  reply = client.post('/api/studies/x/assessment', json=body)
  assert reply.status_code == answer


def test_stow_answers_for_each_instance(client, store, images, tmp_path):
  headers = bearer(store)
  files = [
    p.read_bytes() for p in hospital.mr_series(images[0], tmp_path / 'd')
  ]
  reply = stow(client, headers, multipart(files))
  assert reply.status_code == 200
  assert len(reply.json()['00081199']['Value']) == len(files)
  assert '00081198' not in reply.json()
  # All of those that failed are named, and the rest is kept.
  d = pydicom.dcmread(io.BytesIO(files[0]))
  d.EchoTime = 4
  stream = io.BytesIO()
  d.save_as(stream)
  odd = [files[1], stream.getvalue(), files[2][:400], b'']
  reply = stow(client, headers, multipart(odd))
  assert reply.status_code == 202
  assert len(reply.json()['00081198']['Value']) == 3
  assert len(reply.json()['00081199']['Value']) == 1
  reply = stow(client, headers, multipart(odd[1:]))
  assert reply.status_code == 409
  # Of a study that the address names, and of no other.
  reply = client.post(
    '/dicomweb/studies/1.2.3', content=multipart(files[:1]),
    headers={**headers, 'Content-Type': 'multipart/related; boundary=XX'},
  )  # fmt: skip
  assert reply.status_code == 409


@pytest.mark.parametrize(
  ('kind', 'body', 'status'),
  [
    ('multipart/related', b'x', 400),
    ('application/dicom', b'x', 415),
    ('multipart/related; boundary=XX', b'x', 400),
    ('multipart/related; boundary=XX', b'--XX\r\n\r\nabc', 400),
    ('multipart/related; boundary=XX', b'--XX--\r\n', 400),
  ],
)
def test_bodies_that_are_none(client, store, kind, body, status):
  reply = stow(client, bearer(store), body, kind)
  assert reply.status_code == status
  assert reply.text.count('\n') == 1


def test_a_body_that_is_too_large_is_refused_as_it_comes(client, store):
  limits = type(store.settings.intake)(quiet_seconds=0.0, largest_mb=1)
  object.__setattr__(store.settings, 'intake', limits)
  headers, seen = bearer(store), []

  def endless():
    yield b'--XX\r\n\r\n'
    for k in range(64):
      seen.append(k)
      yield b'x' * 2**20

  reply = stow(client, headers, endless())
  assert reply.status_code == 413
  big = {**headers, 'Content-Length': str(2**30)}
  assert stow(client, big, b'').status_code == 413


@pytest.fixture
def analysed(store, workdir, images, tmp_path):
  """The id of a study that was analysed."""
  models.install(store, workdir, when='Modality=MR')
  for path in hospital.mr_series(images[0], tmp_path / 'd'):
    answer = intake.receive(store, path.read_bytes())
  complete.complete_studies(store)
  assert worker.Worker(store, 'w').step()
  return answer.study


def test_a_report_shows_the_card_of_its_model(
  client, store, analysed, workdir, tmp_path
):
  log_in(client, store)
  with store.read() as c:
    before = c.execute(sa.select(tables.models)).one()
  page = client.get(f'/studies/{analysed}').text
  assert before.digest[:16] in page
  assert before.facts['run'][:16] in page
  assert '<a href="/jobs/1/card">' in page
  card = client.get('/jobs/1/card')
  assert before.facts['run'] in card.text  # what the card calls the model
  assert 'Test, Dice' in card.text
  assert '<script' not in card.text
  assert "default-src 'none'" in card.headers['content-security-policy']
  # Another model of the same name changes nothing of what was said.
  other = tmp_path / workdir.name
  shutil.copytree(workdir, other)
  (other / 'metrics.json').unlink()
  calibration = files.read_json(other / 'calibration.json', mend='')
  files.write_json(
    other / 'calibration.json', {**calibration, 'thresholds': [0.4]}
  )
  models.install(store, other, when='Modality=MR')
  with store.read() as c:
    after = c.execute(sa.select(tables.models)).one()
  assert after.digest != before.digest
  assert after.facts['card'] == ''
  assert client.get(f'/studies/{analysed}').text == page
  assert client.get('/jobs/1/card').text == card.text
  assert client.get('/jobs/7/card').status_code == 404
  body = {'job': 1, 'finding': 'anterior', 'verdict': 'agree'}
  client.post(f'/api/studies/{analysed}/assessment', json=body)
  with store.read() as c:
    rows = c.execute(sa.select(tables.audit)).all()
  assert rows[-1].model == before.digest
  assert before.digest[:8] in client.get('/agreement').text
  anonymous = TestClient(client.app, base_url=HOST, follow_redirects=False)
  assert anonymous.get('/jobs/1/card').status_code == 401


# The risk of a rule that an earlier release could not tell.
UNKNOWN = {'n': 1, 'coverage': 1.0, 'risk': [None] * 3, 'risk_is': 'errors'}


@pytest.mark.parametrize(
  ('model', 'doubts', 'text'),
  [
    ({'rule': None, 'novelty': True}, [], 'not unlike the training cases'),
    ({'rule': None, 'novelty': False}, [], 'nothing was measured on'),
    ({'novelty': True}, ['it is at the edge'], 'it is at the edge'),
    ({'rule': UNKNOWN}, [], 'within what training and validation had'),
  ],
)
def test_what_is_said_of_doubt(client, store, analysed, model, doubts, text):
  with store.write() as c:
    said = c.scalar(sa.select(tables.jobs.c.outcome))
    said = {**said, 'doubts': doubts, 'model': {**said['model'], **model}}
    c.execute(tables.jobs.update().values(outcome=said))
  log_in(client, store)
  page = client.get(f'/studies/{analysed}').text
  doubt = page[page.index('Reasons for doubt') :]
  doubt = doubt[: doubt.index('Model and results')]
  assert text in doubt
  assert ('nothing was measured on' in doubt) is (text[:7] == 'nothing')


def test_a_store_that_is_away_is_a_sentence(store, monkeypatch):
  app = serve.make_app(store)
  client = TestClient(app, base_url=HOST, raise_server_exceptions=False)
  html = {'Accept': 'text/html'}

  @contextlib.contextmanager
  def away():
    raise sa.exc.OperationalError('', {}, Exception('disk is full'))
    yield

  add(store, 'viewer', 'viewer')
  client.post('/login', data={'name': 'viewer', 'password': 'p' * 12})
  monkeypatch.setattr(store, 'read', away)
  monkeypatch.setattr(store, 'write', away)
  for path in ('/', '/studies/x'):
    reply = client.get(path, headers=html)
    assert reply.status_code == 503
    assert 'The store cannot be read or written' in reply.text
    assert 'OperationalError' not in reply.text
  assert client.get('/healthz').status_code == 503


def test_the_work_list_says_what_was_refused(client, store):
  intake.receive(store, b'')
  log_in(client, store)
  page = client.get('/').text
  assert 'Refused in the last day' in page
  assert 'the file is empty' in page


def test_a_report_and_a_doctors_answer(client, store, analysed, capfd):
  log_in(client, store)
  html = {'Accept': 'text/html'}
  page = client.get(f'/studies/{analysed}', headers=html)
  assert page.status_code == 200
  for text in ('anterior', 'mm³', 'On validation', 'research use'.capitalize(),
               'Reasons for doubt', 'DICOM SEG'):  # fmt: skip
    assert text in page.text, text
  title = re.search('<title>(.*)</title>', page.text)[1]
  assert not any(s in title for s in SECRETS)
  for path in re.findall(r'(?:src|href|data-\w+)="([^"]*)"', page.text):
    assert not any(s in path for s in SECRETS)
  data = {'job': 1, 'finding': 'anterior', 'verdict': 'amend'}
  to = f'/studies/{analysed}/assessment'
  assert client.post(to, data=data).status_code == 422  # without what is right
  reply = client.post(to, data={**data, 'comment': '<b>two</b> mm less'})
  assert reply.status_code == 303
  page = client.get(reply.headers['location'].partition('#')[0], headers=html)
  assert 'Your answer is stored.' in page.text
  assert '&lt;b&gt;two' in page.text
  body = {'job': 1, 'finding': 'posterior', 'verdict': 'agree'}
  to = f'/api/studies/{analysed}/assessment'
  assert client.post(to, json=body).status_code == 201
  agreement = client.get('/agreement').text
  assert '50 %' in agreement
  with store.read() as c:
    text = audit.export(c)
    audit.verify(c)
  assert 'assessed: amend: anterior' in text
  assert 'looked at' in text


def test_nothing_of_a_patient_in_addresses_api_and_metrics(
  client, store, analysed, capfd
):
  headers = bearer(store)
  texts = [
    client.get(path, headers=headers).text
    for path in ('/api/studies', f'/api/studies/{analysed}', '/api/jobs/1',
                 '/metrics', '/api/openapi.json')
  ]  # fmt: skip
  with store.read() as c:
    texts.append(audit.export(c))
  texts += capfd.readouterr()
  for text in texts:
    assert not any(secret in text for secret in SECRETS)
  assert 'medjax_jobs{state="written"} 1' in texts[3]
  found = json.loads(texts[1])
  assert found['jobs'][0]['outcome']['summary'] == 'finding'
  report = client.get('/results/1/sr.dcm', headers=headers)
  assert pydicom.dcmread(io.BytesIO(report.content)).Modality == 'SR'
  view = client.get('/results/1/mask.nii.gz', headers=headers)
  assert view.content[:2] == b'\x1f\x8b'
  assert client.get('/results/1/x.dcm', headers=headers).status_code == 404


def test_an_abstention_is_never_no_finding(client, store, analysed):
  from medjax.service import outcome

  said = outcome.abstained('model unsure', 'the model is unsure: 0.41')
  with store.write() as c:
    c.execute(tables.jobs.update().values(outcome=said))
  log_in(client, store)
  page = client.get(
    f'/studies/{analysed}', headers={'Accept': 'text/html'}
  ).text
  assert 'No statement. The model is unsure.' in page
  assert 'This does not mean that nothing was found.' in page
  assert '>no finding<' not in page


def test_a_name_that_is_a_script_is_text(client, store, images, tmp_path):
  (file, *_) = hospital.mr_series(
    images[0], tmp_path / 'd', PatientName='<script>alert(1)</script>'
  )
  study = intake.receive(store, file.read_bytes()).study
  log_in(client, store)
  for path in ('/', f'/studies/{study}'):
    page = client.get(path, headers={'Accept': 'text/html'}).text
    assert '<script>alert' not in page
    assert '&lt;script&gt;alert' in page
