"""The page in Chromium: by clicks, by keys, in both schemes and widths."""

import contextlib
import shutil
import socket
import threading

import hospital
import numpy as np
import pytest
import sqlalchemy as sa
import uvicorn

from medjax.service import complete, intake, models, tables, users, worker
from medjax.service.web import serve

playwright = pytest.importorskip(
  'playwright.sync_api', reason='playwright is not installed'
)
PASSWORD = 'a-long-password'
# What a picture of contrast needs of each text: WCAG 2.2, 1.4.3.
CHECK = """() => {
  const parse = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => {
    v /= 255;
    return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  }).reduce((s, v, k) => s + v * [0.2126, 0.7152, 0.0722][k], 0);
  const back = (e) => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const bad = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.textContent.trim() || !e.getClientRects().length)
      continue;
    const [a, b] = [parse(getComputedStyle(e).color), back(e)].map(light);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.push(`${e.textContent.trim()}: ${ratio.toFixed(1)}`);
  }
  for (const e of document.querySelectorAll('input, textarea, canvas')) {
    const named = e.labels?.length || e.getAttribute('aria-label');
    if (e.type !== 'hidden' && !named) bad.push(`no label: ${e.name}`);
  }
  for (const e of document.querySelectorAll('button, a'))
    if (!e.textContent.trim()) bad.push('a button or link without a name');
  const heads = [...document.querySelectorAll('h1, h2, h3')].map((e) =>
    Number(e.tagName[1]));
  if (heads[0] !== 1) bad.push('the first heading is not h1');
  if (heads.some((h, k) => k && h > heads[k - 1] + 1))
    bad.push('a level of headings is left out');
  if (!document.documentElement.lang) bad.push('no language');
  return bad;
}"""


@pytest.fixture(scope='module')
def browser():
  path = shutil.which('chromium') or shutil.which('google-chrome')
  if path is None:
    pytest.skip('Chromium is not installed (chromium)')
  with playwright.sync_playwright() as p:
    found = p.chromium.launch(executable_path=path, args=['--no-sandbox'])
    yield found
    found.close()


@contextlib.contextmanager
def served(store):
  """The address of a service with a doctor."""
  with store.write() as c:
    users.add(c, 'doctor', 'doctor', password=PASSWORD)
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    port = s.getsockname()[1]
  config = uvicorn.Config(
    serve.make_app(store), port=port, log_level='critical'
  )
  server = uvicorn.Server(config)
  thread = threading.Thread(target=server.run)
  thread.start()
  hospital.wait(lambda: server.started)
  try:
    yield f'http://127.0.0.1:{port}'
  finally:
    server.should_exit = True
    thread.join()


def log_in(page):
  """By the keyboard alone: the name gets the focus by itself."""
  # The page sets it at its first drawing, which may come after its loading.
  page.wait_for_selector('input[name=name]:focus')
  page.keyboard.type('doctor')
  page.keyboard.press('Tab')
  page.keyboard.type(PASSWORD)
  page.keyboard.press('Enter')


def analysed(store, files):
  for path in files:
    intake.receive(store, path.read_bytes())
  complete.complete_studies(store)
  assert worker.Worker(store, 'w').step()


@pytest.fixture
def url(store, workdir, images, tmp_path):
  """The address of a service with a study that was analysed."""
  models.install(
    store,
    workdir,
    when='Modality=MR',
    by_rule='anterior=fleischner',  # any that reads a size
  )
  analysed(store, hospital.mr_series(images[0], tmp_path / 'd'))
  with served(store) as address:
    yield address


@pytest.mark.parametrize(('scheme', 'width'), [('light', 1280), ('dark', 390)])
def test_from_the_list_to_an_answer(browser, url, store, scheme, width):
  context = browser.new_context(
    viewport={'width': width, 'height': 844}, color_scheme=scheme
  )
  page, asked, said = context.new_page(), [], []
  page.set_default_timeout(60_000)
  page.on('request', lambda r: asked.append(r.url))
  page.on('console', lambda m: said.append(m.text) if m.type == 'error' else 0)
  page.on('pageerror', lambda e: said.append(str(e)))

  def check():
    assert page.evaluate(CHECK) == []
    assert page.evaluate('document.documentElement.scrollWidth') <= width
    for secret in (hospital.MRN, hospital.BORN):
      assert secret not in page.url + page.title()

  page.goto(url)
  assert page.url == f'{url}/login'
  check()
  log_in(page)
  page.wait_for_selector('tbody a')
  check()
  page.focus('tbody a')
  page.keyboard.press('Enter')
  page.wait_for_selector('.viewer[data-ready=true]')
  check()
  pixels = page.locator('canvas').screenshot()
  page.uncheck('input[name=mask]')
  page.check('input[name=uncertainty]')
  page.wait_for_timeout(500)
  assert page.locator('canvas').screenshot() != pixels
  assert page.is_visible('text=By rule')
  assert page.is_visible('text=Fleischner Society 2017')
  page.click('text=Model card')
  page.wait_for_selector('text=Known failures')
  assert page.evaluate('document.documentElement.scrollWidth') <= width
  page.go_back()
  page.wait_for_selector('.viewer[data-ready=true]')
  page.fill('textarea >> nth=0', 'one slice too many')
  page.click('button[value=amend] >> nth=0')
  page.wait_for_selector('text=Your answer is stored.')
  assert page.is_visible('text=one slice too many')
  check()
  page.click('text=Agreement')
  page.wait_for_selector('meter')
  check()
  with store.read() as c:
    (row,) = c.execute(sa.select(tables.assessments)).all()
  assert (row.finding, row.verdict, row.user) == ('anterior', 'amend', 'doctor')
  assert {
    a for a in asked if not a.startswith((url, 'data:', 'blob:'))
  } == set()
  assert said == []
  context.close()


def test_a_film_with_what_it_is_like(
  browser, store, seen, shared_data, tmp_path
):
  models.install(store, seen, when='Modality=DX')
  arrays = np.load(shared_data('pneumoniamnist') / 'pneumoniamnist.npz')
  picture = arrays['train_images'][0]
  analysed(store, [hospital.x_ray(picture, tmp_path / 'x.dcm')])
  context = browser.new_context(viewport={'width': 1280, 'height': 1000})
  page = context.new_page()
  page.set_default_timeout(60_000)
  with served(store) as url:
    page.goto(url)
    log_in(page)
    page.click('tbody a')
    page.wait_for_selector('.viewer[data-ready=true]')
    assert page.is_visible('text=Nearest cases of the training')
    before = page.locator('canvas').screenshot()
    page.check('input[name=explanation]')
    page.wait_for_timeout(500)
    assert page.locator('canvas').screenshot() != before
    assert page.evaluate(CHECK) == []
    assert not page.is_visible('text=Slice')  # a film has one

  context.close()
