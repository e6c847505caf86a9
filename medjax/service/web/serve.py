"""The HTTP server of a service."""

import pathlib

import uvicorn
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.responses import PlainTextResponse
from starlette.staticfiles import StaticFiles

from medjax import __version__
from medjax.service.web import api, auth, pages

_HERE = pathlib.Path(__file__).parent


def make_app(store):
  """The application, with `store` behind it."""
  app = FastAPI(
    title='medjax.service',
    version=__version__,
    description='Analyses of studies. Research use, not a medical device.',
    openapi_url='/api/openapi.json',
    docs_url=None,  # its page loads scripts from elsewhere
    redoc_url=None,
  )
  app.state.store = store
  auth.add_guards(app, store.settings)
  app.include_router(api.router)
  app.include_router(pages.router, include_in_schema=False)
  app.mount('/static', StaticFiles(directory=_HERE / 'static'))

  @app.exception_handler(RequestValidationError)
  async def invalid(request, error):
    # Without the input, which the default answer quotes.
    first = error.errors()[0]
    where = '.'.join(map(str, first['loc'][1:]))
    return PlainTextResponse(f'{where}: {first["msg"]}\n', 422)

  pages.add_errors(app)
  return app


def config(store):
  """How uvicorn serves a store."""
  h = store.settings.http
  return uvicorn.Config(
    make_app(store),
    host=h.host,
    port=h.port,
    ssl_certfile=h.tls_cert or None,
    ssl_keyfile=h.tls_key or None,
    log_level='critical',
    access_log=False,
    server_header=False,
  )


def serve(store):
  """Serves until the process ends."""
  uvicorn.Server(config(store)).run()
