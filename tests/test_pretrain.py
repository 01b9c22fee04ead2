"""Every encoder with every kind of worker and every distortion goes through a pre-training, is interrupted, and continues exactly."""
import json, tarfile

import pytest
import soundfile
import torch
from fastai.basics import Callback
from safetensors.torch import load_file
from typer.testing import CliRunner

from mtssl.app.cli import app
from mtssl.music.corpus import build_corpus
from mtssl.pretraining.distortions import distortions
from mtssl.encoding.encoder import encoders
from mtssl.pretraining.learner import pretrain_learner
from mtssl.pretraining.runs import pretrain, resume
from mtssl.music.crops import corpus_dls
from mtssl.music.synth.mix import synthesise
from mtssl.features.targets import targets
from mtssl.pretraining.workers import worker_sets

def smallest(name): return {'timm': 'timm:test_efficientnet'}.get(name, f'{name}:tiny' if 'tiny' in encoders[name].sizes else name)
specs = [smallest(name) for name in sorted(encoders)]
asked = [*worker_sets['all'], 'frame(logmel, masked=.4)', 'clip(mfcc, masked=.4)', 'frame(mfcc, context=3)']
rest = [name for name in targets if name not in ('clip', 'waveform') and name not in asked]
settings = dict(epochs=2, seconds=1.5, bs=4, crops_per_epoch=8, device='cpu', quiet=True)


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
    torch.set_num_threads(1)
    waves = ((f'clip{i}', wave) for i, (wave, _) in enumerate(synthesise(40, 2., seed=0, jobs=1)))
    return build_corpus(waves, tmp_path_factory.mktemp('pretrain')/'corpus', quiet=True)


@pytest.mark.parametrize('spec', specs)
def test_every_encoder_with_every_worker(corpus, tmp_path, undrawn, spec):
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
def test_distorted_views_continue_exactly(corpus, tmp_path, undrawn, spec):
    given = dict(settings, encoder='tcn(width=8, blocks=1)', workers='mfcc,frame(mfcc, masked=.4),lim,ntxent,tempo_shift', distortions=spec if spec == 'all' else f'{spec}(p=.7)')
    pretrain(corpus, tmp_path/'whole', **given)
    with pytest.raises(KeyboardInterrupt): pretrain(corpus, tmp_path/'killed', cbs=[Kill()], **given)
    resume(tmp_path/'killed', device='cpu', quiet=True)
    whole, killed = (load_file(tmp_path/name/'model.safetensors') for name in ('whole', 'killed'))
    assert all(torch.equal(whole[k], killed[k]) for k in whole)
    assert (tmp_path/'whole'/'history.csv').read_text() == (tmp_path/'killed'/'history.csv').read_text()


def test_what_is_no_dls_is_told_the_remedy(corpus):
    for wrong in corpus, str(corpus.store), corpus_dls(corpus, seconds=1., device='cpu').train:
        with pytest.raises(TypeError, match=r'corpus_dls\(corpus\)'): pretrain_learner(wrong)


def test_a_worker_about_two_crops_of_a_track(corpus, tmp_path, undrawn):
    "The learner asks the crops for pairs; the run continues exactly; what it hears at first is what it would hear without"
    given = dict(settings, encoder='tcn(width=8, blocks=1)', workers="mfcc,ntxent(view='crops')", distortions='light')
    learn = pretrain(corpus, tmp_path/'whole', **given)
    assert learn.dls.pairs and learn.dls.train.one_batch()[0].shape == (4, 2, 33_075)
    with pytest.raises(KeyboardInterrupt): pretrain(corpus, tmp_path/'killed', cbs=[Kill()], **given)
    resume(tmp_path/'killed', device='cpu', quiet=True)
    whole, killed = (load_file(tmp_path/name/'model.safetensors') for name in ('whole', 'killed'))
    assert all(torch.equal(whole[k], killed[k]) for k in whole)


def test_the_model_changes_nothing_in_its_batch(corpus):
    dls = corpus_dls(corpus, seconds=1.5, bs=4, crops_per_epoch=8, device='cpu')
    learn = pretrain_learner(dls, encoder='tcn(width=8, blocks=1)', workers='mfcc,lim', weighting='pcgrad')
    wave, track = dls.one_batch()
    before = wave.clone(), track.clone()
    learn.model.weigh(learn.model(wave, track)).backward()
    assert torch.equal(wave, before[0]) and torch.equal(track, before[1])


def test_shards_on_the_command_line(tmp_path, monkeypatch):
    "`mtssl pretrain SHARDS --stream` trains without a store, and --resume finds the shards again"
    monkeypatch.chdir(tmp_path)
    for shard in range(2):
        with tarfile.open(f'{shard}.tar', 'w') as tar:
            for i, (wave, _) in enumerate(synthesise(20, 2., seed=shard, jobs=1)):
                soundfile.write('clip.flac', wave, 22_050)
                tar.add('clip.flac', f'album{i:02}/clip.flac')
    words = ['--encoder', 'tcn(width=8, blocks=1)', '--workers', 'mfcc', '--seconds', '1.5', '--bs', '4', '--epochs', '2', '--device', 'cpu', '--jobs', '1', '--quiet']
    invoke = lambda *words: CliRunner().invoke(app, ['pretrain', *words])
    refused = invoke('0.tar', '1.tar', '--stream', '--out', 'none', *words)
    assert refused.exit_code == 1 and 'crops_per_epoch' in refused.stderr, refused.stderr
    done = invoke('0.tar', '1.tar', '--stream', '--out', 'run', '--crops-per-epoch', '16', *words)
    assert done.exit_code == 0 and not (tmp_path/'run'/'corpus').exists(), done.output
    assert json.loads((tmp_path/'run'/'config.json').read_text())['source'] == [str(tmp_path/f'{shard}.tar') for shard in range(2)]
    assert '0.tar, ' in (tmp_path/'run'/'report.html').read_text()
    again = invoke('--resume', '--out', 'run', '--device', 'cpu', '--jobs', '1', '--quiet')
    assert again.exit_code == 0 and 'report.html' in again.output, again.output
