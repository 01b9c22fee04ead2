"""The website: one page a notebook, links that hold, nothing from elsewhere, and in a browser what a reader does.

The browser is `MTSSL_BROWSER` (a failure if it is not there), else `chromium` or `google-chrome` on PATH; without one, its tests are skipped.
"""
import ast, fcntl, functools, http.server, json, os, re, shutil, sys, threading
from types import SimpleNamespace
from urllib.parse import unquote

import pytest
import yaml
from bs4 import BeautifulSoup

from conftest import chromium, copy_checkout, flaws, root, run, tracked

sys.path.insert(0, str(root/'tools'))
import render

notebooks = [p for p in tracked() if p.suffix == '.ipynb' and p.parts[0] == 'nbs']


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    "The rendered site, under the name it is served by, /mtssl/; rendered once, however many test processes there are"
    shared = tmp_path_factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ: shared = shared.parent
    folder = shared/'site'
    with open(shared/'site.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder/'rendered').exists():
            shutil.rmtree(folder, ignore_errors=True)
            run(sys.executable, 'tools/render.py', folder/'mtssl', cwd=copy_checkout(folder/'checkout'))
            (folder/'rendered').touch()
    return folder/'mtssl'


@pytest.fixture(scope='module')
def index(site):
    "The search's index: pages, and entries of page, anchor, heading, whether it is a symbol, and text"
    return json.loads((site/'search.js').read_text(encoding='utf-8').removeprefix('window.searchIndex = '))


def addresses(site):
    "Every page that a notebook made; maps, which `mtssl map` makes, are tested by test_map.py"
    return sorted(p.relative_to(site).as_posix() for p in site.rglob('*.html') if p.parent != site/'maps')


def test_pages(site):
    pages = set(addresses(site)) - {'404.html'}
    assert len(pages) == len(notebooks), f'{len(notebooks)} notebooks gave {len(pages)} pages: do two of them have the same title or module?'
    for page in pages | {'404.html'}:
        html = (site/page).read_text(encoding='utf-8')
        loaded = re.findall(r'<(?:script|img|link|source)[^>]*(?:src|href)="((?:https?:)?//[^"]*)', html)
        assert not loaded, f'{page} loads {loaded[0]}: pages must not need a network'
        assert 'math inline' not in html and 'Traceback (most recent call last)' not in html, f'{page} shows raw formulas or a traceback'
        assert '](<a href' not in html, f'{page} shows a link within a link: names in backquotes become links by themselves'
        assert html.count('<h1') == 1 and html.count('<main') == 1, f'{page} needs one h1 and one main'
        assert 'after_create:NoneType' not in html, f'{page}: the signature of a callback has every event in it'
        private = [i for i in re.findall(r'<h[2-4][^>]* id="([^"]*)"', html) if i.rpartition('.')[2].startswith('_')]
        assert not private, f'{page} documents {private[0]}, a private name'
        bare = [i for i in re.findall(r'<img[^>]*>', html) if not re.search(r'alt="[^"]', i)]
        assert not bare, f'{page} has a picture without words for those who do not see it: {bare[0]}'
    mapped = re.findall('<loc>([^<]*)</loc>', (site/'sitemap.xml').read_text())
    base = yaml.safe_load((root/'nbs/nbdev.yml').read_text())['website']['site-url']
    assert {u.removeprefix(f'{base}/') for u in mapped} == pages


def test_index(site, index):
    "Small, complete, and no entry leads to an anchor that is not there"
    assert (site/'search.js').stat().st_size < 1.2e6
    assert {page for page, *_ in index['pages']} == set(addresses(site)) - {'404.html'}
    anchors = [set(re.findall(r' id="([^"]*)"', (site/page).read_text(encoding='utf-8'))) | {''} for page, *_ in index['pages']]
    lost = [(index['pages'][p][0], anchor) for p, anchor, *_ in index['entries'] if anchor not in {unquote(a) for a in anchors[p]}]
    assert not lost, f'The search leads to {lost[0]}, which is not there'


def test_tables(site):
    "The first column of scores is the mean, and figures are sharp: more pixels than they take"
    html = (site/'studies.findings.html').read_text(encoding='utf-8')
    assert re.search(r'<th[^>]*>mean</th>\s*<th[^>]*>mean of synthesised</th>', html)
    picture = re.search(r'<img[^>]*src="(index_files/1.png)"[^>]*>', (site/'index.html').read_text(encoding='utf-8'))
    width = int(re.search(r' width="(\d+)"', picture[0])[1])
    assert int.from_bytes((site/picture[1]).read_bytes()[16:20], 'big') >= 1.9 * width


def test_rowspans():
    "Cells under one that spans rows stand in their own columns; columns of numbers to the right; the first column stays where the table scrolls"
    head = '<thead><tr><th></th><th></th><th>mean</th></tr><tr><th>set</th><th>probe</th><th></th></tr></thead>'
    soup = BeautifulSoup(f'<table>{head}<tr><th rowspan="2">a</th><th>knn</th><td>.1</td></tr><tr><th>mlp</th><td>.2</td></tr><tr><th>b</th><th>knn</th><td>.3</td></tr></table>', 'html.parser')
    render.tables(soup, 'title')
    assert [[c.get_text() for c in row] for _, row in render.grid(soup.table)] == [['set', 'probe', 'mean'], ['a', 'knn', '.1'], ['a', 'mlp', '.2'], ['b', 'knn', '.3']]
    assert [c.get_text() for c in soup.select('.number')] == ['mean', '.1', '.2', '.3'] and [c.get_text() for c in soup.select('.first')] == ['set', 'a', 'b']


def test_reference(site):
    "The API page has every name that a module exports, and keeps no copy that could grow stale"
    html = (site/'api.html').read_text(encoding='utf-8')
    for path in sorted(p for p in (root/'mtssl').rglob('*.py') if p.stem[0] != '_'):
        names = [n.value for n in ast.parse(path.read_text(encoding='utf-8')).body if isinstance(n, ast.Assign) and getattr(n.targets[0], 'id', '') == '__all__']
        room = '.'.join(path.relative_to(root/'mtssl').with_suffix('').parts)
        for name in ast.literal_eval(names[0]) if names else ():
            assert re.search(rf'<a href="{re.escape(room)}\.html(?:#[^"]*)?"><code>{name}</code></a>', html), f'api.html does not lead to mtssl.{room}.{name}'
    for cell in json.loads((root/'nbs/api.ipynb').read_text())['cells']: assert not cell.get('outputs'), 'nbs/api.ipynb stores an output; the site makes it anew: run tools/execute.py nbs/api.ipynb'


def test_contrast():
    "Text in every colour of the palette has WCAG's AA contrast, 4.5, on every ground it stands on, light and dark"
    css = (root/'tools/site/site.css').read_text(encoding='utf-8')
    palette = {name: pair for name, *pair in re.findall(r'--(\w+): light-dark\((#\w{6}), (#\w{6})\)', css)}
    def luminance(colour):
        parts = [int(colour[k:k + 2], 16) / 255 for k in (1, 3, 5)]
        return sum(w * (v / 12.92 if v <= .04045 else ((v + .055) / 1.055) ** 2.4) for w, v in zip((.2126, .7152, .0722), parts))
    def contrast(a, b):
        a, b = sorted((luminance(a), luminance(b)))
        return (b + .05) / (a + .05)
    assert contrast('#000000', '#ffffff') == pytest.approx(21) and contrast('#777777', '#ffffff') == pytest.approx(4.48, abs=.01)
    pairs = [(i, g) for i in 'ink soft accent keyword text number comment name'.split() for g in ('ground', 'panel')] + [('ink', 'mark'), ('ink', 'glow'), ('soft', 'glow'), ('accent', 'glow')]
    weak = [(i, g, k, round(c, 2)) for i, g in pairs for k in (0, 1) if (c := contrast(palette[i][k], palette[g][k])) < 4.5]
    weak += [('#ffffff', 'fill', k) for k in (0, 1) if contrast('#ffffff', palette['fill'][k]) < 4.5]
    assert not weak, f'These pairs of colours are too alike: {weak}'


@pytest.fixture(scope='module')
def browser():
    "A headless browser of the system"
    with chromium('--disable-gpu') as started: yield started


@pytest.fixture(scope='module')
def address(site):
    "The site over http"
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args): pass
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=site.parent))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}/mtssl/'
    server.shutdown()
    server.server_close()


@pytest.fixture
def tab(browser, address):
    "A new page in a context of its own, and what went wrong in it"
    context = browser.new_context(viewport=dict(width=1280, height=900), color_scheme='light', permissions=['clipboard-read', 'clipboard-write'])
    page, wrong = context.new_page(), []
    page.set_default_timeout(15000)
    page.on('console', lambda m: wrong.append(f'{page.url}: {m.text}') if m.type in ('error', 'warning') else None)
    page.on('pageerror', lambda e: wrong.append(f'{page.url}: {e}'))
    page.on('requestfailed', lambda r: wrong.append(f'{page.url}: {r.url} failed'))
    page.on('request', lambda r: None if r.url.startswith((address, 'data:')) else wrong.append(f'{page.url} asks for {r.url}'))
    page.on('response', lambda r: wrong.append(f'{r.url}: status {r.status}') if r.status >= 400 else None)
    yield SimpleNamespace(page=page, wrong=wrong, context=context)
    context.close()
    assert not wrong, '\n'.join(wrong)


def test_browser_pages(site, address, tab):
    "Every page: its pictures show, it has its landmarks, and neither a screen nor a phone scrolls sideways"
    for name in addresses(site):
        tab.page.set_viewport_size(dict(width=1280, height=900))
        tab.page.goto(address + name, wait_until='load')
        seen = '''() => ({wide: document.scrollingElement.scrollWidth, blind: [...document.images].filter(i => !i.naturalWidth).map(i => i.src),
            marks: ['header', 'main', 'footer', 'nav#pages', 'a.skip'].filter(s => document.querySelectorAll(s).length !== 1), lang: document.documentElement.lang,
            levels: [...document.querySelectorAll('h1, h2, h3, h4, h5')].map(h => +h.tagName[1])})'''
        found = tab.page.evaluate(seen)
        assert found['wide'] <= 1280, f'{name} is {found["wide"]} pixels wide on a screen of 1280'
        assert not found['blind'], f'{name}: these pictures do not show: {found["blind"]}'
        assert not found['marks'] and found['lang'] == 'en', f'{name} needs one each of {found["marks"]}, and a language'
        assert found['levels'][0] == 1 and found['levels'].count(1) == 1, f'{name}: the first heading must be the only h1'
        tab.page.set_viewport_size(dict(width=390, height=844))
        wide = tab.page.evaluate('document.scrollingElement.scrollWidth')
        assert wide <= 390, f'{name} is {wide} pixels wide on a phone of 390'


def test_browser_search(site, address, tab):
    page = tab.page
    page.goto(address)
    page.keyboard.press('/')
    page.keyboard.type('tempogram')
    first = page.locator('[role=option]').first
    first.locator('mark').first.wait_for()
    assert 'tempogram' in first.inner_text().lower() and page.locator('[role=option]').count() > 3
    page.keyboard.press('ArrowDown')
    assert page.locator('[role=option]').nth(1).get_attribute('aria-selected') == 'true'
    page.keyboard.press('ArrowUp')
    page.keyboard.press('Enter')
    page.wait_for_url(re.compile(r'/features\.targets\.html#tempogram'))
    page.wait_for_function("Math.abs(document.querySelector(location.hash).getBoundingClientRect().top) < 200")
    page.get_by_role('button', name='Search').click()
    page.keyboard.type('xyzzyx')
    page.get_by_text('0 found').wait_for()
    page.keyboard.press('Escape')
    page.locator('dialog').wait_for(state='hidden')


def test_browser_search_from_a_folder(site, browser):
    page = browser.new_page()
    page.goto((site/'features.targets.html').as_uri())
    page.keyboard.press('/')
    page.keyboard.type('Registry')
    page.locator('[role=option] mark').first.wait_for(timeout=15000)
    page.keyboard.press('Enter')
    page.wait_for_url('**/core.registry.html*', timeout=15000)
    page.close()


asked = { # what people type: a page that must be among the first three
    'license': 'faq', 'licence': 'faq', 'finetune': 'faq', 'finetuning': 'faq', 'fine-tune': 'faq', 'multi gpu': 'faq', 'out of memory': 'faq', 'oom': 'faq', 'batch size': 'faq', 'install': 'faq', 'pip install': 'faq',
    'sklearn': 'faq', 'windows': 'faq', 'colab': 'faq', 'troubleshooting': 'faq', 'resume': 'faq', 'how do i use a gpu': 'faq', 'tensorboard': 'pretraining.logs', 'mp3': 'faq', 'cite': 'faq', 'custom worker': 'faq', 'onnx': 'faq',
    'spectogram': 'features', 'tempograms': 'features.targets', 'chroma': 'features.targets', 'uncertainty weighting': 'pretraining.weighting', 'weightings': 'pretraining.weighting', 'gtzan': 'probing',
    '--save-every': 'app.cli', 'crops_per_epoch': '', 'fit_one_cycle': '', 'what is a hop': 'glossary', 'embeding': 'embedding'}


def test_browser_search_words(address, tab):
    "Stems, typos, other words for the same thing, whole questions, options and names in code"
    tab.page.goto(address)
    tab.page.evaluate('load()')
    wrong = {}
    for query, wanted in asked.items():
        hits = tab.page.evaluate('q => found(q).slice(0, 3).map(h => index.pages[index.entries[h.id][0]][0] + "#" + index.entries[h.id][2])', query)
        if not any(h.startswith(wanted) for h in hits): wrong[query] = hits
    assert not wrong, f'Not among the first three: {wrong}'


def test_browser_accessible(address, tab):
    "axe-core finds nothing wrong on pages of every kind, half of them on a phone in the dark, nor in the search"
    looks = {('dark', 390): ('index', 'faq', 'features.targets', 'app.cli', 'pretraining.weighting', 'tutorials/first_pretraining', 'models', 'real_music', '404'),
             ('light', 1280): ('index', 'studies.findings', 'core.report', 'gallery', 'glossary', 'other_projects', 'api', 'map_of_free_music', 'tutorials/label_your_collection')}
    for (scheme, width), names in looks.items():
        tab.page.set_viewport_size(dict(width=width, height=844))
        tab.page.emulate_media(color_scheme=scheme)
        for name in names:
            tab.page.goto(f'{address}{name}.html', wait_until='load')
            assert not (found := flaws(tab.page)), f'{name}: {found}'
        tab.page.keyboard.press('/')
        tab.page.keyboard.type('tempogram')
        tab.page.locator('[role=option] mark').first.wait_for()
        assert not (found := flaws(tab.page)), f'search: {found}'


def test_browser_dark(address, tab):
    "Dark mode follows the system until the button is pressed, and is remembered on other pages"
    page, ground = tab.page, 'getComputedStyle(document.body).backgroundColor'
    page.goto(address)
    light = page.evaluate(ground)
    page.emulate_media(color_scheme='dark')
    dark = page.evaluate(ground)
    assert dark != light
    page.emulate_media(color_scheme='light')
    button = page.get_by_role('button', name='Dark mode')
    page.locator('.theme[aria-pressed=false]').wait_for()
    button.click()
    assert page.evaluate(ground) == dark and button.get_attribute('aria-pressed') == 'true'
    page.goto(address + 'features.targets.html')
    assert page.evaluate(ground) == dark
    page.get_by_role('button', name='Dark mode').click()
    assert page.evaluate(ground) == light


def test_browser_copy(address, tab):
    page = tab.page
    page.goto(address + 'features.targets.html')
    block = page.locator('.code').first
    block.get_by_role('button', name='Copy code').focus()
    page.keyboard.press('Enter')
    block.get_by_text('Copied').wait_for()
    assert page.evaluate('navigator.clipboard.readText()') == block.locator('pre').inner_text().rstrip()


def test_browser_reading(address, tab):
    "The section in view is marked; pages before and after lead there and back; a phone has the pages in a drawer"
    page = tab.page
    page.goto(address + 'features.targets.html#timbre')
    page.locator('aside a[aria-current][href="#timbre"]').wait_for()
    page.locator('a[rel=next]').click()
    page.wait_for_url(lambda url: not url.endswith('features.targets.html#timbre'))
    page.locator('a[rel=prev]').click()
    page.wait_for_url('**/features.targets.html')
    page.set_viewport_size(dict(width=390, height=844))
    pages = page.locator('#pages')
    pages.wait_for(state='hidden')
    page.get_by_role('button', name='Pages').click()
    pages.wait_for(state='visible')
    assert pages.locator('[aria-current]').first.inner_text() == 'Targets' and page.evaluate("document.activeElement.closest('#pages') !== null")
    page.keyboard.press('Escape')
    pages.wait_for(state='hidden')


def test_browser_missing(address, tab):
    "The page for what is not there finds its style and its links at any depth"
    page = tab.page
    body = page.request.get(address + '404.html').text()
    page.route('**/deep/down/nothing.html', lambda route: route.fulfill(body=body, content_type='text/html'))
    page.goto(address + 'deep/down/nothing.html')
    page.get_by_role('link', name='home page').click()
    page.wait_for_url('**/mtssl/index.html')
