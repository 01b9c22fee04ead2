"""Every weighting by name: a run that is killed and continued ends, to the last bit, where an undisturbed one ends."""
import pandas as pd
import pytest
import torch
from fastai.basics import Callback
from safetensors.torch import load_file

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
        if self.training and self.epoch == 3 and self.iter == 1: raise KeyboardInterrupt


@pytest.mark.parametrize('spec', specs)
def test_a_killed_run_continues_exactly(corpus, tmp_path, spec):
    torch.set_num_threads(1)
    pretrain(corpus, tmp_path/'whole', device='cpu', quiet=True, weighting=spec, **settings)
    with pytest.raises(KeyboardInterrupt): pretrain(corpus, tmp_path/'killed', device='cpu', quiet=True, weighting=spec, cbs=[Kill()], **settings)
    resume(tmp_path/'killed', device='cpu', quiet=True)
    whole, killed = (load_file(tmp_path/name/'model.safetensors') for name in ('whole', 'killed'))
    assert set(whole) == set(killed) and all(torch.equal(whole[k], killed[k]) for k in whole)
    for table in 'history.csv', 'cosines.csv': assert (tmp_path/'whole'/table).read_text() == (tmp_path/'killed'/table).read_text()
    weights = pd.read_csv(tmp_path/'whole'/'history.csv').filter(regex=r'\.weight$')
    assert weights.notna().all(None) and (len(weights) == 4)
