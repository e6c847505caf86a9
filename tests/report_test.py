"""The command: one workdir, one line."""

import json
import subprocess
import sys


def test_command_line(tmp_path):
  command = [sys.executable, '-m', 'medjax.report', str(tmp_path)]
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  assert done.returncode == 1
  assert done.stderr.startswith(f'medjax: {tmp_path} holds no config.json')
  assert len(done.stderr.splitlines()) == 1
  (tmp_path / 'config.json').write_text(json.dumps({}))
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  assert done.stdout.strip() == str(tmp_path / 'report.html')


def test_matplotlib_is_imported_only_to_draw():
  code = (
    "import sys; import medjax.report; assert 'matplotlib' not in sys.modules"
  )
  subprocess.run([sys.executable, '-c', code], check=True)
