"""On a GPU: the numbers of a CPU, in fp32 and bf16, no step that waits, and a run that goes on.

`make test-gpu` runs these; without a GPU they are skipped. No GPU has run them yet.
"""
import glob
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest

if not glob.glob('/dev/nvidia[0-9]*'): pytest.skip('There is no GPU here.', allow_module_level=True)  # before torch is imported, which takes seconds
import torch

if not torch.cuda.is_available(): pytest.skip('PyTorch finds no GPU here.', allow_module_level=True)

sr = 22_050
# torchjd solves for the weights of these on the CPU: every step waits for the inner products of the gradients
always = {'pcgrad', 'mgda', 'imtl_g', 'aligned_mtl', 'upgrad', 'cagrad', 'gradvac', 'nash_mtl'}


def sounds(seed, clips=4, seconds=3.):
    "Tones with a pulse, float32 [clips, T]"
    t, draw = torch.arange(int(seconds * sr)) / sr, torch.Generator().manual_seed(seed)
    tones = [(2 * torch.pi * f * t).sin() * (1.1 + (2 * torch.pi * 3 * t).sin()) for f in 110 * 2**(torch.arange(clips) / 3.)]
    return .2 * torch.stack(tones) + .02 * torch.randn(clips, len(t), generator=draw)


@contextmanager
def no_waiting(allowed=False):
    "Within it, an operation for which the host would wait is an error"
    torch.cuda.set_sync_debug_mode('default' if allowed else 'error')
    try: yield
    finally: torch.cuda.set_sync_debug_mode('default')


def off(here, there):
    "Largest difference, as a share of the range"
    here, there = torch.as_tensor(here).detach().float().cpu(), torch.as_tensor(there).detach().float().cpu()
    return float((here - there).abs().max() / max(float(there.max() - there.min()), 1e-6))


def all_parts():
    "Name, and arguments of `make_model`, of everything that has a name"
    import mtssl
    from mtssl.pretraining.distortions import distortions
    from mtssl.pretraining.workers import worker_sets
    more = 'frame(mfcc, masked=.3)', 'frame(mfcc, context=3, loss=cosine, masked=.3)', 'clip(mfcc, masked=.3)', 'waveform(masked=.3)', 'ntxent(view=crops)'
    yield 'workers of frames', dict(workers=[w for w in worker_sets['all'] if w in mtssl.targets])
    for w in (*(w for w in worker_sets['all'] if w not in mtssl.targets), *more): yield f'worker {w}', dict(workers=w)
    for w in mtssl.weightings: yield f'weighting {w}', dict(weighting=w, workers='mfcc,onset,clip(mfcc)')
    for d in distortions: yield f'distortion {d}', dict(distortions=f'{d}(p=.9)', workers='mfcc')
    for e in mtssl.encoders: yield f'encoder {e}', dict(encoder='timm:mobilenetv3_small_100' if e == 'timm' else f'{e}:tiny', workers='mfcc(n=13)')


def losses_of_step(model, batch, precision):
    "A training step, forwards and backwards; the losses, and whether all gradients are finite, both still on the device"
    model.train()
    model.autocast = (lambda: torch.autocast('cuda', torch.bfloat16)) if precision == 'bf16' else nullcontext
    torch.manual_seed(1)
    losses = model(*batch) if any(v.pairs for v in model.views) else model(*batch[:2])
    model.weigh(losses).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.)
    model.weighting.after_step(lambda: model.losses_of(model.reencode(losses.batches)))
    gradients = torch.stack([p.grad.isfinite().all() for p in model.parameters() if p.grad is not None]).all()
    model.zero_grad()
    return torch.stack([l.detach().float() for l in losses.values()]), gradients


def test_targets():
    "Every target within a thousandth of its range of the CPU's, and the second time without waiting"
    from mtssl.features.analysis import Analysis
    from mtssl.features.targets import Target, targets
    wave, wrong = sounds(0), []
    for name in [n if n != 'clip' else 'clip(chroma_cqt)' for n in targets] + ['mfcc(deltas=True)', 'tempogram(rate=40)', 'cqt(n=216, per_octave=36)']:
        there, here = Target(name)(Analysis(wave, sr, 512)), wave.cuda()
        Target(name)(Analysis(here, sr, 512))
        try:
            with no_waiting(): value = Target(name)(Analysis(here, sr, 512))
        except RuntimeError as e: wrong.append(f'{name}: {str(e).splitlines()[0]}'); continue
        if (far := off(value, there)) > 1e-3: wrong.append(f'{name}: off by {far:.1e} of its range')
    if wrong: pytest.fail('\n'.join(wrong), pytrace=False)


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_parts(precision):
    "Every view, worker, weighting, distortion and encoder: a step in which the host does not wait, with the losses of the CPU"
    from mtssl.pretraining.model import make_model
    batch, wrong = (sounds(1), torch.arange(4), sounds(2)), []
    tolerance = 5e-3 if precision == 'fp32' else .05
    for what, parts in all_parts():
        try:
            torch.manual_seed(0)
            model = make_model([batch[0]], **dict(encoder='tcn:tiny', workers='mfcc,onset') | parts)
            state = {k: v.clone() for k, v in model.state_dict().items()}
            there, _ = losses_of_step(model, batch, 'fp32')
            model.load_state_dict(state)
            model.cuda()
            here = [x.cuda() for x in batch]
            losses_of_step(model, here, precision) # constants are made
            model.load_state_dict(state)
            with no_waiting(what.removeprefix('weighting ') in always): found, fine = losses_of_step(model, here, precision)
            model.finish_checks()
            if not fine: wrong.append(f'{what}: a gradient is not finite')
            far = float(((found.cpu() - there).abs() / there.abs().clamp(min=.1)).max())
            if far > tolerance and not (precision == 'bf16' and not torch.isfinite(found).all()): wrong.append(f'{what}: a loss is off by {far:.1e}')
        except Exception as e: wrong.append(f'{what}: {type(e).__name__}: {str(e).splitlines()[0]}')
    if wrong: pytest.fail('\n'.join(wrong), pytrace=False)


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
    from mtssl.music.corpus import build_corpus
    waves = [(f'clip{i}', w.numpy()) for i, w in enumerate(torch.cat([sounds(s) for s in range(6)]))]
    return build_corpus([*waves, ('short', waves[0][1][:9000])], tmp_path_factory.mktemp('gpu')/'corpus', quiet=True)


def test_crops(corpus):
    "Crops of the device, ahead of time and from a resident store, are those of the host to the last bit"
    from mtssl.music.crops import corpus_dls
    from mtssl.music.device_crops import device_dls
    def waves(loader):
        loader.set_epoch(2)
        return torch.cat([wave.cpu() for wave, _ in loader])
    wanted = waves(corpus_dls(corpus, seconds=1., bs=4, device='cpu').train)
    for resident in False, True:
        for ahead in False, True:
            dls = device_dls(corpus_dls(corpus, seconds=1., bs=4, device='cuda'), resident=resident, ahead=ahead)
            assert torch.equal(waves(dls.train), wanted), f'resident={resident}, ahead={ahead}'
            assert next(iter(dls.train))[0].is_cuda


def test_training_loop(corpus):
    "After the first steps, no step of the whole loop waits, with its recorder, schedule and loader"
    from fastai.basics import Callback
    from mtssl.music.crops import corpus_dls
    from mtssl.pretraining.learner import pretrain_learner

    class Watched(Callback):
        order = -200
        def before_batch(self): torch.cuda.set_sync_debug_mode('error' if self.training and self.iter > 1 else 'default')
        def after_train(self): torch.cuda.set_sync_debug_mode('default')

    try:
        learn = pretrain_learner(corpus_dls(corpus, seconds=2., bs=4, crops_per_epoch=40, device='cuda'), encoder='tcn:tiny', weighting='uncertainty',
                                 distortions='light', cbs=Watched())
        with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(2, 1e-3)
    finally: torch.cuda.set_sync_debug_mode('default')
    assert np.isfinite(learn.history().to_numpy()).all()


def test_not_finite(corpus):
    "A loss that is not finite ends the run, a few steps later, with the worker's name and before anything is written"
    from mtssl.music.crops import corpus_dls
    from mtssl.pretraining.learner import pretrain_learner
    learn = pretrain_learner(corpus_dls(corpus, seconds=1., bs=4, device='cuda'), encoder='tcn:tiny', workers='mfcc,onset')
    with torch.no_grad(): learn.model.workers['onset'].head[0].weight[0, 0] = float('nan')
    with pytest.raises(FloatingPointError, match='The loss of .*onset.* is not finite'), learn.no_bar(), learn.no_logging(): learn.fit(1)


def test_resume(corpus, tmp_path):
    "A run that is interrupted on the device goes on there, and on a CPU"
    import shutil
    import mtssl
    from fastai.basics import Callback

    class Stop(Callback):
        def before_epoch(self):
            if self.epoch == 1: raise KeyboardInterrupt

    settings = dict(encoder='tcn:tiny', workers='mfcc,onset', epochs=2, crops_per_epoch=16, bs=4, seconds=1.)
    with pytest.raises(KeyboardInterrupt): mtssl.pretrain(corpus, tmp_path/'run', device='cuda', quiet=True, cbs=[Stop()], **settings)
    shutil.copytree(tmp_path/'run', tmp_path/'cpu')
    for name, device in ('run', 'cuda'), ('cpu', 'cpu'):
        learn = mtssl.resume(tmp_path/name, device=device, quiet=True)
        assert len(learn.history()) == 2 and next(learn.model.parameters()).device.type == device


def test_embedding_and_probe():
    "Vectors and frames within a ten-thousandth of the CPU's; a probe on them gives the same answers; fine-tuning runs"
    import mtssl
    from mtssl.embedding.embedding import embed_frames, embed_wave, embed_waves
    from mtssl.probing.finetuning import finetune_learner, fit_gradually
    from mtssl.probing.probe_models import Answers, make_probe
    waves = [w.numpy() for s in range(6) for w in sounds(s)]
    classes = np.array(['a', 'b', 'c', 'd'] * 6)
    for name in mtssl.encoders:
        torch.manual_seed(0)
        encoder = mtssl.encoders.make('timm:mobilenetv3_small_100' if name == 'timm' else f'{name}:tiny').eval()
        ways = dict(window=lambda e: embed_wave(e, waves[0], window=1.), frames=lambda e: embed_frames(e, waves[0]), clips=lambda e: np.stack(list(embed_waves(e, waves))))
        there = {way: embed(encoder.cpu()) for way, embed in ways.items()}
        here = {way: embed(encoder.cuda()) for way, embed in ways.items()}
        for way in ways: assert off(here[way], there[way]) < 1e-4, f'{name}, {way}: off by {off(here[way], there[way]):.1e}'
    probes = [make_probe('linear', 'single-label').fit(x['clips'], classes).predict(x['clips']) for x in (there, here)]
    assert (probes[0] == probes[1]).all()
    encoder = mtssl.encoders.make('tcn:tiny').cuda()
    learn = finetune_learner(encoder, waves, Answers('single-label', classes), classes, np.arange(20), np.arange(20, 24), seconds=2., bs=8)
    fit_gradually(learn, (1, 1, 1))
