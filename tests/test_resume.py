"""Every weighting by name, a stream, and a run of an earlier draft: killed within an epoch and continued, it ends to the last bit where an undisturbed one ends."""
import io, json, signal, subprocess, sys, tarfile
from pathlib import Path

import pandas as pd
import pytest
import soundfile
import torch
from fastai.basics import Callback
from safetensors.torch import load_file

from mtssl.core.files import content_digest
from mtssl.music.corpus import build_corpus
from mtssl.pretraining.runs import pretrain, resume
from mtssl.music.synth.mix import synthesise
from mtssl.pretraining.weighting import weightings

given = {'manual': 'manual(mfcc=2.)', 'schedule': 'schedule(onset=[(0, 0), (.5, 1)])'}
specs = [given.get(name, name) for name in weightings] + [f'{name}(full=True)' for name in ('pcgrad', 'gradnorm')]
settings = dict(encoder='tcn(width=8, blocks=1)', workers='mfcc,onset,clip(mfcc)', epochs=4, seconds=1.5, bs=4, crops_per_epoch=12)


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
    waves = ((f'clip{i}', wave) for i, (wave, _) in enumerate(synthesise(16, 2., seed=0, jobs=1)))
    return build_corpus(waves, tmp_path_factory.mktemp('resume')/'corpus', quiet=True)


class Kill(Callback):
    def before_batch(self):
        if self.training and self.epoch == 3 and self.iter == 2: raise KeyboardInterrupt


def where(folder):
    "Complete epochs, and batches of the running one, at the last checkpoint"
    state = torch.load(folder/'checkpoints'/'last.pt', weights_only=True)
    return state['epoch'], state.get('batches', 0)


@pytest.mark.parametrize('spec', specs)
def test_a_killed_run_continues_exactly(corpus, tmp_path, undrawn, spec):
    "In the middle of an epoch, from the checkpoint after its second batch of three"
    torch.set_num_threads(1)
    pretrain(corpus, tmp_path/'whole', device='cpu', quiet=True, weighting=spec, **settings)
    with pytest.raises(KeyboardInterrupt):
        pretrain(corpus, tmp_path/'killed', device='cpu', quiet=True, weighting=spec, cbs=[Kill()], save_every=1e-9, **settings)
    assert where(tmp_path/'killed') == (3, 2)
    resume(tmp_path/'killed', device='cpu', quiet=True)
    whole, killed = (load_file(tmp_path/name/'model.safetensors') for name in ('whole', 'killed'))
    assert set(whole) == set(killed) and all(torch.equal(whole[k], killed[k]) for k in whole)
    for table in 'history.csv', 'cosines.csv': assert (tmp_path/'whole'/table).read_text() == (tmp_path/'killed'/table).read_text()
    weights = pd.read_csv(tmp_path/'whole'/'history.csv').filter(regex=r'\.weight$')
    assert weights.notna().all(None) and (len(weights) == 4)


def same(a, b):
    whole, killed = (load_file(folder/'model.safetensors') for folder in (a, b))
    return set(whole) == set(killed) and all(torch.equal(whole[k], killed[k]) for k in whole) and (a/'history.csv').read_text() == (b/'history.csv').read_text()


def test_a_stream_continues_exactly(tmp_path, undrawn):
    for shard in range(2):
        with tarfile.open(tmp_path/f'{shard}.tar', 'w') as tar:
            for i, (wave, _) in enumerate(synthesise(20, 2., seed=shard, jobs=1)):
                soundfile.write(buffer := io.BytesIO(), wave, 22_050, format='FLAC')
                entry = tarfile.TarInfo(f'album{i:02}/clip.flac')
                entry.size = len(buffer.getbuffer())
                tar.addfile(entry, io.BytesIO(buffer.getvalue()))
    given = dict(settings, stream=True, workers='mfcc,lim', device='cpu', jobs=1, quiet=True)
    pretrain(tmp_path/'*.tar', tmp_path/'whole', **given)
    with pytest.raises(KeyboardInterrupt): pretrain([tmp_path/'0.tar', tmp_path/'1.tar'], tmp_path/'killed', cbs=[Kill()], save_every=1e-9, **given)
    assert where(tmp_path/'killed') == (3, 2)
    resume(tmp_path/'killed', device='cpu', jobs=1, quiet=True)
    assert same(tmp_path/'whole', tmp_path/'killed') and not (tmp_path/'killed'/'corpus').exists()


def test_a_run_of_the_first_draft_continues_exactly(corpus, tmp_path, undrawn):
    "Its config.json, and the name it had for a buffer of the weighting"
    given = dict(settings, weighting='uncertainty', device='cpu', quiet=True)
    pretrain(corpus, tmp_path/'whole', **given)
    with pytest.raises(KeyboardInterrupt): pretrain(corpus, tmp_path/'killed', cbs=[Kill()], **given)
    assert where(tmp_path/'killed') == (3, 0)
    now = json.loads((tmp_path/'killed'/'config.json').read_text())
    draft = {'settings': {'encoder': 'tcn(width=8, blocks=1)', 'workers': 'mfcc,onset,clip(mfcc)', 'weighting': 'uncertainty', 'distortions': '', 'epochs': 4,
                          'crops_per_epoch': 12, 'seconds': 1.5, 'short': 'repeat', 'silence': None, 'bs': 4, 'lr': 0.0015, 'wd': 0.01, 'sr': 22050, 'seed': 0},
             'source': now['source'], 'encoder': now['encoder'], 'versions': {'python': '3.11.2', 'mtssl': '0.1.0', 'torch': '2.14.1'},
             'parameters': now['parameters'], 'data': now['data']}
    (tmp_path/'killed'/'config.json').write_text(json.dumps(draft))
    path = tmp_path/'killed'/'checkpoints'/'last.pt'
    state = torch.load(path, weights_only=True)
    state['model']['weighting.used'] = state['model'].pop('weighting.last_weights')
    for later in 'digest', 'run': del state[later]
    torch.save(state, path)
    resume(tmp_path/'killed', device='cpu', quiet=True)
    assert same(tmp_path/'whole', tmp_path/'killed')
    draft['settings']['tempo'] = 120
    (tmp_path/'killed'/'config.json').write_text(json.dumps(draft))
    with pytest.raises(ValueError, match='written by mtssl 0.1.0 with the setting .tempo.'): resume(tmp_path/'killed', device='cpu', quiet=True)


begun = '''
import os, signal, sys
from fastai.basics import Callback
from mtssl.pretraining.runs import pretrain
class End(Callback):
    "Shows that it has come to the middle of the second epoch, and ends as if the power were cut"
    def before_batch(self):
        if not (self.training and self.epoch == 1 and self.iter == 2): return
        print('here', flush=True)
        sys.stdin.readline()
        os.kill(os.getpid(), signal.SIGKILL)
import torch
torch.set_num_threads(1)
pretrain('corpus', 'killed', device='cpu', quiet=True, cbs=[End()], save_every=1e-9, **SETTINGS)
'''


def test_one_process_at_a_time(corpus, tmp_path):
    "While a run is written, another process is refused in one sentence; the lock goes with the process, whichever way that ends; the folder ends as an undisturbed one"
    torch.set_num_threads(1)
    given = dict(settings, epochs=2, weighting='dwa')
    (tmp_path/'corpus').symlink_to(corpus.store)
    program = begun.replace('SETTINGS', repr(given))
    process = subprocess.Popen([sys.executable, '-W', 'ignore', '-c', program], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == 'here\n'
        for attempt in (lambda: resume(tmp_path/'killed', quiet=True)), (lambda: pretrain(corpus, tmp_path/'killed', quiet=True, **given)):
            with pytest.raises(ValueError, match='^Another process is writing the run in .*killed: wait until it ends, or choose another folder.$'): attempt()
        process.communicate('end\n', timeout=60)
    finally: process.kill()
    assert process.returncode == -signal.SIGKILL and where(tmp_path/'killed') == (1, 2)
    resume(tmp_path/'killed', device='cpu', quiet=True)
    pretrain(corpus, tmp_path/'whole', device='cpu', quiet=True, save_every=1e-9, **given)
    names = {p.relative_to(tmp_path/'whole') for p in (tmp_path/'whole').rglob('*') if p.is_file()}
    assert {p.relative_to(tmp_path/'killed') for p in (tmp_path/'killed').rglob('*') if p.is_file()} == names
    last = [content_digest(torch.load(tmp_path/run/'checkpoints'/'last.pt', weights_only=True)) for run in ('whole', 'killed')]
    assert last[0] == last[1]
    for name in names - {*map(Path, ('checkpoints/last.pt', 'times.csv', 'report.html'))}: assert (tmp_path/'killed'/name).read_bytes() == (tmp_path/'whole'/name).read_bytes(), name
