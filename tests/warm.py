"""Processes that begin with everything imported: a server imports the slow libraries and the wheel's `mtssl` once, and each process is forked from it.

What a process does here it would do in an interpreter of its own, except for the seconds of importing. So these do not show that
the installed command starts by itself, nor what its start costs; test_wheel.py, test_stop.py, and some tests of test_cli.py do.
"""
import contextlib, functools, io, multiprocessing, os, sys, tempfile, traceback, types
from multiprocessing import forkserver
from pathlib import Path
from subprocess import CompletedProcess

preload = ['nbdev.test', 'matplotlib.pyplot', 'librosa.feature', 'librosa.beat', 'librosa.effects', 'sklearn.pipeline', 'fastai.basics', 'torchaudio', 'torchjd', 'timm', 'mir_eval.chord', 'pyarrow.parquet',
           'mtssl.app.cli', 'mtssl.studies.study', 'mtssl.embedding.collection', 'warm']


@functools.cache
def server():
    "The context whose processes are forked from the server"
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(preload)
    here = os.getcwd()
    os.chdir('/') # the server would import the `mtssl` of the folder it starts in
    try:
        first = context.Process(target=os.getpid) # so that no test's time is spent on importing
        first.start()
        first.join()
    finally: os.chdir(here)
    return context


def begin(function, address, cwd, env, files):
    "In a new process: make it one that a shell has started, whose output goes to `files`, and call `function`"
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for number, path in enumerate((os.devnull, *files)): os.dup2(os.open(path, os.O_RDWR), number)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, 'w'), open(2, 'w', buffering=1)
    multiprocessing.set_start_method(None, force=True)
    forkserver._forkserver._forkserver_address = address  # what it starts in this way comes from the same server
    forkserver._forkserver.ensure_running = lambda: None
    try: function()
    finally: sys.stdout.flush()


def as_script(path, words):
    sys.argv = [path, *words]
    sys.modules['__main__'] = types.ModuleType('__main__')
    sys.modules['__main__'].__file__ = path


def command(script, *words):
    "The command line of the wheel"
    as_script(script, words)
    from mtssl.__main__ import main
    main()


def code(text, *words):
    "What `python -c` does"
    as_script('-c', words)
    del sys.modules['__main__'].__file__
    exec(compile(text, '<string>', 'exec'), vars(sys.modules['__main__']))


def run_notebook(path, report, checkout):
    "Run the notebook at `path` and write what went wrong to `report`"
    os.chdir(path.parent)
    multiprocessing.set_start_method(None, force=True)
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        try:
            import mtssl, nbdev.test
            from matplotlib_inline.config import InlineBackend
            from nbdev.config import get_config
            nbdev.test.CaptureShell = functools.partial(nbdev.test.CaptureShell, mpl_format='png') # nobody looks at the figures: they are
            InlineBackend.instance().print_figure_kwargs = dict(bbox_inches=None) # drawn once, at a low resolution
            if Path(mtssl.__file__).is_relative_to(checkout): raise RuntimeError(f'mtssl came from the checkout, {mtssl.__file__}, not from the wheel')
            passed, _ = nbdev.test.test_nb(path, skip_flags=get_config().tst_flags.split())
        except BaseException: passed = bool(traceback.print_exc())
    if not passed: report.write_text(errors.getvalue() or 'it failed without a message')


def start(function, *args, cwd=None, env=None, files=(os.devnull, os.devnull)):
    "A process that calls `function(*args)`: a `multiprocessing.Process`"
    context = server()
    forkserver.ensure_running()
    begun = functools.partial(function, *map(str, args)), forkserver._forkserver._forkserver_address, str(cwd or os.getcwd()), dict(os.environ if env is None else env), [*map(str, files)]
    process = context.Process(target=begin, args=begun)
    process.start()
    return process


def finish(function, *args, timeout=600, **kw):
    "What `subprocess.run` gives, of a process that calls `function(*args)`"
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder)/name for name in ('out', 'err')]
        for file in files: file.touch()
        process = start(function, *args, files=files, **kw)
        process.join(timeout)
        if process.is_alive():
            process.kill()
            raise TimeoutError(f'it took more than {timeout} s')
        return CompletedProcess(args, process.exitcode, *(file.read_text() for file in files))
