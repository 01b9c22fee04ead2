"""A device that is none, for finding mistakes that only a GPU would show; run as a script, it prints those of this package.

Its tensors lie on the CPU and say that they lie elsewhere. An operation that is given some of both kinds fails, as on a GPU,
and whatever would make the host wait for the device is counted. The numbers are those of the CPU.
It needs a process of its own, in which nothing has been differentiated yet: PyTorch counts its devices once.
"""
import os, sys, traceback
from collections import Counter
from contextlib import contextmanager

os.environ.setdefault('OMP_NUM_THREADS', '1')
import numpy as np
import torch
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_any, tree_leaves, tree_map



if not hasattr(backend_registration, '_setup_privateuseone_for_python_backend'):
    print('This PyTorch cannot pretend a device in Python.')
    sys.exit()


class Backend(backend_registration._DummyBackendModule):
    def get_amp_supported_dtype(self): return [torch.bfloat16]


backend_registration._setup_privateuseone_for_python_backend('pretend', Backend())
aten = torch.ops.aten
device = torch.device('pretend', 0)
waits = Counter()  # what made the host wait, and where in the package
physical = {aten._conj.default: aten.conj_physical.default, aten._neg_view.default: aten.neg.default}
reads = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten.is_nonzero, aten._unique2, aten.unique_dim,
         aten.unique_consecutive, aten.bincount, aten._linalg_eigh, aten._linalg_svd, aten.linalg_lstsq, aten._linalg_solve_ex}
puts = 'aten::index', 'aten::index_put', 'aten::index_put_', 'aten::_index_put_impl_'


class Pretend(torch.Tensor):
    "A tensor of the device"
    @staticmethod
    def __new__(cls, inner):
        layout = dict(strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype, device=device)
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, **layout)

    def __init__(self, inner): self.inner = inner
    def __repr__(self): return f'Pretend({self.inner!r})'

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None): return run(function, args, kwargs or {})


def is_here(where): return where is not None and torch.device(where).type == device.type
def inner(x): return x.inner if isinstance(x, Pretend) else x
def outer(x): return Pretend(x) if isinstance(x, torch.Tensor) else x


def wait(what):
    "Count one, with the function of the package that is at work"
    frame = sys._getframe(1)
    while frame and '/mtssl/' not in frame.f_code.co_filename: frame = frame.f_back
    waits[f'{what}, in ' + (f"{frame.f_code.co_filename.partition('/mtssl/')[2]} {frame.f_code.co_name}" if frame else 'a backward pass or a library')] += 1


def check_mixed(function, tensors):
    "Raises `RuntimeError` for tensors of the CPU beside those of the device, except for single numbers where a GPU takes them"
    if function in (aten._to_copy.default, aten.copy_.default): return
    lenient = torch.Tag.pointwise in function.tags or function.overloadpacket in (aten.where, aten.masked_fill, aten.masked_fill_)
    for t in tensors:
        if isinstance(t, Pretend) or lenient and not t.ndim: continue
        if function.name() in puts and t.dtype == torch.long: wait('an index from the CPU')
        else: raise RuntimeError(f'{function} is given a tensor {list(t.shape)} of the CPU beside those of the device')


def count_waits(function, args, kwargs):
    if function.overloadpacket in reads: wait(function.name().removeprefix('aten::'))
    elif function.name() in puts:
        if any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]): wait('a mask as an index')
    elif function is aten.repeat_interleave.Tensor: wait('repeat_interleave')
    elif function is aten._to_copy.default and kwargs.get('device') is not None:
        if is_here(kwargs['device']) != isinstance(args[0], Pretend) and not kwargs.get('non_blocking'): wait('to()')
    elif function is aten.copy_.default and isinstance(args[0], Pretend) != isinstance(args[1], Pretend):
        if not (args[2] if len(args) > 2 else kwargs.get('non_blocking')): wait('copy_()')


def run(function, args, kwargs):
    "The operation on the tensors within, once it is known that a GPU would do it"
    check_mixed(function, [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)])
    count_waits(function, args, kwargs)
    if function is aten._to_copy.default: here = is_here(kwargs['device']) if kwargs.get('device') is not None else isinstance(args[0], Pretend)
    else: here = function is not aten.copy_.default or isinstance(args[0], Pretend)
    out = physical.get(function, function)(*tree_map(inner, args), **{k: tree_map(inner, v) for k, v in kwargs.items() if k not in ('device', 'pin_memory')})
    if torch.Tag.inplace_view in function.tags:
        with no_dispatch(): function(*args, **kwargs)
    if function._schema.is_mutable and function._schema.name.endswith('_'): return args[0]
    return kwargs['out'] if 'out' in kwargs else tree_map(outer, out) if here else out


class OnDevice(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        here = is_here(kwargs.get('device')) or tree_any(lambda x: isinstance(x, Pretend), (args, kwargs))
        return run(function, args, kwargs) if here else function(*args, **kwargs)


class Lists(TorchFunctionMode):
    "Between lists and tensors of the device, where PyTorch asks nobody"
    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function in (torch.tensor, torch.as_tensor) and is_here(kwargs.get('device')):
            to = kwargs.pop('device')
            if isinstance(args[0], torch.Tensor): return args[0].to(to, **kwargs)
            wait('a list sent')
            return Pretend(function(*args, **kwargs))
        if function is torch.Tensor.new_tensor and isinstance(args[0], Pretend):
            wait('a list sent')
            return Pretend(torch.tensor(args[1], dtype=kwargs.get('dtype') or args[0].dtype))
        if function is torch.Tensor.tolist and isinstance(args[0], Pretend):
            wait('tolist')
            return args[0].inner.tolist()
        if getattr(function, '__name__', '') == 'gru' and isinstance(args[0], Pretend): return gru(*args)
        return function(*args, **kwargs)


def gru(x, state, weights, biases, layers, dropout, training, bidirectional, batch_first): # [B, N, D]; one layer, forwards
    "A recurrent layer of small operations, since the CPU has none of the fused kernel that devices use"
    (w_in, w_state, b_in, b_state), (state,), out = weights, state, []
    for t in range(x.shape[1]):
        (r, z, n), (hr, hz, hn) = (torch.nn.functional.linear(*a).chunk(3, -1) for a in ((x[:, t], w_in, b_in), (state, w_state, b_state)))
        keep, new = (z + hz).sigmoid(), (n + (r + hr).sigmoid() * hn).tanh()
        state = new + keep * (state - new)
        out.append(state)
    return torch.stack(out, 1), state[None]


class Arrived:
    "An event of a device that is never late"
    def query(self): return True
    def synchronize(self): pass


@contextmanager
def pretending():
    "Within it, the device works"
    waits.clear()
    with OnDevice(), Lists(): yield



# What is checked -----------------------------------------------------------------------------------------------------------

problems = []
sr, frames = 22_050, 26
always = {'pcgrad', 'mgda', 'imtl_g', 'aligned_mtl', 'upgrad', 'cagrad', 'gradvac', 'nash_mtl'}  # torchjd solves for their weights on the CPU, in every step


def sounds(seed):
    "Four clips of tones with a pulse, float32 [4, T]"
    t, draw = torch.arange(frames * 512) / sr, torch.Generator().manual_seed(seed)
    tones = [(2 * torch.pi * f * t).sin() * (1.1 + (2 * torch.pi * 3 * t).sin()) for f in (220., 330., 440., 550.)]
    return .2 * torch.stack(tones) + .02 * torch.randn(4, len(t), generator=draw)


@contextmanager
def noting(what):
    "Put what goes wrong within it on the list"
    try: yield
    except Exception as e:
        own = [f for f in traceback.extract_tb(e.__traceback__) if '/mtssl/' in f.filename][-1:]
        place = ''.join(f" in {f.filename.partition('/mtssl/')[2]} {f.name}: {f.line}" for f in own)
        problems.append(f'{what}: {type(e).__name__}{place}: {str(e).splitlines()[0]}')


def note_waits(what, allowed=False):
    if waits and not allowed: problems.extend(f'{what}: the host waits for {place}, {n} times in a step' for place, n in waits.items())


def near(what, here, there, tolerance):
    "The same numbers, within a share of their range"
    here, there = inner(here).detach(), there.detach()
    off = (here - there).abs().max() / max(float(there.max() - there.min()), 1e-3)
    if not off <= tolerance: problems.append(f'{what}: off by {off:.1e} of the range')


def check_targets():
    from mtssl.features.analysis import Analysis
    from mtssl.features.targets import Target, targets
    wave = sounds(0)[:2]
    for name in [n if n != 'clip' else 'clip(mfcc)' for n in targets] + ['mfcc(deltas=True)']:
        with noting(f'target {name}'), pretending():
            Target(name)(Analysis(wave.to(device), sr, 512)) # constants are made once
            sound = wave.to(device)
            waits.clear()
            value = Target(name)(Analysis(sound, sr, 512))
            note_waits(f'target {name}')
            near(f'target {name}', value, Target(name)(Analysis(wave, sr, 512)), 1e-3)


def one_step(model, wave, second, track):
    "Losses of a training step, with its gradients and what follows them"
    model.train()
    losses = model(wave, track, second if any(v.pairs for v in model.views) else None)
    model.weigh(losses).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.)
    model.weighting.after_step(lambda: model.losses_of(model.reencode(losses.batches)))
    model.weighting.after_epoch()
    model.zero_grad()
    return losses


def check_model(what, allowed=False, compare=True, samples=None, **parts):
    "A training step of a model with these parts on the device, and with `compare` on the CPU, whose losses must be the same"
    from mtssl.pretraining.model import make_model
    batch = sounds(1)[:, :samples], sounds(2)[:, :samples], torch.arange(4)
    with noting(what):
        torch.manual_seed(0)
        model = make_model([batch[0]], **dict(encoder='tcn(width=16, blocks=1)', workers='mfcc,onset') | parts)
        state = {k: v.clone() for k, v in model.state_dict().items()}
        def losses(place):
            model.to(place).load_state_dict(state)
            here = [x.to(place) for x in batch]
            torch.manual_seed(1)
            waits.clear()
            return one_step(model, *here)
        with pretending():
            here = losses(device)
            if waits: here = losses(device) # constants are made in the first step
            note_waits(what, allowed)
            there = losses(torch.device('cpu')) if compare else {}
        for name in there: near(f'{what}, loss of {name}', *(torch.stack([inner(x[name]).detach(), torch.zeros(())]) for x in (here, there)), 1e-3)


def check_parts():
    import mtssl
    from mtssl.pretraining.distortions import distortions
    from mtssl.pretraining.workers import worker_sets
    for name in [w for w in worker_sets['all'] if w not in mtssl.targets]: check_model(f'worker {name}', workers=name)
    check_model('workers of frames', workers=[w for w in worker_sets['all'] if w in mtssl.targets])
    more = 'frame(mfcc, masked=.3)', 'frame(mfcc, context=3, loss=cosine, masked=.3)', 'clip(mfcc, masked=.3)', 'waveform(masked=.3)', 'ntxent(view=crops)'
    for spec in more: check_model(f'worker {spec}', workers=spec)
    for name in mtssl.weightings: check_model(f'weighting {name}', weighting=name, workers='mfcc,onset', compare=False, allowed=name in always)
    check_model('weighting schedule with points', weighting='schedule(onset=[(0, 0), (1, 1)])', compare=False)
    for name in distortions: check_model(f'distortion {name}', distortions=f'{name}(p=.9)', workers='mfcc')
    for name in mtssl.encoders:
        if name != 'timm': check_model(f'encoder {name}', encoder=f'{name}:tiny', workers='mfcc(n=13)', samples=5120 if 'pase' in name else None)


def check_learner():
    "Three steps and a validation by the training loop; then a loss that is not finite"
    from fastai.basics import Callback, DataLoaders
    from mtssl.pretraining.learner import pretrain_learner

    class Steps(Callback):
        order = 200
        def before_batch(self): waits.clear()
        def after_batch(self):
            if self.training and self.iter: note_waits('the training loop')

    class Batches(list):
        bs, device = 4, None
        def to(self, device): return self

    broken = sounds(5)
    broken[0, 0] = float('nan')
    with noting('the training loop'), pretending():
        crops = lambda *waves: Batches((w, torch.arange(4)) for w in waves)
        dls = DataLoaders(crops(sounds(3), sounds(4), sounds(5)), crops(sounds(6)), device='cpu')
        learn = pretrain_learner(dls, encoder='tcn(width=16, blocks=1)', workers='music', weighting='uncertainty', cbs=Steps())
        for loader in learn.dls.loaders: loader[:] = [tuple(x.to(device) for x in batch) for batch in loader]
        learn.model.to(device)
        learn.dls.device = device
        with learn.no_bar(), learn.no_logging(): learn.fit(1)
        if not np.isfinite(learn.history().to_numpy()).all(): problems.append('the training loop: its history is not finite')
        learn.dls.train[-1] = broken.to(device), torch.arange(4).to(device)
        try:
            with learn.no_bar(), learn.no_logging(): learn.fit(1)
            problems.append('the training loop: a loss that is not finite went by')
        except FloatingPointError: pass


def check_use():
    "Embeddings, frames, a fine-tuned encoder"
    import mtssl
    from mtssl.embedding.embedding import embed_frames, embed_wave, embed_waves
    from mtssl.probing.finetuning import finetune_learner
    from mtssl.probing.probe_models import Answers
    waves = [w.numpy() for w in sounds(7)]
    for name in 'tcn', 'conformer', 'pase':
        torch.manual_seed(0)
        encoder = mtssl.encoders.make(f'{name}:tiny').eval()
        ways = dict(wave=lambda e: embed_wave(e, waves[0], window=.5), frames=lambda e: embed_frames(e, waves[0]), waves=lambda e: np.stack(list(embed_waves(e, waves))))
        for way, embed in ways.items():
            with noting(f'embedding of {way} by {name}'), pretending():
                there = torch.tensor(embed(encoder.to('cpu')))
                near(f'embedding of {way} by {name}', torch.tensor(embed(encoder.to(device))), there, 1e-4)
    with noting('fine-tuning'), pretending():
        y = np.array(['a', 'b', 'a', 'b'])
        learn = finetune_learner(encoder.to('cpu'), waves, Answers('single-label', y), y, np.arange(3), np.arange(3, 4), seconds=1., bs=3, device='cpu')
        batch = [x.to(device) for x in learn.dls.one_batch()]
        learn.model.to(device)
        learn.loss_func(learn.model(batch[0]), batch[1]).backward()


if __name__ == '__main__':
    import warnings
    warnings.simplefilter('ignore')
    from mtssl.core.devices import LateChecks
    LateChecks.kinds, LateChecks.event = (device.type,), lambda self: Arrived()
    for check in check_targets, check_parts, check_learner, check_use: check()
    print(*problems, sep='\n', flush=True)
    os._exit(0)  # autograd's thread for the pretended device can abort a Python that ends in the usual way
