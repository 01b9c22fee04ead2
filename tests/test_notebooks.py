"""Every notebook runs from top to bottom against the installed wheel, away from the checkout.

Each runs in a fresh process, so that none sees what another left behind. The processes are forked from one that has
imported the slow libraries, so that they are paid for once, see `warm`.
"""
import json, re, shutil

import pytest
import warm
from conftest import root, tracked

notebooks = sorted(p.relative_to('nbs').as_posix() for p in tracked() if p.suffix == '.ipynb' and p.parts[0] == 'nbs')
limit = 240  # seconds a notebook may take


@pytest.fixture
def nbs(tmp_path):
    "A copy of the tracked notebooks and what lies beside them, with the settings nbdev looks for"
    for path in tracked():
        if path.parts[0] != 'nbs' and path.name != 'settings.ini': continue
        (tmp_path/path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root/path, tmp_path/path)
    return tmp_path/'nbs'


def finish(name, tmp_path, path, what):
    "Run the notebook at `path` in a process of its own, and fail with what went wrong in it"
    report = tmp_path/'report.txt'
    process = warm.server().Process(target=warm.run_notebook, args=(path, report, root))
    process.start()
    process.join(limit)
    if process.is_alive():
        process.kill()
        pytest.fail(f'{what} took more than {limit} s: make it smaller.', pytrace=False)
    if report.exists(): pytest.fail(f'{what} fails against the installed wheel:\n{report.read_text()}', pytrace=False)
    if process.exitcode: pytest.fail(f'{what} ended its process with exit code {process.exitcode}.', pytrace=False)


unseen = re.compile(r'^#\| *(hide\b|echo: *false)', re.M)


def set_apart(source):
    "Code that runs `source` on what the visible cells have made so far, and keeps from them what it makes itself"
    directives = [line for line in source.splitlines() if line.startswith('#|')]
    run = f"apart = globals().setdefault('_apart', {{}}); apart.update(globals()); exec({source!r}, apart); del apart"
    return '\n'.join([*directives, run])


def hide_names(path):
    "Make the visible cells of the notebook at `path` do without what its other cells define: that is what a reader of the site can copy"
    book = json.loads(path.read_text(encoding='utf-8'))
    for cell in book['cells']:
        source = ''.join(cell['source'])
        if cell['cell_type'] == 'code' and unseen.search(source): cell['source'] = set_apart(source)
    path.write_text(json.dumps(book), encoding='utf-8')


@pytest.mark.parametrize('name', notebooks)
def test_notebook(name, nbs, tmp_path):
    if name.startswith('tutorials/'): hide_names(nbs/name)
    finish(name, tmp_path, nbs/name, f'nbs/{name}')


def test_hidden_names_stay_hidden():
    seen = {}
    for code in 'a = 1', set_apart('b = a + 1'), set_apart('assert b == 2; a = 3'), 'c = a': exec(code, seen)
    assert seen['c'] == 1 and 'b' not in seen
