"""A study on clusters that are started here: stopped in the middle of a cell, then a worker is killed, and what the cell becomes."""
import os, shutil, signal, subprocess, sys, threading, time
from pathlib import Path

import pandas as pd
import pytest

plan = dict(encoders={'small': 'tcn(width=16, blocks=2)'}, weightings=['equal'], workers={'one': 'mfcc'}, corpus='synth(clips=12, seconds=2)',
            sets=['synth(train=24, test=12, seconds=2)'], pretrain=dict(epochs=12, crops_per_epoch=64, seconds=2, bs=4), random=1)


def parent(pid): return int(Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[1])


def epochs_of(folder): return len((folder/'history.csv').read_text().splitlines()) - 1 if (folder/'history.csv').exists() else 0


def when_at_work(folder, number, epochs, do):
    "In a thread: once the lease of this number is at work on a cell that has so many epochs, do something with what it says; a list, which holds it then"
    from mtssl.core.lease import holder
    done = []
    def wait():
        while epochs_of(folder) < epochs or (holder(folder) or {}).get('number') != number or not (folder/'checkpoints'/'last.pt').exists(): time.sleep(.01)
        done.append(holder(folder))
        do(done[0])
    threading.Thread(target=wait, daemon=True).start()
    return done


def is_there(pid):
    try: return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] not in 'ZX'
    except OSError: return False


@pytest.fixture
def interruptible():
    "SIGINT does what Ctrl-C does, also where a shell ignores it for what runs in the background"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(not Path('/proc/self/stat').exists(), reason='The worker of a cell is found by /proc, which this system has not.')
def test_a_worker_that_is_killed(tmp_path, interruptible):
    "Ctrl-C ends the cells; a killed worker's cell goes on elsewhere from its checkpoint; the results are those of one process"
    from distributed import LocalCluster
    from mtssl.studies.jobs import load_job, run_cell
    from mtssl.studies.plan import cells, make_study
    from mtssl.studies.study import run_study
    study, out = make_study(plan), tmp_path/'study'
    cell, = cells(study)
    folder = out/'cells'/cell.name
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster:
        run = lambda: run_study(study, out, backend='dask', scheduler=cluster.scheduler_address, device='cpu', jobs=1, quiet=True)
        stopped = when_at_work(folder, 1, 1, lambda held: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt): run()
        end = time.time() + 60
        while is_there(stopped[0]['pid']) and time.time() < end: time.sleep(.05)
        assert not is_there(stopped[0]['pid']) and not (folder/'lines.csv').exists(), 'the cell went on after Ctrl-C'
        begun, finished = (folder/'config.json').stat().st_mtime_ns, {p: p.stat().st_mtime_ns for p in out.glob('*/*/lines.csv')}
        # between the worker and the cell's process is the one that jobs are forked from
        killed = when_at_work(folder, 2, epochs_of(folder) + 1, lambda held: os.kill(parent(parent(held['pid'])), signal.SIGKILL))
        report = run()
    assert killed and not report['failed'], report['failed']
    assert killed[0]['number'] == 2 and not list(out.rglob('lease-*')) and not list(out.rglob('*.part'))
    assert (folder/'config.json').stat().st_mtime_ns == begun, 'the cell began anew'
    assert all(p.stat().st_mtime_ns == t for p, t in finished.items()), 'what was finished ran again'
    shutil.copytree(out/'data', tmp_path/'alone'/'data')
    run_cell(study, cell, tmp_path/'alone', 'cpu')
    same = lambda folder: load_job(folder/'cells'/cell.name)[0].drop(columns=['cpu_seconds', 'seconds'])
    pd.testing.assert_frame_equal(same(out), same(tmp_path/'alone'))
    assert (folder/'history.csv').read_text() == (tmp_path/'alone'/'cells'/cell.name/'history.csv').read_text()


head = """
import ray, sys
print(ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level='ERROR').address_info['gcs_address'], flush=True)
sys.stdin.read()
"""


def test_ray(tmp_path, monkeypatch):
    "A study runs on a Ray cluster, which ends with the process that began it"
    pytest.importorskip('ray', reason='Ray, of the extra of that name, is not installed.')
    from mtssl.studies.plan import make_study
    from mtssl.studies.study import run_study
    monkeypatch.setenv('RAY_AUTH_MODE', 'disabled')
    with subprocess.Popen([sys.executable, '-c', head], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        address = process.stdout.readline().strip()
        report = run_study(make_study(plan), tmp_path/'study', backend='ray', scheduler=address, device='cpu', jobs=1, quiet=True)
        process.stdin.close()
    assert not report['failed'] and not list((tmp_path/'study').rglob('lease-*'))
