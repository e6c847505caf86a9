"""The verbs, as an administrator types them."""

import os
import subprocess
import sys

import hospital
import pytest

from medjax.service import __main__ as service
from medjax.service import settings, supervise


@pytest.fixture(scope='module')
def home(tmp_path_factory):
  return hospital.Service(tmp_path_factory.mktemp('h') / 'home').init()


def test_init_send_status_user_audit(home, images, tmp_path):
  hospital.mr_series(images[0], tmp_path / 'd')
  (tmp_path / 'd' / 'notes.txt').write_text('no DICOM')
  (tmp_path / 'd' / 'record.json').write_text('{}')  # of deidentify
  done = home.call('send', tmp_path / 'd', check=False)
  assert done.returncode == 1
  assert done.stderr.count('\n') == 1
  assert 'notes.txt: the file is no whole DICOM' in done.stderr
  assert 'studies: ' in done.stdout
  said = home.call('status')
  assert 'receiving' in said
  assert 'refused in the last day, 1 times: the file is no whole DICOM' in said
  assert 'password' in home.call('user', 'add', 'anna', '--role=doctor')
  assert 'token' in home.call('user', 'add', 'scanner', '--role=machine')
  assert 'whole' in home.call('audit', 'verify')
  assert '<AuditMessage>' in home.call('audit', 'export')
  assert '0 studies' in home.call('purge', '--older=30d')


@pytest.mark.parametrize(
  ('arguments', 'line'),
  [
    (['model', '--workdir=nowhere', '--when=Modality=MR'], 'nowhere'),
    (['model', '--workdir=nowhere', '--when=Modalty=MR'], "'Modality'"),
    (
      ['model', '--workdir=w', '--when=Modality=MR', '--facts=none'],
      'none: no such file of facts',
    ),
    (['send', 'nowhere'], 'nowhere: no such file'),
    (['retry', '7'], 'there is no job 7'),
    (['purge', '--older=soon'], 'say 30d'),
    (['user', 'add', 'x', '--role=king'], 'no role'),
    (['run', '--parts=web,x'], "no part 'x'"),
  ],
)
def test_errors_are_one_line(home, arguments, line):
  done = home.call(*arguments, check=False)
  assert done.returncode == 1
  assert done.stderr.count('\n') == 1
  assert line in done.stderr


def test_init_of_a_home_that_is_there_changes_nothing(tmp_path, capsys):
  service.init(tmp_path, http_port=8001)
  said = settings.read(tmp_path)
  assert (said.dicom.port, said.http.port) == (11112, 8001)
  service.init(tmp_path, http_port=8001)
  service.init(tmp_path)
  for option in (
    dict(port=11113), dict(http_port=8000), dict(files='/shared'),
    dict(database='postgresql+psycopg://medjax@db/medjax'),
  ):  # fmt: skip
    with pytest.raises(ValueError, match='is there already, with another'):
      service.init(tmp_path, **option)
  assert settings.read(tmp_path) == said
  assert 'is ready' in capsys.readouterr().out


def test_codes_are_utf8_whatever_the_locale(tmp_path):
  path = tmp_path / 'codes.json'
  path.write_text('{"a": ["1", "99X", "Entzündung"]}', 'utf-8')
  code = (
    'from medjax.service import __main__ as service; '
    f'print(ascii(service._codes({str(path)!r})))'
  )
  off = {'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0', 'LC_ALL': 'POSIX'}
  done = subprocess.run(
    [sys.executable, '-c', code],
    env={**os.environ, **off}, capture_output=True, text=True,
  )  # fmt: skip
  assert r"'Entz\xfcndung'" in done.stdout
  path.write_text('{')
  with pytest.raises(ValueError, match=r'codes\.json is not JSON'):
    service._codes(path)


def test_a_home_that_is_none(tmp_path):
  done = hospital.Service(tmp_path / 'x').call('status', check=False)
  assert (done.returncode, done.stderr.count('\n')) == (1, 1)
  assert 'service init' in done.stderr


def test_help_has_an_example():
  done = subprocess.run(
    [sys.executable, '-m', 'medjax.service', '--help'],
    capture_output=True, text=True, check=True,
  )  # fmt: skip
  assert 'service send --home=hospital study/' in done.stdout


@pytest.mark.parametrize(
  ('text', 'line'),
  [
    ('[htp]\nport = 1', 'no part .htp.'),
    ('[http]\nprt = 1', "did you mean 'port'"),
    ('[http]\nport = "x"', 'no int'),
    ('[http]\nport = -1', 'below 0'),
    ('[[peer]]\nname = "a"\nresults = ["fax"]', "results has 'fax'"),
    ('[[peer]]\nname = "a"\nresults = ["stow"]', 'need dicomweb'),
    ('[[peer]]\nname = "a"\n[[peer]]\nname = "a"', 'one name'),
    ('[http', 'is not TOML'),
  ],
)
def test_settings_are_checked(tmp_path, text, line):
  (tmp_path / settings.NAME).write_text(text)
  with pytest.raises(ValueError, match=line):
    settings.read(tmp_path)


def test_settings_with_a_mark_of_byte_order(tmp_path):
  (tmp_path / settings.NAME).write_text('[http]\nport = 1', 'utf-8-sig')
  assert settings.read(tmp_path).http.port == 1


def test_the_template_says_the_defaults(tmp_path):
  settings.write(tmp_path)
  assert settings.read(tmp_path) == settings.Settings(tmp_path.resolve())


def test_nothing_is_shown_to_a_network_without_tls(tmp_path):
  (tmp_path / settings.NAME).write_text('[http]\nhost = "0.0.0.0"')
  found = settings.read(tmp_path)
  with pytest.raises(ValueError, match='without TLS'):
    supervise.check(found)
  supervise.check(found, behind_proxy=True)
  (tmp_path / settings.NAME).write_text('[dicom]\nhost = "0.0.0.0"')
  with pytest.raises(ValueError, match='who may send'):
    supervise.check(settings.read(tmp_path), behind_proxy=True)
