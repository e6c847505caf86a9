"""TLS over HTTP and DIMSE, with certificates of a throw-away authority."""

import dataclasses
import http.client
import shutil
import ssl
import subprocess
import threading
import urllib.error
import urllib.request

import hospital
import pytest
import sqlalchemy as sa
import uvicorn

from medjax.service import peers, scp, supervise, tables
from medjax.service import settings as settings_lib
from medjax.service.settings import Peer
from medjax.service.web import serve


@pytest.fixture(scope='module')
def certificates(tmp_path_factory):
  """A folder with two authorities, and a certificate of each for 127.0.0.1."""
  if shutil.which('openssl') is None:
    pytest.skip('openssl is not installed')
  folder = tmp_path_factory.mktemp('tls')

  def call(*arguments):
    command = ['openssl', *map(str, arguments)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)

  (folder / 'names').write_text('subjectAltName=IP:127.0.0.1')
  for name in ('ours', 'other'):
    kind = ('-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes')
    call('req', '-x509', *kind, '-keyout', f'{name}-ca.key', '-out',
         f'{name}-ca.pem', '-subj', f'/CN={name}', '-days', 2)  # fmt: skip
    call('req', '-new', *kind, '-keyout', f'{name}.key', '-out', f'{name}.csr',
         '-subj', '/CN=127.0.0.1')  # fmt: skip
    call('x509', '-req', '-in', f'{name}.csr', '-CA', f'{name}-ca.pem',
         '-CAkey', f'{name}-ca.key', '-CAcreateserial', '-out', f'{name}.pem',
         '-days', 2, '-extfile', 'names')  # fmt: skip
  return folder


def dicom(folder, name, *, ca='ours', port=0):
  """[dicom] with the certificate `name`, that trusts the authority `ca`."""
  return settings_lib.Dicom(
    port=port,
    tls_cert=str(folder / f'{name}.pem') if name else '',
    tls_key=str(folder / f'{name}.key') if name else '',
    tls_ca=str(folder / f'{ca}-ca.pem'),
  )


def with_dicom(store, part):
  return dataclasses.replace(store.settings, dicom=part)


def test_dimse_over_tls(store, certificates, images, tmp_path):
  port = hospital.free_port()
  store.settings = with_dicom(store, dicom(certificates, 'ours', port=port))
  server = scp.Scp(store)
  server.start()
  peer = Peer('X', ae_title='MEDJAX', port=port, tls=True, results=('c-store',))
  files = hospital.mr_series(images[0], tmp_path / 'd')[:2]
  data = [f.read_bytes() for f in files]
  try:
    peers.send(store.settings, peer, 'c-store', data)
    with store.read() as c:
      assert len(c.execute(sa.select(tables.instances)).all()) == 2
    for stranger in (
      with_dicom(store, dicom(certificates, '')),  # shows no certificate
      with_dicom(store, dicom(certificates, 'other')),  # one of others
      with_dicom(store, dicom(certificates, 'ours', ca='other')),
    ):
      with pytest.raises(peers.UnsentError, match='X'):
        peers.send(stranger, peer, 'c-store', data)
    plain = dataclasses.replace(peer, tls=False)
    with pytest.raises(peers.UnsentError):
      peers.send(store.settings, plain, 'c-store', data)
    peers.send(store.settings, peer, 'c-store', data)  # it is still up
  finally:
    server.stop()


def test_https(store, certificates):
  port = hospital.free_port()
  secured = dataclasses.replace(
    store.settings.http,
    port=port,
    tls_cert=str(certificates / 'ours.pem'),
    tls_key=str(certificates / 'ours.key'),
  )
  store.settings = dataclasses.replace(store.settings, http=secured)
  server = uvicorn.Server(serve.config(store))
  thread = threading.Thread(target=server.run)
  thread.start()
  try:
    hospital.wait(lambda: server.started)
    trusted, other = (
      ssl.create_default_context(cafile=certificates / f'{name}-ca.pem')
      for name in ('ours', 'other')
    )
    url = f'https://127.0.0.1:{port}/healthz'
    with urllib.request.urlopen(url, context=trusted) as reply:
      assert reply.read() == b'ok'
    with pytest.raises(urllib.error.URLError, match='CERTIFICATE'):
      urllib.request.urlopen(url, context=other)
    with pytest.raises((ConnectionError, http.client.HTTPException)):
      urllib.request.urlopen(url.replace('https', 'http'))
  finally:
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize('part', ['http', 'dicom'])
def test_no_port_is_open_to_others_without_tls(store, part, certificates):
  peer = Peer('X', ae_title='X', host='10.0.0.5')
  open_ = dataclasses.replace(
    store.settings,
    **{
      part: dataclasses.replace(getattr(store.settings, part), host='0.0.0.0')
    },
    peers=(peer,),
  )
  with pytest.raises(ValueError, match=rf'\[{part}\] host .* without TLS'):
    supervise.check(open_)
  supervise.check(open_, behind_proxy=True)
  cert = dataclasses.replace(
    getattr(open_, part), tls_cert='a.pem', tls_key='a.key'
  )
  supervise.check(dataclasses.replace(open_, **{part: cert}))
