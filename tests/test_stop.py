"""Ctrl-C at any moment, and a disk that is full: one line that says what is kept and what to do, no traceback, nothing half written."""
import signal, subprocess, sys

import pytest

linux = pytest.mark.skipif(sys.platform != 'linux', reason='limits on the size of files are asked of Linux here')


def stopped_at(module, python, env, *words):
    "The exit code, and what was said, of the command that gets SIGINT as soon as `module` is imported"
    process = subprocess.Popen([python, '-W', 'ignore', '-X', 'importtime', '-m', 'mtssl', *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # which a shell's background jobs ignore
    said, sent = [], False
    for line in process.stderr:
        if not line.startswith('import time:'): said.append(line.rstrip('\n'))
        elif not sent and line.rsplit('|', 1)[-1].strip() == module: sent = process.send_signal(signal.SIGINT) is None
    return sent, process.wait(), said


@pytest.mark.parametrize('module', ['mtssl.app', 'typer.main', 'mtssl.app.console', 'numpy', 'torch'])
def test_ctrl_c(installed, module):
    "While the command line is imported, and while a command imports what it needs (what comes before its first line is Python's own)"
    sent, code, said = stopped_at(module, installed.python, installed.env, 'info', 'targets')
    assert sent and (code, said) == (130, ['mtssl: stopped.'])


def test_the_script_is_the_module(installed):
    "`mtssl` begins in the module that answers Ctrl-C from its first line on"
    assert 'from mtssl.__main__ import main' in installed.mtssl.read_text()


def limited(size):
    def limit():
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return limit


def fails(installed, size, *words):
    "The one line that a command says where no file may be larger than `size` bytes, which fails a write in its middle as a full disk does"
    done = subprocess.run([str(w) for w in (installed.mtssl, *words)], env=installed.env, capture_output=True, text=True, preexec_fn=limited(size))
    assert done.returncode == 1 and done.stderr.count('\n') == 1, done.stderr
    return done.stderr


@linux
def test_full_disk_while_synthesising(installed, tmp_path):
    "1 s at 22,050 Hz in 16 bits is 44,100 bytes and a header of 44"
    words = 'synth', '--out', tmp_path/'set', '--train', 8, '--test', 4, '--seconds', 1, '--jobs', 1, '--quiet'
    said = fails(installed, 44_143, *words)
    assert said.startswith(f"mtssl: {tmp_path/'set'}/train/00000.wav could not be written, because the disk is full: make room"), said
    assert 'the same command makes it anew' in said and not [p for p in (tmp_path/'set').rglob('*') if p.is_file()]


@linux
def test_full_disk_while_pretraining(installed, tmp_path):
    "The checkpoint, some three times as large as the model, does not fit; the run begins again, and ends"
    from mtssl.music.corpus import build_corpus
    from mtssl.music.synth.mix import synthesise
    from mtssl.pretraining.runs import resume
    build_corpus(((f'clip{i}', wave) for i, (wave, _) in enumerate(synthesise(12, 2., seed=0, jobs=1))), tmp_path/'corpus', quiet=True)
    words = [tmp_path/'corpus', '--encoder', 'tcn(width=64, blocks=2)', '--workers', 'mfcc', '--epochs', 1, '--seconds', 1.5, '--bs', 2, '--crops-per-epoch', 4, '--device', 'cpu', '--quiet']
    said = fails(installed, 600_000, 'pretrain', *words, '--out', tmp_path/'run')
    assert said.startswith(f"mtssl: {tmp_path/'run'}/") and 'could not be written, because the disk is full: make room, and resume the run' in said, said
    assert f"mtssl pretrain --resume --out {tmp_path/'run'}" in said and not list((tmp_path/'run').rglob('*.part'))
    size = (tmp_path/'run'/'model.safetensors').stat().st_size
    assert size < 600_000 < 2.5 * size
    resume(tmp_path/'run', device='cpu', quiet=True)
    assert (tmp_path/'run'/'report.html').exists() and (tmp_path/'run'/'checkpoints'/'last.pt').stat().st_size > 600_000
