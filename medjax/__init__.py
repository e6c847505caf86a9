"""medjax: deep learning for medical images in JAX and Flax."""

__version__ = '0.1.0'

_PUBLIC = ('batches', 'load')


def __getattr__(name):
  # What these need takes seconds to import; `import medjax` takes none.
  if name not in _PUBLIC:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  from medjax import public

  return getattr(public, name)


def __dir__():
  return sorted({*globals(), *_PUBLIC})
