"""CPU time of a training step under every weighting, in multiples of `equal`, at one thread.

    python benchmarks/weighting.py                  # a table
    python benchmarks/weighting.py --json nbs/weighting_cost.json

The whole step counts: front-end, targets, encoder, ten workers, weighting, backward pass, optimiser. For weightings that
read gradients, `layers` takes them where the encoder ends, and `full` at all of its parameters. The steps of all rows
are interleaved, so that a busy machine slows all alike; the median ratio of neighbouring steps is given. The median does not
see what happens once in many steps: the bargains of `nash_mtl` have a row of their own, `nash_mtl(every=1)`.
"""
import os
for name in 'OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS': os.environ[name] = '1'

import argparse, json, time, warnings
from statistics import median
import numpy as np
import torch
from mtssl.encoding.encoder import count_parameters
from mtssl.pretraining.model import make_model
from mtssl.core.files import versions
from mtssl.music.synth.mix import synthesise
from mtssl.pretraining.weighting import weightings

warnings.filterwarnings('ignore')
torch.set_num_threads(1)
workers = 'logmel,mfcc,lps,cqt,chroma_cqt,spectral_contrast,onset,tempogram(rate=40),clip(mfcc),clip(chroma_cqt)'


class Step:
    "A model under one weighting, and a training step of it"
    def __init__(self, wave, encoder, weighting):
        torch.manual_seed(0)
        self.wave, self.model = wave, make_model([wave], encoder, workers, weighting)
        self.opt = torch.optim.AdamW(self.model.parameters(), lr=1e-3, foreach=False)

    def __call__(self):
        start, losses = time.process_time(), self.model(self.wave)
        self.opt.zero_grad()
        self.model.weigh(losses).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.)
        self.opt.step()
        with torch.no_grad(): self.model.weighting.after_step(lambda: self.model.losses_of(self.model.reencode(losses.batches)))
        return time.process_time() - start


def measure(wave, encoder, repeats):
    "Rows of the table and the cost of a step under `equal`, s"
    specs = [*weightings, 'nash_mtl(every=1)'] + [f'{n}(full=True)' for n, w in weightings.items() if w.needs_gradients]
    equal = Step(wave, encoder, 'equal')
    equal()
    ratio, seconds = {}, []
    for spec in specs:
        step, found = Step(wave, encoder, spec), []
        step()
        for _ in range(repeats):
            before, own, after = equal(), step(), equal()
            found.append(2 * own / (before + after))
            seconds += [before, after]
        ratio[spec] = median(found)
        print(f'{spec:28}{ratio[spec]:8.2f}', flush=True)
    rows = [dict(weighting=n, layers=round(ratio[n], 3), full=round(ratio[f'{n}(full=True)'], 3) if f'{n}(full=True)' in ratio else None) for n in specs if '(full' not in n]
    return rows, median(seconds), count_parameters(equal.model.encoder)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--encoder', default='tcn', help='name of the encoder')
    parser.add_argument('--clips', type=int, default=16, help='clips in the batch')
    parser.add_argument('--seconds', type=float, default=6., help='length of a clip')
    parser.add_argument('--repeats', type=int, default=7, help='steps a row')
    parser.add_argument('--json', help='also write the rows here')
    args = parser.parse_args()
    wave = torch.tensor(np.stack([w for w, _ in synthesise(args.clips, args.seconds, jobs=1)]))
    print(f'CPU time of a training step in multiples of `equal`: {args.encoder}, 10 workers, {args.clips} clips of {args.seconds:g} s, 1 thread')
    rows, seconds, parameters = measure(wave, args.encoder, args.repeats)
    print(f'a step under `equal` takes {seconds:.2f} CPU-seconds; the encoder has {parameters:,} parameters')
    if args.json:
        command = 'python benchmarks/weighting.py --json nbs/weighting_cost.json'
        with open(args.json, 'w') as file: json.dump(dict(command=command, encoder=args.encoder, clips=args.clips, length=args.seconds, step=round(seconds, 3), parameters=parameters, versions=versions(), rows=rows), file, indent=1)
