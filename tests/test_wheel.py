"""The wheel holds the package and nothing else, and works far from the checkout."""
import json, resource, zipfile
from email import message_from_string

import pytest
from conftest import mtssl, root, run, tracked, uv

modules = sorted(p for p in tracked() if p.suffix == '.py' and p.parts[0] == 'mtssl')
data = sorted(p for p in tracked() if p.suffix in ('.yaml', '.json', '.typed', '.html', '.css', '.js') and p.parts[0] == 'mtssl' or p.name == 'py.typed' or p.parts[:2] == ('mtssl', 'pretrained'))
slow = ['torch', 'torchaudio', 'fastai', 'librosa', 'sklearn', 'pandas', 'matplotlib', 'scipy']


def test_contents(installed):
    names = {n for n in zipfile.ZipFile(installed.wheel).namelist() if not n.endswith('/')}
    info, = {n.split('/')[0] for n in names if '.dist-info/' in n}
    wanted = {*(p.as_posix() for p in modules + data), *(f'{info}/{n}' for n in ('licenses/LICENSE', 'METADATA', 'WHEEL', 'RECORD', 'entry_points.txt', 'top_level.txt'))}
    assert not wanted - names, f'The wheel lacks {sorted(wanted - names)}'
    assert not names - wanted, f'The wheel holds what it should not: {sorted(names - wanted)}'


def test_metadata(installed):
    archive = zipfile.ZipFile(installed.wheel)
    name, = [n for n in archive.namelist() if n.endswith('METADATA')]
    meta = message_from_string(archive.read(name).decode())
    for field in 'Name', 'Version', 'Summary', 'License', 'Author-email', 'Keywords', 'Classifier', 'Project-URL', 'Requires-Python', 'Requires-Dist', 'Provides-Extra':
        assert meta.get(field), f'The wheel\'s metadata has no {field}: setup.py must supply it from settings.ini'
    assert meta['Description-Content-Type'] == 'text/markdown' and meta['Version'] in installed.wheel.name
    pages = '](nbs/' in meta.get_payload()
    assert not pages, 'The description on the package index has relative links: setup.py must make them absolute'


def test_source_distribution(installed, checkout, tmp_path):
    run(uv(), 'build', '--out-dir', tmp_path, checkout)
    wheel, = tmp_path.glob('*.whl')
    names = lambda path: sorted(zipfile.ZipFile(path).namelist())
    assert names(wheel) == names(installed.wheel), 'The source distribution builds another wheel than the checkout: see MANIFEST.in'


def test_imports(installed, tmp_path):
    names = ['.'.join(p.with_suffix('').parts) for p in modules if p.stem != '__init__']
    code = f'import importlib, mtssl; [importlib.import_module(n) for n in {names}]; print(mtssl.__file__)'
    where = run(installed.python, '-c', code, cwd=tmp_path, env=installed.env).stdout.strip()
    assert str(root) not in where and 'site-packages' in where, f'mtssl was imported from {where}, not from the wheel'


def test_import_is_light(installed, tmp_path):
    code = f'import sys, mtssl, mtssl.app.cli; print(*sorted(set({slow}) & set(sys.modules)))'
    loaded = run(installed.python, '-c', code, cwd=tmp_path, env=installed.env).stdout.strip()
    assert not loaded, f'mtssl.app.cli imports {loaded} at once; import inside the command, so that --help answers at once'


def cpu(*command, **kw):
    "CPU seconds of the quickest of three runs, and the last run's output"
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = run(*command, **kw)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times), done.stdout


def test_help(installed, tmp_path):
    seconds, shown = cpu(installed.mtssl, '--help', cwd=tmp_path, env=installed.env)
    for command in 'demo', 'synth', 'pretrain', 'embed', 'probe', 'study', 'info': assert command in shown, f'`mtssl --help` does not name `{command}`'
    assert seconds < 1, f'`mtssl --help` took {seconds:.1f} s of CPU time, and 1 is the most'


@pytest.mark.parametrize('kind', ['targets', 'encoders', 'workers', 'weightings', 'datasets', 'studies'])
def test_info(kind, installed, tmp_path):
    rows = json.loads(mtssl(installed, 'info', kind, '--json', cwd=tmp_path).stdout)[kind]
    assert rows and all(row.get('name') for row in rows), f'`mtssl info {kind} --json` must print a list of objects with a name'
