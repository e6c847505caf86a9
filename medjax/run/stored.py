"""The config of a workdir as an experiment file: --config=…/stored.py:WORKDIR

So fields of it can be set on the command line as those of any other.
"""

from medjax.config import load as get_config  # noqa: F401
