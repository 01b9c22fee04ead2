"""The house holds: rooms import downwards, the front door is instant, and every Python and version that is promised can read the code."""
import ast, configparser, re, shutil, subprocess, sys
from pathlib import Path

import pytest
from conftest import root, run, tracked, uv

rooms = {re.sub(r'^\d+_', '', p.stem): p.stem for p in tracked() if p.suffix == '.ipynb' and re.match(r'nbs/\d\d_', p.as_posix())}  # name: how they stand in the folder
modules = {'.'.join(p.with_suffix('').parts[1:]): root/p for p in tracked() if p.suffix == '.py' and p.parts[0] == 'mtssl' and len(p.parts) > 2 and p.stem[0] != '_'}


def fail(*lines): pytest.fail('\n'.join(map(str, lines)), pytrace=False)


def imported(name, path):
    "Rooms that the room `name` imports from anywhere in its code, and the lines"
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import): targets = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = ['mtssl', *name.split('.')][:-node.level] if node.level else []
            module = '.'.join([*parts, node.module or '']).strip('.')
            targets = [module, *(f'{module}.{a.name}' for a in node.names)]
        else: continue
        yield from ((t.removeprefix('mtssl.'), node.lineno) for t in targets if t.removeprefix('mtssl.') in modules)


def test_rooms():
    "A module per numbered notebook that exports, at the place its name says"
    homeless = sorted(set(modules) - set(rooms))
    if homeless: fail('These modules have no notebook of their name:', *homeless)
    functions = {name for path in modules.values() for name in (n.name for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef))}
    for name in modules:
        own = {n.name for n in ast.parse(modules[name].read_text()).body if isinstance(n, ast.FunctionDef)}
        if name.rpartition('.')[2] in own: fail(f'{name} has the name of a function in it.')
    wings = {name.partition('.')[0] for name in modules}
    offered = set(run(sys.executable, '-c', 'import mtssl; print(*mtssl.__all__)').stdout.split())
    if wings & (offered | functions): fail(f'A wing has the name of a function or of something that mtssl offers: {sorted(wings & (offered | functions))}')


def test_imports_lead_downwards():
    "Only from rooms that stand before it in `nbs`, in a module and within its functions; so there is no circle, between rooms or between wings"
    upwards = [f'{name} (line {line}) imports {other}' for name, path in sorted(modules.items()) for other, line in imported(name, path)
               if other != name and rooms[other] >= rooms[name]]
    if upwards: fail('A room imports only from rooms that stand before it in nbs:', *sorted(set(upwards)))


def test_front_door(installed, tmp_path):
    "`import mtssl` is instant, and lists and brings what it offers"
    code = ("import sys, mtssl; heavy = {'torch', 'fastai', 'librosa', 'pandas', 'numpy'} & set(sys.modules); assert not heavy, heavy\n"
            "assert set(mtssl.__all__) <= set(dir(mtssl)); wrong = [n for n in mtssl.__all__ if getattr(mtssl, n) is None or type(getattr(mtssl, n)).__name__ == 'module']\n"
            "assert not wrong, wrong\n"
            "import mtssl.pretraining.runs, mtssl.encoding.encoder, mtssl.pretraining.workers\n"
            "assert callable(mtssl.pretrain) and 'tcn' in mtssl.encoders and 'mfcc' in mtssl.targets and 'ntxent' in mtssl.workers and 'gtzan' in mtssl.datasets\n"
            "try: mtssl.nothing\n"
            "except AttributeError as e: print(e)")
    said = run(installed.python, '-W', 'ignore', '-c', code, cwd=tmp_path, env=installed.env).stdout
    assert "no attribute 'nothing'" in said


def test_ruff():
    done = run(sys.executable, '-m', 'ruff', 'check', '--no-cache', '--output-format', 'concise', root, check=False)
    if done.returncode: fail('`make lint` finds:', done.stdout)


def oldest():
    "An interpreter of the oldest Python that is promised, or None"
    cfg = configparser.ConfigParser(delimiters='=', interpolation=None)
    cfg.read(root/'settings.ini')
    version = cfg['DEFAULT']['min_python']
    found = subprocess.run([uv(), 'python', 'find', '--no-python-downloads', version], capture_output=True, text=True).stdout.strip()
    works = lambda p: subprocess.run([p, '-c', f"import sys; sys.exit(sys.version_info[:2] != {tuple(map(int, version.split('.')))})"], capture_output=True).returncode == 0
    places = [found, shutil.which(f'python{version}'), *map(str, Path.home().glob(f'.pyenv/versions/{version}.*/bin/python'))]
    return next((p for p in places if p and works(p)), None)


def test_oldest_python(tmp_path):
    "Every file compiles there (that its syntax is known there, ruff says in any case)"
    python = oldest()
    if not python: pytest.skip('There is no interpreter of the oldest Python here; ruff alone has looked at the syntax.')
    for path in tracked():
        if path.suffix != '.py': continue
        (tmp_path/path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root/path, tmp_path/path)
    done = run(python, '-m', 'compileall', '-q', tmp_path, check=False)
    if done.returncode: fail(f'{python} cannot compile:', done.stdout)


def test_lowest_versions(tmp_path):
    "The lower bounds in settings.ini resolve to versions with which every module imports (torch, whose wheels are gigabytes, as it is here)"
    from importlib.metadata import version
    (tmp_path/'here.txt').write_text(''.join(f'{name}=={version(name)}\n' for name in ('torch', 'torchaudio', 'torchvision')))
    venv, python = tmp_path/'venv', tmp_path/'venv/bin/python'
    run(uv(), 'venv', '--quiet', '--python', sys.executable, venv)
    done = run(uv(), 'pip', 'install', '--quiet', '--python', python, '--resolution', 'lowest-direct', '--override', tmp_path/'here.txt', root, check=False)
    if done.returncode: (pytest.skip if 'error sending request' in done.stderr or 'dns error' in done.stderr else fail)(f'The lowest versions cannot be installed here: {done.stderr.strip()[-600:]}')
    names = ['mtssl.' + name for name in sorted(modules)]
    code = f"import importlib\nfor n in {names}:\n    try: importlib.import_module(n)\n    except Exception as e: print(n, type(e).__name__, str(e).splitlines()[0])"
    bad = run(python, '-W', 'ignore', '-c', code, cwd=tmp_path).stdout
    listed = run(uv(), 'pip', 'freeze', '--python', python).stdout
    if bad.strip(): fail('With the lowest versions these modules do not import; raise a bound in settings.ini:', bad, listed)


def test_contributing(tmp_path):
    "The five parts on the page for contributors do what it says: they join by name, and a run learns with them"
    code = '\n'.join(re.findall(r'^```python\n(.*?)^```$', (root/'CONTRIBUTING.md').read_text(), re.S | re.M)) + """
import numpy as np, soundfile, mtssl
from mtssl import labelled_set, pretrain, synthesise
from mtssl.music.corpus import build_corpus
corpus = build_corpus(((f'{i:02}', wave) for i, (wave, _) in enumerate(synthesise(16, 2., seed=1, jobs=1))), 'store', quiet=True)
learn = pretrain(corpus, 'run', encoder='strided', workers='crest,crop_level', weighting='worst', seconds=1., epochs=2, crops_per_epoch=32, device='cpu', quiet=True)
assert list(learn.model.workers) == ['crest', 'crop_level'] and all(np.isfinite(list(r)).all() for r in learn.recorder.values)
for kit in range(5):
    Path(f'drums/kit{kit}').mkdir(parents=True)
    for drum in 'kick', 'snare': soundfile.write(f'drums/kit{kit}/{drum}_1.wav', np.ones(800) * .1, 8000)
dataset = labelled_set('my_drums')
assert len(dataset) == 10 and set(dataset.table['drum']) == {'kick', 'snare'} and dataset.table.groupby('group')['split'].nunique().max() == 1
print('done')
"""
    (tmp_path/'mine.py').write_text(code)
    done = run(sys.executable, '-W', 'ignore', 'mine.py', cwd=tmp_path)
    assert done.stdout.strip().endswith('done'), done.stdout + done.stderr
