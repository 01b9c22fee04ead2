"""Half precision and batches in parts: killed runs go on exactly, and what cannot be had is said before anything is decoded."""
import json

import pytest
import torch
from fastai.basics import Callback
from safetensors.torch import load_file
from mtssl.music.corpus import build_corpus
from mtssl.music.synth.mix import synthesise
from mtssl.pretraining.runs import pretrain, resume

settings = dict(encoder='tcn(width=8, blocks=1)', workers='mfcc,onset,clip(mfcc)', epochs=2, seconds=1.5, bs=2, accumulate=2, crops_per_epoch=12)
where = dict(device='cpu', quiet=True)


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
    waves = ((f'clip{i}', wave) for i, (wave, _) in enumerate(synthesise(12, 2., seed=0, jobs=1)))
    return build_corpus(waves, tmp_path_factory.mktemp('precision')/'corpus', quiet=True)


class Kill(Callback):
    def before_batch(self):
        if self.training and self.epoch == 1 and self.iter == 2: raise KeyboardInterrupt


@pytest.mark.parametrize('more', [dict(precision='fp16', weighting='log_sum'), dict(precision='bf16', weighting='gradnorm')], ids=['fp16', 'bf16'])
def test_a_killed_run_continues_exactly(corpus, tmp_path, undrawn, more):
    "In half precision and in parts; a step is a step of the optimiser, and what is written is in single precision"
    torch.set_num_threads(1)
    learn = pretrain(corpus, tmp_path/'whole', **where, **settings, **more)
    with pytest.raises(KeyboardInterrupt): pretrain(corpus, tmp_path/'killed', cbs=[Kill()], save_every=1e-9, **where, **settings, **more)
    assert not torch.is_autocast_enabled('cpu')
    state = torch.load(tmp_path/'killed'/'checkpoints'/'last.pt', weights_only=True)
    assert (state['epoch'], state['batches'], 'scaler' in state) == (1, 2, more['precision'] == 'fp16')
    resume(tmp_path/'killed', **where)
    whole, killed = (load_file(tmp_path/name/'model.safetensors') for name in ('whole', 'killed'))
    assert set(whole) == set(killed) and all(torch.equal(whole[k], killed[k]) for k in whole)
    assert {v.dtype for v in whole.values() if v.is_floating_point()} == {torch.float32}
    assert (tmp_path/'whole'/'history.csv').read_text() == (tmp_path/'killed'/'history.csv').read_text()
    assert learn.history().step.tolist() == [3, 6]
    written = json.loads((tmp_path/'whole'/'config.json').read_text())['settings']
    assert (written['precision'], written['accumulate'], written['compile']) == (more['precision'], 2, False)


wrong = [(dict(precision='half'), "precision='half' will not do: it must be one of fp32, bf16, fp16"), (dict(accumulate=0), 'accumulate=0 will not do'),
         (dict(precision='fp16', weighting='pcgrad'), 'PCGrad does not work in fp16'), (dict(compile=1), 'compile=1 will not do'),
         (dict(compile=True), 'needs a C++ compiler on a CPU, and there is no nowhere-c++ here')]

@pytest.mark.parametrize('more,words', wrong)
def test_what_cannot_be_had_is_said_first(tmp_path, monkeypatch, more, words):
    monkeypatch.setenv('CXX', 'nowhere-c++')
    with pytest.raises(ValueError) as e: pretrain(tmp_path/'music', tmp_path/'run', **where, **more)
    assert words in str(e.value) and '\n' not in str(e.value) and not (tmp_path/'run'/'corpus').exists()


def test_a_damaged_scale_is_refused(corpus, tmp_path, undrawn):
    from mtssl.core.files import FileProblem, save_checkpoint
    given = settings | dict(epochs=1, precision='fp16')
    pretrain(corpus, tmp_path/'run', **where, **given)
    path = tmp_path/'run'/'checkpoints'/'last.pt'
    state = torch.load(path, weights_only=True)
    state.pop('digest', None)
    save_checkpoint(path, state | dict(scaler=dict(state['scaler'], scale=float('nan'))))
    with pytest.raises(FileProblem, match='its scale of the loss is none'): resume(tmp_path/'run', **where)
