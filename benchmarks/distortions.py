"""What the distortions cost: CPU time a minute of audio, at one thread.

    python benchmarks/distortions.py
    python benchmarks/distortions.py --json nbs/distortions_cost.json

Each distortion is made with p=1 and default ranges, and works on a batch of noise; sets are as they are. Rounds of all are interleaved. Of a
distortion's times the least is given, because what others do on the machine can only add; of a set's the mean, because it picks other clips each time.
"""
import os
for name in 'OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS': os.environ.setdefault(name, '1')

import argparse, json, time
import torch
from mtssl.pretraining.distortions import distortion_sets, distortions, make_distortions
from mtssl.core.arrays import seeded
from mtssl.core.files import versions

torch.set_num_threads(1)


def seconds_of(made, wave, draw):
    "CPU seconds of one batch"
    start = time.process_time()
    made(wave, draw)
    return time.process_time() - start


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--clips', type=int, default=16, help='clips in the batch')
    parser.add_argument('--seconds', type=float, default=6., help='length of a clip')
    parser.add_argument('--sr', type=int, default=22_050, help='sample rate, Hz')
    parser.add_argument('--repeats', type=int, default=15, help='batches of each')
    parser.add_argument('--json', help='also write the figures here')
    args = parser.parse_args()
    wave = torch.randn(args.clips, int(args.sr * args.seconds), generator=torch.Generator().manual_seed(0)) / 10
    minutes = args.clips * args.seconds / 60
    made = {name: make_distortions(f'{name}(p=1)', args.sr) for name in distortions} | {name: make_distortions(name, args.sr) for name in distortion_sets}
    draws = {name: seeded(0) for name in made}
    for name, d in made.items(): d(wave, draws[name])
    times = {name: [] for name in made}
    for _ in range(args.repeats):
        for name, d in made.items(): times[name].append(seconds_of(d, wave, draws[name]) * 1000 / minutes)
    rows = [dict(name=name if name in distortions else f'set {name}', ms=round(min(t) if name in distortions else sum(t) / len(t), 2)) for name, t in times.items()]
    print(f'CPU ms a minute of audio, batches of {args.clips} clips of {args.seconds:g} s at {args.sr} Hz, 1 thread')
    for row in rows: print(f"{row['name']:16}{row['ms']:8.2f}")
    if args.json:
        with open(args.json, 'w') as file:
            json.dump(dict(command=f'python benchmarks/distortions.py --json {args.json}', clips=args.clips, length=args.seconds, sr=args.sr, repeats=args.repeats, versions=versions(), measured=list(made), rows=rows), file, indent=1)
