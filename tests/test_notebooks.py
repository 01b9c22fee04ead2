"""Every notebook runs from top to bottom against the installed wheel, away from the checkout.

Each runs in a fresh process, so that none sees what another left behind. The processes are forked from one that has
imported the slow libraries, so that they are paid for once.
"""
import contextlib, io, json, multiprocessing, os, re, shutil, traceback
from pathlib import Path

import pytest
from conftest import root, tracked

notebooks = sorted(p.relative_to('nbs').as_posix() for p in tracked() if p.suffix == '.ipynb' and p.parts[0] == 'nbs')
limit = 240  # seconds a notebook may take
preload = ['nbdev.test', 'matplotlib.pyplot', 'librosa', 'sklearn.pipeline', 'fastai.basics', 'torchaudio']


def run_notebook(path, report):
    "Run the notebook at `path` and write what went wrong to `report`"
    os.chdir(path.parent)
    multiprocessing.set_start_method(None, force=True)
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        try:
            import mtssl
            from nbdev.config import get_config
            from nbdev.test import test_nb
            if Path(mtssl.__file__).is_relative_to(root): raise RuntimeError(f'mtssl came from the checkout, {mtssl.__file__}, not from the wheel')
            passed, _ = test_nb(path, skip_flags=get_config().tst_flags.split())
        except BaseException: passed = bool(traceback.print_exc())
    if not passed: report.write_text(errors.getvalue() or 'it failed without a message')


@pytest.fixture(scope='session')
def server():
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(preload)
    return context


@pytest.fixture
def nbs(tmp_path):
    "A copy of the tracked notebooks and what lies beside them, with the settings nbdev looks for"
    for path in tracked():
        if path.parts[0] != 'nbs' and path.name != 'settings.ini': continue
        (tmp_path/path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root/path, tmp_path/path)
    return tmp_path/'nbs'


def finish(name, server, tmp_path, path, what):
    "Run the notebook at `path` in a process of its own, and fail with what went wrong in it"
    report = tmp_path/'report.txt'
    process = server.Process(target=run_notebook, args=(path, report))
    process.start()
    process.join(limit)
    if process.is_alive():
        process.kill()
        pytest.fail(f'{what} took more than {limit} s: make it smaller.', pytrace=False)
    if report.exists(): pytest.fail(f'{what} fails against the installed wheel:\n{report.read_text()}', pytrace=False)
    if process.exitcode: pytest.fail(f'{what} ended its process with exit code {process.exitcode}.', pytrace=False)


@pytest.mark.parametrize('name', notebooks)
def test_notebook(name, nbs, server, tmp_path): finish(name, server, tmp_path, nbs/name, f'nbs/{name}')


@pytest.mark.parametrize('name', [n for n in notebooks if n.startswith('tutorials/')])
def test_visible_cells(name, nbs, server, tmp_path):
    "What a reader of the site can copy, he can run: the cells of a tutorial that are shown, without those that are not"
    path = nbs/name
    book = json.loads(path.read_text(encoding='utf-8'))
    unseen = re.compile(r'^#\| *(hide\b|echo: *false)', re.M)
    book['cells'] = [c for c in book['cells'] if c['cell_type'] != 'code' or not unseen.search(''.join(c['source']))]
    path.write_text(json.dumps(book), encoding='utf-8')
    finish(name, server, tmp_path, path, f'The visible code of nbs/{name}')
