"""Files that come with medjax: configs/ and datasets/."""

import pathlib

_PACKAGE = pathlib.Path(__file__).resolve().parent


def folder(name):
  """The folder of this name: beside the package, or once installed inside."""
  beside = _PACKAGE.parent / name
  return beside if beside.is_dir() else _PACKAGE / name


def find(path):
  """A file, or the one of medjax that 'configs/unet.py', say, stands for.

  A file in the current folder wins. Where there is neither, the path as it is.
  """
  path = pathlib.Path(path)
  if not path.exists() and path.parts[0] in ('configs', 'datasets'):
    ours = folder(path.parts[0]).joinpath(*path.parts[1:])
    path = ours if ours.is_file() else path
  return path
