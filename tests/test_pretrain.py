"""Every encoder with every kind of worker and every distortion goes through a pre-training, is interrupted, and continues exactly."""
import pytest
import torch
from fastai.basics import Callback
from safetensors.torch import load_file

from mtssl.music.corpus import build_corpus
from mtssl.pretraining.distortions import distortions
from mtssl.encoding.encoder import encoders
from mtssl.pretraining.runs import pretrain, resume
from mtssl.music.synth.mix import synthesise
from mtssl.features.targets import targets
from mtssl.pretraining.workers import worker_sets

specs = ['timm:test_efficientnet' if name == 'timm' else f'{name}:tiny' for name in sorted(encoders)]
asked = [*worker_sets['all'], 'frame(logmel, masked=.4)', 'clip(mfcc, masked=.4)', 'frame(mfcc, context=3)']
rest = [name for name in targets if name not in ('clip', 'waveform') and name not in asked]
settings = dict(epochs=2, seconds=1.5, bs=4, crops_per_epoch=8, device='cpu', quiet=True)


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
    torch.set_num_threads(1)
    waves = ((f'clip{i}', wave) for i, (wave, _) in enumerate(synthesise(40, 2., seed=0, jobs=1)))
    return build_corpus(waves, tmp_path_factory.mktemp('pretrain')/'corpus', quiet=True)


@pytest.mark.parametrize('spec', specs)
def test_every_encoder_with_every_worker(corpus, tmp_path, spec):
    learn = pretrain(corpus, tmp_path/'run', encoder=spec, sr=22_050, workers=','.join(asked), **settings)
    history = learn.history()
    assert history.filter(regex=r'\.share$').gt(0).all(None) and history.notna().all(None)


def test_every_target(corpus, tmp_path):
    names = [*rest, *(f'clip({name})' for name in rest)]
    learn = pretrain(corpus, tmp_path/'run', encoder='tcn:tiny', workers=','.join(names), **settings)
    assert list(learn.model.workers) == names and learn.history().filter(regex=r'\.share$').gt(0).all(None)


class Kill(Callback):
    def before_batch(self):
        if self.training and self.epoch == 1 and self.iter == 1: raise KeyboardInterrupt


@pytest.mark.parametrize('spec', ['all', *distortions])
def test_distorted_views_continue_exactly(corpus, tmp_path, spec):
    given = dict(settings, encoder='tcn(width=8, blocks=1)', workers='mfcc,frame(mfcc, masked=.4),lim,ntxent,tempo_shift', distortions=spec if spec == 'all' else f'{spec}(p=.7)')
    pretrain(corpus, tmp_path/'whole', **given)
    with pytest.raises(KeyboardInterrupt): pretrain(corpus, tmp_path/'killed', cbs=[Kill()], **given)
    resume(tmp_path/'killed', device='cpu', quiet=True)
    whole, killed = (load_file(tmp_path/name/'model.safetensors') for name in ('whole', 'killed'))
    assert all(torch.equal(whole[k], killed[k]) for k in whole)
    assert (tmp_path/'whole'/'history.csv').read_text() == (tmp_path/'killed'/'history.csv').read_text()
