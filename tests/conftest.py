"""Every test meets the package as a user does: the wheel, made from the files git tracks, in an environment of its own.

The environment's interpreter has the dependencies of the one that runs pytest, but not its (editable) `mtssl`. The tests' own
process, and whatever it starts, finds the wheel's `mtssl` before that of the checkout.
"""
import contextlib, os, shutil, signal, subprocess, sys, sysconfig, tempfile, time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

import warm

root = Path(__file__).resolve().parent.parent
os.environ.setdefault('OMP_NUM_THREADS', '1')


def run(*command, check=True, **kw):
    "Run a command; if it fails, say what it printed"
    return checked(subprocess.run([str(c) for c in command], capture_output=True, text=True, **kw), check)


def checked(done, check=True):
    if check and done.returncode: pytest.fail(f"`{' '.join(map(str, done.args))}` failed:\n{done.stdout}{done.stderr}", pytrace=False)
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
    os.environ['NUMBA_CACHE_DIR'] = str(folder/f"numba-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}")  # one each: two that write one cache crash
    sys.path.insert(0, str(site))
    os.environ['PYTHONPATH'] = f'{site}{os.pathsep}{root/"tests"}'  # the tests' folder holds what `warm` imports
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


broken = {'empty.wav': 'empty', 'truncated.wav': 'truncated', 'renamed.mp3': 'not audio', 'nan.wav': 'NaN', 'silent.wav': 'silent'}


def tune(seconds, sr, seed):
    "Three gliding partials and a little noise, float32 [T]"
    rng, t = np.random.default_rng(seed), np.arange(int(seconds * sr)) / sr
    partials = sum(np.sin(2 * np.pi * (f * t + 5 * np.sin(t))) for f in rng.uniform(100, 1000, 3))
    return (.2 * partials * (1 + np.sin(2 * np.pi * 2 * t)) / 3 + .01 * rng.normal(size=len(t))).astype('float32')


@pytest.fixture(scope='session')
def music(tmp_path_factory):
    "Thirty files as people have them: four formats, mono to 5.1, 8 to 48 kHz, one of 0.2 s, five broken ones, two levels of folders"
    folder = tmp_path_factory.mktemp('music')
    for i in range(24):
        path = folder/f'artist{i % 3}'/f'album{i % 2}'/f'{i:02}.{("wav", "flac", "ogg", "mp3")[i % 4]}'
        path.parent.mkdir(parents=True, exist_ok=True)
        sr, wave = (44_100, 48_000, 22_050)[i % 3], tune(4 + i % 5, (44_100, 48_000, 22_050)[i % 3], i)
        soundfile.write(path, wave if i % 2 else np.stack([wave, -.5 * wave], 1), sr)
    soundfile.write(folder/'mono8.wav', tune(5, 8_000, 30), 8_000)
    soundfile.write(folder/'surround.flac', np.stack([tune(5, 48_000, 31)] * 6, 1), 48_000)
    soundfile.write(folder/'short.wav', tune(.2, 44_100, 32), 44_100)
    (folder/'empty.wav').touch()
    soundfile.write(folder/'whole.wav', tune(5, 44_100, 33), 44_100)
    (folder/'truncated.wav').write_bytes((folder/'whole.wav').read_bytes()[:100_000])
    (folder/'whole.wav').unlink()
    (folder/'renamed.mp3').write_text('These are notes, though not the kind one hears.\n' * 50)
    nan = tune(3, 44_100, 34)
    nan[1000] = np.nan
    soundfile.write(folder/'nan.wav', nan, 44_100, subtype='FLOAT')
    soundfile.write(folder/'silent.wav', np.zeros(44_100), 44_100)
    return folder


@contextlib.contextmanager
def chromium(*flags):
    "A headless browser of the system: MTSSL_BROWSER, a failure if it is not there, else the first that is found"
    wanted = os.environ.get('MTSSL_BROWSER')
    found = shutil.which(wanted) if wanted else shutil.which('chromium') or shutil.which('google-chrome')
    if not found and wanted: pytest.fail(f'MTSSL_BROWSER is {wanted}, and there is no such program.')
    if not found: pytest.skip('no chromium or google-chrome on PATH')
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        started = p.chromium.launch(executable_path=found, args=['--no-sandbox', '--disable-quic', '--no-first-run', '--disable-background-networking',
                                                                 '--disable-component-update', '--disable-sync', *flags])
        yield started
        started.close()


def flaws(page):
    "What axe-core finds wrong with a page, as texts"
    import axe_playwright_python
    page.evaluate((Path(axe_playwright_python.__file__).parent/'axe.min.js').read_text(encoding='utf-8'))
    return page.evaluate("axe.run({resultTypes: ['violations']}).then(r => r.violations.map(v => `${v.id}: ${v.nodes[0].html.slice(0, 200)}`))")


@pytest.fixture
def undrawn(monkeypatch):
    "Runs that end without the drawings of their reports, which cost more than a short training and are looked at by other tests"
    import mtssl.pretraining.runs as runs
    monkeypatch.setattr(runs, 'report_run', lambda out: (out/'report.html').touch())
    monkeypatch.setattr(runs, 'keep_pictures', lambda out, learn: None, raising=False)


def mtssl(installed, *words, check=True, **kw):
    "Run the command line in a process that has everything imported"
    return checked(warm.finish(warm.command, installed.mtssl, *words, **dict(dict(env=installed.env), **kw)), check)


def begun(installed, *words, **kw):
    "The command line in a process that goes on by itself, is silent, and has everything imported"
    return warm.start(warm.command, installed.mtssl, *words, env=installed.env, **kw)


def python(code, *words, check=True, **kw):
    "Run a program in a process that has everything imported"
    return checked(warm.finish(warm.code, code, *words, **kw), check)


def killed(work, when, seconds=120):
    "Let a process do `work` until `when()` is true, and end it as a power cut does: this process, forked, so that nothing is imported again"
    if not (pid := os.fork()):
        silent = os.open(os.devnull, os.O_WRONLY)
        for stream in 1, 2: os.dup2(silent, stream)
        try: work()
        finally: os._exit(0)
    end = time.time() + seconds
    while not when():
        assert os.waitpid(pid, os.WNOHANG) == (0, 0) and time.time() < end, 'it ended, or made no progress, before it could be killed'
        time.sleep(.002)
    os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
