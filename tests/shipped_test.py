import pathlib

from medjax import shipped

ROOT = pathlib.Path(__file__).resolve().parents[1]


def test_a_config_is_found_from_anywhere(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert shipped.find('configs/unet.py') == ROOT / 'configs/unet.py'
  found = shipped.find('configs/benchmarks/medmnist.py')
  assert found == ROOT / 'configs/benchmarks/medmnist.py'


def test_a_file_in_the_current_folder_wins(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'configs').mkdir()
  (tmp_path / 'configs/unet.py').touch()
  assert shipped.find('configs/unet.py') == pathlib.Path('configs/unet.py')
  assert shipped.find('configs/resnet.py') == ROOT / 'configs/resnet.py'


def test_what_is_nowhere_stays_as_it_is(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for name in ('configs/unt.py', 'unet.py', 'medjax/main.py', '/configs/a.py'):
    assert shipped.find(name) == pathlib.Path(name)
