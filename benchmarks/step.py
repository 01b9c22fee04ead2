"""Where the CPU time of a training step goes, and what half precision and parts change in time and memory.

    python benchmarks/step.py                               # tables
    python benchmarks/step.py --json nbs/step_cost.json

The step is that of `mtssl pretrain` as it comes: 16 crops of 6 s, the encoder `tcn`, the workers `music`, the weighting `equal`, fastai's loop with
the package's callbacks. Every part is timed inside real steps, in CPU time at one thread, without what is called from it and is a part itself; the
median over steps is given. "the loop" is what is left: events, callbacks, records. Of a batch of validation, all is one number.
Memory is how much the peak of a process grows during two steps of 32 crops, in a process for each row.
"""
import os
for name in 'OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS': os.environ[name] = '1'

import argparse, json, resource, subprocess, sys, tempfile, time, warnings
from collections import defaultdict
from statistics import median
import torch
from fastai.basics import Callback, CancelFitException
from fastai.optimizer import Optimizer
from mtssl.core.files import versions
from mtssl.music.corpus import build_corpus
from mtssl.music.crops import corpus_dls
from mtssl.music.synth.mix import synthesise
from mtssl.pretraining.learner import ClipNetwork, PretrainLearner, WorkerRecorder, pretrain_learner
from mtssl.pretraining.model import PretrainModel
from mtssl.pretraining.views import Batch

warnings.filterwarnings('ignore')
torch.set_num_threads(1)


class Clock:
    "CPU seconds by name, each without those of names within it"
    def __init__(self): self.stack, self.spent, self.last = ['the loop'], defaultdict(float), time.process_time()

    def count(self):
        now = time.process_time()
        self.spent[self.stack[-1]] += now - self.last
        self.last = now

    def enter(self, name): self.count(), self.stack.append(name)
    def leave(self): self.count(), self.stack.pop()
    def switch(self, name): self.leave(), self.enter(name)

    def watch(self, owner, method, name):
        "Count what `owner.method` takes under `name`"
        function = getattr(owner, method)
        def timed(*args, **kwargs):
            self.enter(name)
            try: return function(*args, **kwargs)
            finally: self.leave()
        setattr(owner, method, timed)


class Steps(Callback):
    "Notes the parts of every training step and the sum of every validation batch"
    order = 1000
    def __init__(self, clock): self.clock, self.steps, self.validation = clock, [], []

    def before_train(self): self.after_batch(keep=False), self.clock.enter('loader')
    def before_batch(self):
        if self.training and self.clock.stack[-1] == 'loader': self.clock.leave()

    def after_pred(self):
        if not self.training: return
        z = next(iter(self.pred.batches.values())).z
        if z.requires_grad: z.register_hook(lambda g: self.clock.switch('backward: encoder'))

    def after_batch(self, keep=True):
        self.clock.count()
        spent, self.clock.spent = dict(self.clock.spent), defaultdict(float)
        if keep: (self.steps if self.training else self.validation).append(spent)
        if keep and self.training: self.clock.enter('loader')

    def after_train(self):
        if self.clock.stack[-1] == 'loader': self.clock.leave()


def watched(learn):
    "The learner with a clock at its parts"
    clock, model = Clock(), learn.model
    for owner, method, name in ((Batch, 'target', 'targets'), (type(model.encoder), 'front', 'front-end'), (type(model.encoder), 'layers', 'forward: encoder'),
                                (PretrainModel, 'losses_of', 'forward: heads and losses'), (PretrainModel, 'errors_of', 'forward: heads and losses'),
                                (PretrainLearner, '_backward', 'backward: heads and losses'),
                                (PretrainModel, 'make_batches', 'batches'), (WorkerRecorder, 'after_batch', 'recorder'), (ClipNetwork, 'before_step', 'clip'),
                                (Optimizer, 'step', 'optimiser'), (Optimizer, 'zero_grad', 'optimiser')): clock.watch(owner, method, name)
    learn.loss_func = lambda losses, *_: clocked(clock, 'weighting', model.weigh, losses)
    learn.add_cb(Steps(clock))
    return learn


def clocked(clock, name, function, *args):
    clock.enter(name)
    try: return function(*args)
    finally: clock.leave()


def learner(folder, bs=16, crops=16, **kwargs):
    clips = ((f'clip{i:03}', wave) for i, (wave, _) in enumerate(synthesise(48, 8., seed=5, jobs=1)))
    corpus = build_corpus(clips, folder, quiet=True)
    return pretrain_learner(corpus_dls(corpus, bs=bs, crops_per_epoch=crops, device='cpu'), **kwargs)


def fit(learn, epochs=1):
    with learn.no_bar(), learn.no_logging(): learn.fit(epochs, 1e-3)
    return learn


def breakdown(steps):
    "CPU seconds of the parts of a step, and of a batch of validation"
    with tempfile.TemporaryDirectory() as folder:
        learn = fit(watched(learner(folder, crops=16 * steps)), 2)
    found = learn.steps.steps[2:]
    rows = {name: median(s.get(name, 0.) for s in found) for name in sorted({k for s in found for k in s})}
    rows = dict(sorted(rows.items(), key=lambda row: -row[1]))
    return rows, median(sum(s.values()) for s in found), median(sum(s.values()) for s in learn.steps.validation)


def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 # MiB on Linux


def one_row(options, repeats=3):
    "Growth of the peak of this process, MiB, and CPU seconds per step of 32 crops under these options"
    class Watch(Callback):
        def before_train(self): self.learn.begun_with, self.learn.spent = peak(), []
        def before_batch(self): self.start = time.process_time()
        def after_batch(self):
            if self.training: self.learn.spent.append(time.process_time() - self.start)
        def after_train(self):
            self.learn.grown = peak() - self.learn.begun_with
            raise CancelFitException()
    with tempfile.TemporaryDirectory() as folder: learn = fit(learner(folder, 32, 32 * repeats, cbs=Watch(), **options))
    return dict(memory=round(learn.grown), step=round(median(learn.spent), 3))


ways = {'whole': {}, 'whole, bf16': dict(precision='bf16'), '2 parts': dict(accumulate=2), '4 parts': dict(accumulate=4), '8 parts': dict(accumulate=8),
        'whole, log_sum': dict(weighting='log_sum'), '4 parts, log_sum': dict(accumulate=4, weighting='log_sum'),
        'whole, mgda': dict(weighting='mgda'), '4 parts, mgda': dict(accumulate=4, weighting='mgda')}


def memory():
    rows = []
    for name, options in ways.items():
        out = subprocess.run([sys.executable, __file__, '--row', json.dumps(options)], capture_output=True, text=True, check=True).stdout
        rows.append(dict(way=name) | json.loads(out.strip().splitlines()[-1]))
        print('{way:20} {memory:6} MiB {step:8.3f} CPU s'.format(**rows[-1]), flush=True)
    return rows


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--steps', type=int, default=12, help='steps per epoch, of two')
    parser.add_argument('--json', help='write the rows here')
    parser.add_argument('--no-memory', action='store_true', help='the breakdown alone')
    parser.add_argument('--row', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.row: print(json.dumps(one_row(json.loads(args.row))))
    else:
        rows, step, validation = breakdown(args.steps)
        for name, seconds in rows.items(): print(f'{name:28} {1000 * seconds:7.1f} ms {seconds / step:6.1%}')
        print(f'a step {step:.3f} CPU s, a batch of validation {validation:.3f} CPU s', flush=True)
        ways_rows = [] if args.no_memory else memory()
        if args.json:
            with open(args.json, 'w') as f:
                json.dump(dict(command=f'python benchmarks/step.py --json {args.json}', step=round(step, 4), validation=round(validation, 4), versions=versions(),
                               rows=[dict(part=name, ms=round(1000 * s, 1), share=round(s / step, 3)) for name, s in rows.items()], ways=ways_rows), f, indent=1)
