"""What each worker alone teaches a small encoder: its score on music that was not trained on, and the CPU time of a step.

    python benchmarks/workers.py --json nbs/workers_cost.json        # also writes the section "worker" of mtssl/measured.json

Every worker is trained together with a fresh encoder on crops of synthesised music, and asked about other clips. The score is R² (for a choice, how far above a guess),
0 for a worker that knows nothing. One thread, one seed.
"""
import os
for name in 'OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS': os.environ.setdefault(name, '1')

import argparse, json, time, warnings
from itertools import islice
import numpy as np
import torch
from mtssl.core.arrays import seeded
from mtssl.encoding.encoder import encoders
from mtssl.core.files import versions
from mtssl.features.statistics import fit_statistics
from mtssl.music.synth.mix import synthesise
from mtssl.features.targets import targets
from mtssl.pretraining.views import make_batch
from mtssl.pretraining.workers import make_worker, worker_sets, workers

from measured import add_option, record

warnings.filterwarnings('ignore')
torch.set_num_threads(1)


def specs():
    "Every worker there is: all targets frame by frame and by clip, the decoder, the relational ones, and some hidden and wider questions"
    names = [n for n in targets if n not in ('waveform', 'clip')]
    known = [*names, *(f'clip({n})' for n in names), 'waveform', *worker_sets['relational'],
             *(f'frame({n}, masked=.4)' for n in ('logmel', 'mfcc', 'chroma_cqt', 'onset')), 'frame(mfcc, context=7)']
    return [*known, *(n for n in workers if n not in (*known, 'frame', 'clip'))]


def scores(rows):
    "Name to what tables show of a worker: its score alone, and that of the clip-level worker of the same target (None where there is none)"
    score = {row['worker']: round(row['score'], 2) for row in rows}
    asked = specs()
    def facts(name, clip): return dict(alone=score[name]) | ({} if clip in asked and clip not in score else dict(clip=score.get(clip)))
    return {name: facts(name, f'clip({name})') for name in score if '(' not in name}


def learn(spec, music, held_out, steps, bs, encoder):
    "Parameters and values of a worker's head, its score on `held_out`, and CPU seconds of its median step"
    torch.manual_seed(0)
    encoder = encoders.make(encoder)
    worker, clips = make_worker(spec, encoder), len(music) - held_out
    statistics = fit_statistics(music[:clips].split(bs), worker.targets, encoder.sr, encoder.hop) if worker.targets else None
    opt, times = torch.optim.AdamW([*encoder.parameters(), *worker.parameters()], lr=3e-3), []
    schedule = torch.optim.lr_scheduler.OneCycleLR(opt, 3e-3, steps, pct_start=.1)
    for _ in range(steps):
        start = time.process_time()
        batch = make_batch(encoder, worker.view, encoder.analyse(music[torch.randperm(clips)[:bs]]), statistics)
        opt.zero_grad()
        worker.loss(batch.z, batch).backward()
        opt.step()
        schedule.step()
        times.append(time.process_time() - start)
    encoder.eval(), worker.eval()
    scores = []
    with torch.no_grad():
        for part in music[clips:].split(32):
            batch = make_batch(encoder, worker.view, encoder.analyse(part), statistics, seeded(0))
            worker.loss(batch.z, batch)
            scores.append(worker.score.item())
    return dict(worker=spec, score=round(float(np.mean(scores)), 3), step=round(float(np.median(times)), 4))


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('workers', nargs='*', help='names of workers; all if none are given')
    parser.add_argument('--clips', type=int, default=800, help='clips to learn from')
    parser.add_argument('--held-out', type=int, default=96, help='clips to be asked about')
    parser.add_argument('--seconds', type=float, default=4., help='length of a clip, s')
    parser.add_argument('--steps', type=int, default=200)
    parser.add_argument('--bs', type=int, default=16, help='clips a batch')
    parser.add_argument('--encoder', default='tcn(width=64, blocks=4)')
    parser.add_argument('--json', help='write the rows here')
    add_option(parser)
    args = parser.parse_args()
    n = args.clips + args.held_out
    music = torch.tensor(np.stack([w for w, _ in islice(synthesise(n, args.seconds, seed=9, jobs=1), n)]))
    rows = []
    for spec in args.workers or specs():
        rows.append(learn(spec, music, args.held_out, args.steps, args.bs, args.encoder))
        print('{worker:32} score {score:6.3f}   step {step:.4f} CPU s'.format(**rows[-1]), flush=True)
    settings = {k: v for k, v in vars(args).items() if k not in ('json', 'workers', 'measured')}
    if args.json:
        with open(args.json, 'w') as f: json.dump(dict(command=f'python benchmarks/workers.py --json {args.json}', **settings, versions=versions(), rows=rows), f)
        record('worker', scores(rows), args.measured)
