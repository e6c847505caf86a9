"""Who may do what over HTTP, and the headers that keep a browser careful."""

import urllib.parse

from fastapi import HTTPException, Request
from starlette.responses import PlainTextResponse

from medjax.service import users

COOKIE = 'medjax_session'
_HEADERS = {
  # niivue keeps fonts and colour maps in itself, as data:; blob: is its canvas.
  'Content-Security-Policy': (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
  ),
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'same-origin',
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cache-Control': 'no-store',
}


def add_guards(app, settings):
  """Refuses other names for this host, and sets the headers of all answers."""
  allowed = {h.casefold() for h in settings.http.hosts}

  @app.middleware('http')
  async def guard(request, call_next):
    host = request.headers.get('host', '').casefold()
    if host.rsplit(':', 1)[0].strip('[]') not in allowed:
      return PlainTextResponse('this host is not called so', 400)
    reply = await call_next(request)
    for name, value in _HEADERS.items():
      reply.headers.setdefault(name, value)
    return reply


def same_origin(request):
  """Whether a page of ours asks."""
  origin = request.headers.get('origin')
  if origin is None:  # older browsers, which SameSite=Strict guards
    return request.headers.get('sec-fetch-site', 'same-origin') == 'same-origin'
  return urllib.parse.urlsplit(origin).netloc == request.headers.get('host')


def user_of(request: Request):
  """The row of the user who asks, or None. Blocks."""
  store = request.app.state.store
  kind, _, token = request.headers.get('authorization', '').partition(' ')
  if kind.casefold() == 'bearer':
    return users.of_token(store, token, 'token')
  token = request.cookies.get(COOKIE)
  if not token:
    return None
  if request.method not in ('GET', 'HEAD') and not same_origin(request):
    raise HTTPException(403, 'asked from another page')
  return users.of_token(store, token, 'session')


def role(*roles):
  """A dependency: the user, who must have one of the roles."""

  def check(request: Request):
    user = user_of(request)
    if user is None:
      raise HTTPException(401, 'log in first', {'WWW-Authenticate': 'Bearer'})
    if user.role not in roles:
      raise HTTPException(403, f'a {user.role} may not do this')
    return user

  return check


READERS = ('viewer', 'doctor', 'admin', 'machine')
PEOPLE = ('viewer', 'doctor', 'admin')
