"""A study on clusters that are started here: a worker that is killed in the middle of a cell, what its cell becomes."""
import json, os, shutil, signal, subprocess, sys, threading, time
from pathlib import Path

import pandas as pd
import pytest

plan = dict(encoders={'small': 'tcn(width=16, blocks=2)'}, weightings=['equal'], workers={'one': 'mfcc'}, corpus='synth(clips=12, seconds=2)',
            sets=['synth(train=24, test=12, seconds=2)'], pretrain=dict(epochs=6, crops_per_epoch=64, seconds=2, bs=4), random=1)


def parent(pid): return int(Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[1])


def kill_worker(out, killed):
    "Once a cell has a checkpoint and is at work on a later epoch, kill the worker of the cluster that its process belongs to"
    from mtssl.core.lease import holder
    while not killed:
        for path in out.glob('cells/*/checkpoints/last.pt'):
            held = holder(path.parent.parent)
            if held and 1 <= held.get('done', 0) < 5:
                worker = parent(parent(held['pid']))  # between them is the process that jobs are forked from
                os.kill(worker, signal.SIGKILL)
                killed.append((worker, held, time.time()))
                break
        time.sleep(.02)


@pytest.mark.skipif(not Path('/proc/self/stat').exists(), reason='The worker of a cell is found by /proc, which this system has not.')
def test_a_worker_that_is_killed(tmp_path):
    "Its cell goes on elsewhere from its last checkpoint, what is finished is not run again, and the results are those of a study in one process"
    from distributed import LocalCluster
    from mtssl.studies.jobs import load_job, run_cell
    from mtssl.studies.plan import cells, make_study
    from mtssl.studies.study import run_study
    study, out, killed = make_study(plan), tmp_path/'study', []
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster:
        threading.Thread(target=kill_worker, args=(out, killed), daemon=True).start()
        report = run_study(study, out, backend='dask', scheduler=cluster.scheduler_address, device='cpu', jobs=1, quiet=True)
    cell, = cells(study)
    assert killed and not report['failed'], report['failed']
    worker, held, when = killed[0]
    assert held['number'] == 1 and not list(out.rglob('lease-*')) and not list(out.rglob('*.part'))
    costs = pd.read_csv(out/'cells'/cell.name/'cost.csv')
    begun = json.loads((out/'cells'/cell.name/'config.json').read_text())
    assert begun['settings']['epochs'] == 6 and set(costs['epoch']) == {1, 2, 3, 4, 5, 6}
    assert (out/'cells'/cell.name/'config.json').stat().st_mtime < when, 'the cell began anew'
    shutil.copytree(out/'data', tmp_path/'alone'/'data')
    run_cell(study, cell, tmp_path/'alone', 'cpu')
    same = lambda folder: load_job(folder/'cells'/cell.name)[0].drop(columns=['cpu_seconds', 'seconds'])
    pd.testing.assert_frame_equal(same(out), same(tmp_path/'alone'))
    assert (out/'cells'/cell.name/'history.csv').read_text() == (tmp_path/'alone'/'cells'/cell.name/'history.csv').read_text()


head = """
import ray, sys
print(ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level='ERROR').address_info['gcs_address'], flush=True)
sys.stdin.read()
"""


def test_ray(tmp_path):
    "A study runs on a Ray cluster, which ends with the process that began it"
    pytest.importorskip('ray', reason='Ray, of the extra of that name, is not installed.')
    from mtssl.studies.plan import make_study
    from mtssl.studies.study import run_study
    with subprocess.Popen([sys.executable, '-c', head], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        address = process.stdout.readline().strip()
        report = run_study(make_study(plan), tmp_path/'study', backend='ray', scheduler=address, device='cpu', jobs=1, quiet=True)
        process.stdin.close()
    assert not report['failed'] and not list((tmp_path/'study').rglob('lease-*'))
