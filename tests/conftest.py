"""Every test meets the package as a user does: the wheel, made from the files git tracks, in an environment of its own.

The environment's interpreter has the dependencies of the one that runs pytest, but not its (editable) `mtssl`. The tests' own
process, and whatever it starts, finds the wheel's `mtssl` before that of the checkout.
"""
import os, shutil, subprocess, sys, sysconfig, tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

root = Path(__file__).resolve().parent.parent
os.environ.setdefault('OMP_NUM_THREADS', '1')


def run(*command, check=True, **kw):
    "Run a command; if it fails, say what it printed"
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **kw)
    if check and done.returncode: pytest.fail(f"`{' '.join(map(str, command))}` failed:\n{done.stdout}{done.stderr}", pytrace=False)
    return done


def tracked():
    "Paths of the files git tracks, relative to the checkout, as they are in the working tree"
    listed = run('git', '-c', 'safe.directory=*', 'ls-files', '-z', cwd=root).stdout.split('\0')
    return [Path(p) for p in listed if p and (root/p).exists()]


def copy_checkout(folder):
    "A copy of the tracked files in `folder`, links kept"
    for path in tracked():
        (folder/path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root/path, folder/path, follow_symlinks=False)
    return folder


def uv():
    "Path of the uv in the test environment, else of the one on PATH"
    return shutil.which('uv', path=sysconfig.get_path('scripts')) or shutil.which('uv') or pytest.exit('The tests need uv: run `make dev`.', 1)


def install(folder):
    "Build the wheel from tracked files and install it in a fresh environment in `folder`"
    source, venv = copy_checkout(folder/'source'), folder/'venv'
    run(uv(), 'build', '--wheel', '--out-dir', folder, source)
    wheel, = folder.glob('*.whl')
    run(uv(), 'venv', '--python', sys.executable, venv)
    run(uv(), 'pip', 'install', '--no-deps', '--python', venv/'bin'/'python', wheel)
    site, = venv.glob('lib/python*/site-packages')
    (site/'dependencies.pth').write_text(sysconfig.get_path('purelib'))


def pytest_configure(config):
    if 'MTSSL_INSTALLED' not in os.environ:
        config.installed = tempfile.mkdtemp(prefix='mtssl-')
        install(Path(config.installed))
        os.environ['MTSSL_INSTALLED'] = config.installed
    folder = Path(os.environ['MTSSL_INSTALLED'])
    site, = folder.glob('venv/lib/python*/site-packages')
    sys.path.insert(0, str(site))
    os.environ['PYTHONPATH'] = str(site)
    os.environ['PATH'] = f"{folder/'venv'/'bin'}{os.pathsep}{os.environ['PATH']}"


def pytest_unconfigure(config):
    if not hasattr(config, 'installed'): return
    shutil.rmtree(config.installed, ignore_errors=True)
    del os.environ['MTSSL_INSTALLED']


@pytest.fixture(scope='session')
def installed():
    "The wheel and the environment it is installed in: paths `wheel`, `python`, `mtssl`, and `env`, an environment without PYTHONPATH"
    folder = Path(os.environ['MTSSL_INSTALLED'])
    wheel, = folder.glob('*.whl')
    env = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'PYTHONHOME')}
    return SimpleNamespace(wheel=wheel, python=folder/'venv/bin/python', mtssl=folder/'venv/bin/mtssl', env=env)


@pytest.fixture
def checkout(tmp_path):
    "A copy of the tracked files to change at will"
    return copy_checkout(tmp_path/'checkout')
