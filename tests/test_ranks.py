"""Several processes that train one model: they end where one process ends, one that is lost ends the others with a sentence, and a run goes on with another number of them."""
import json, os, shutil, signal, subprocess, sys, time
from pathlib import Path

import pandas as pd
import pytest
import torch
import warm
from safetensors.torch import load_file

import mtssl.pretraining.learner as learner
from mtssl.music.corpus import build_corpus
from mtssl.music.synth.mix import synthesise
from mtssl.pretraining.runs import pretrain, resume

linux = pytest.mark.skipif(sys.platform != 'linux', reason='the processes of a launcher are found in /proc')


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
    waves = ((f'clip{i}', wave, f'album{i // 2}') for i, (wave, _) in enumerate(synthesise(16, 1.5, seed=0, jobs=1)))
    return build_corpus(waves, tmp_path_factory.mktemp('ranks')/'corpus', quiet=True)


program = '''
import sys
from functools import partial
import torch
torch.set_num_threads(1)
import mtssl.pretraining.learner as learner
from mtssl.core.ranks import joined, n_ranks, rank
from mtssl.music.corpus import Corpus
from mtssl.music.crops import corpus_dls
from mtssl.pretraining.weighting import ClipWeighting, weightings

learner.statistics_crops = partial(learner.statistics_crops, crops=8)

@weightings.register('hardest', reads='errors', source='this test')
class Hardest(ClipWeighting):
    "Of each worker the mean of the two clips with the largest errors"
    def combine(self, errors): return sum(e.topk(2).values.mean() for e in errors.values())

given = dict(manual='manual(onset=2.)', schedule='schedule(onset=[(0, 0), (.5, 1)])', nash_mtl='nash_mtl(every=5)')
targets, across = 'mfcc(n=5),onset,rms', ['ntxent', 'lim,gim', 'frame(onset, masked=.4, context=3),clip(mfcc(n=5))', 'tempo_shift,order']
cases = {given.get(w, w): dict(weighting=given.get(w, w), workers=targets) for w in weightings}
cases |= {f'{w}(full=True)': dict(weighting=f'{w}(full=True)', workers=targets) for w in ('mgda', 'gradnorm')}
cases |= {w: dict(weighting='log_sum', workers=w) for w in across}
cases |= {f'{w} in parts': dict(weighting=w, workers=targets, accumulate=2) for w in ('equal', 'gls', 'mgda')}

def weights_after_20_steps(store, **settings):
    "The weights, and the last row of the history"
    epochs = 4 if settings['weighting'] == 'dwa' else 1 # it acts from the third epoch on
    dls = corpus_dls(Corpus(store), seconds=.75 if '_shift' in settings['workers'] else .4, bs=4 // n_ranks(), crops_per_epoch=80 // epochs, valid=.2, seed=1, device='cpu')
    assert epochs * len(dls.train) == 20
    learn = learner.pretrain_learner(dls, encoder='tcn(width=8, blocks=1)', seed=3, **settings)
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(epochs, 1.5e-3)
    return dict(weights=dict(learn.model.state_dict()), history=learn.history().iloc[-1].to_dict())

if __name__ == '__main__':
    with joined('cpu'): torch.save({name: weights_after_20_steps(sys.argv[1], **case) for name, case in cases.items()}, f'{sys.argv[2]}/{rank()}.pt')
'''


def launched(n, program, *words):
    "The processes of a program that a launcher would start"
    address = dict(MASTER_ADDR='localhost', MASTER_PORT=str(20_000 + os.getpid() % 20_000), WORLD_SIZE=str(n), OMP_NUM_THREADS='1')
    return [warm.start(warm.code, program, *words, env=os.environ | address | dict(RANK=str(r), LOCAL_RANK=str(r))) for r in range(n)]


def far(a, b): return max(((x.double() - y.double()).abs() / y.double().abs().clamp(min=1)).nan_to_num().max().item() for x, y in zip(a, b) if y.numel())


def test_two_processes_are_one_with_the_double_batch(corpus, tmp_path, monkeypatch):
    "Every weighting, and workers that look across the batch: weights and history after 20 steps, alike on both ranks to the last bit"
    processes = launched(2, program, corpus.store, tmp_path)
    names = {'__name__': 'one process'}
    monkeypatch.setattr(learner, 'statistics_crops', learner.statistics_crops) # the program changes it
    exec(program, names)
    try: one = {name: names['weights_after_20_steps'](corpus.store, **case) for name, case in names['cases'].items()}
    finally: del names['weightings']['hardest']
    for process in processes: process.join()
    assert [p.exitcode for p in processes] == [0, 0]
    first, second = (torch.load(tmp_path/f'{r}.pt', weights_only=True) for r in range(2))
    for name, alone in one.items():
        assert all(torch.equal(first[name]['weights'][k], second[name]['weights'][k]) for k in alone['weights']), name
        assert pd.Series(first[name]['history']).equals(pd.Series(second[name]['history'])), name
        if name.endswith('in parts'): continue # a part has other clips here, and batch normalisation is of a part
        assert far(*(run['weights'].values() for run in (first[name], alone))) < 1e-5, name
        assert far(*([torch.tensor(list(run['history'].values()))] for run in (first[name], alone))) < 1e-4, name
    moved = far(one['equal']['weights'].values(), one['rlw']['weights'].values())
    assert moved > 1e-3, 'the weights of different weightings differ by far more'


settings = dict(encoder='tcn(width=8, blocks=1)', workers='mfcc,onset', weighting='dwa', epochs=3, seconds=.8, crops_per_epoch=40)
options = [w for k, v in settings.items() for w in (f"--{k.replace('_', '-')}", str(v))] + ['--device', 'cpu', '--quiet']
launchers = dict(torchrun=['-m', 'torch.distributed.run', '--nproc-per-node', '2', '--standalone'], accelerate=['-m', 'accelerate.commands.launch', '--multi_gpu', '--num_machines', '1', '--num_processes', '2',
                 '--mixed_precision', 'no', '--dynamo_backend', 'no', '--main_process_port', str(20_000 + (os.getpid() + 7) % 20_000)])


def start(launcher, *words):
    return subprocess.Popen([sys.executable, '-W', 'ignore', *launchers[launcher], '-m', 'mtssl', 'pretrain', *map(str, words)], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def rank_1(process):
    "The process number of rank 1, once it is there"
    while process.poll() is None:
        for child in Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split():
            if b'\0RANK=1\0' in Path(f'/proc/{child}/environ').read_bytes(): return int(child)
        time.sleep(.1)


@linux
def test_a_lost_process_ends_the_run_which_goes_on(corpus, tmp_path):
    "Killed after the first epoch of torchrun's, resumed by accelerate's, or by a process alone, it ends where one process ends; the folder is written by one of them"
    torch.set_num_threads(1)
    run = tmp_path/'run'
    process = start('torchrun', corpus.store, '--out', run, '--bs', 2, *options)
    try:
        while process.poll() is None and not (run/'checkpoints'/'last.pt').exists(): time.sleep(.02)
        os.kill(rank_1(process), signal.SIGKILL)
        killed = time.monotonic()
        _, said = process.communicate(timeout=300)
    finally: process.kill()
    assert process.returncode == 1 and time.monotonic() - killed < 30
    lines = [line for line in said.splitlines() if line.startswith('mtssl: ')]
    assert lines == [f'mtssl: another process of this run has ended or does not answer, and so this one (rank 0) ends too. What was done up to the last checkpoint is kept; '
                     f'go on with `mtssl pretrain --resume --out {run}`, or, before there is one, with the same command.'], said
    state = torch.load(run/'checkpoints'/'last.pt', weights_only=True)
    assert 1 <= state['epoch'] < 3 and json.loads((run/'config.json').read_text())['ranks'] == 2
    shutil.copytree(run, tmp_path/'alone')
    process = start('accelerate', '--resume', '--out', run, '--device', 'cpu', '--quiet')
    out, said = process.communicate(timeout=600)
    assert process.returncode == 0 and str(run/'report.html') in out.splitlines(), said
    resume(tmp_path/'alone', device='cpu', quiet=True)
    pretrain(corpus, tmp_path/'one', device='cpu', quiet=True, bs=4, **settings)
    one, both, alone = (load_file(folder/'model.safetensors') for folder in (tmp_path/'one', run, tmp_path/'alone'))
    for other in both, alone: assert set(one) == set(other) and far(other.values(), (one[k] for k in other)) < 1e-5
    tables = [pd.read_csv(folder/'history.csv') for folder in (tmp_path/'one', run, tmp_path/'alone')]
    for table in tables[1:]: pd.testing.assert_frame_equal(tables[0], table, rtol=1e-3, atol=1e-5)
    assert {p.relative_to(run) for p in run.rglob('*')} == {p.relative_to(tmp_path/'one') for p in (tmp_path/'one').rglob('*')}
