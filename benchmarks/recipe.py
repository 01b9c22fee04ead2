"""Which single change to the recipe of the package's models makes a better encoder? On clips that are not for tests.

    mtssl study answer --root DATA --out runs/answer
    python benchmarks/recipe.py runs/answer --out runs/recipe --csv nbs/recipe.csv

One thing at a time is moved from the study's own settings (tcn:small, workers `music`, equal weights, 1,000 steps), with the number of
epochs that makes the CPU time about equal; some changes are rows of the study itself. Every run is judged on the clips of all sets that
are not for tests, by a linear probe in five folds by group. Runs are kept in `--out`, and go on where they were stopped.
"""
import argparse
from pathlib import Path

import pandas as pd
import torch
import torch.nn as nn
from joblib import Parallel, delayed
from mtssl.encoding.convolutional import TCN
from mtssl.encoding.encoder import Encoder, encoders
from mtssl.pretraining.runs import pretrain, resume
from mtssl.pretraining.workers import worker_sets
from mtssl.probing.baselines import embed_set
from mtssl.studies.jobs import CostCallback, open_music, open_sets, run_cost
from mtssl.studies.plan import read_study
from shipped import alone, validated


def picture(*channels):
    "2-D convolutions, each with half as many bands as the one before; the first also halves the frames"
    layer = lambda i, a, b: [nn.Conv2d(a, b, (5, 3), (2, 1 if i else 2), (2, 1)), nn.BatchNorm2d(b), nn.GELU()]
    return nn.Sequential(*(part for i, (a, b) in enumerate(zip((1, *channels), channels)) for part in layer(i, a, b)))


@encoders.register('tcn2d')
class TCN2d(TCN):
    "A TCN whose stem reads 2-D convolutions of log-mel and of log-CQT, band by band"
    sizes = dict(small=dict(width=128))
    def __init__(self, sr: int = 22_050, width: int = 128, blocks: int = 6, front_hop: int = 512):
        super().__init__(sr, width, blocks, front_hop)
        self.mel, self.cqt = picture(16, 16), picture(16, 16)
        self.stem = nn.Conv1d(16 * (32 + 21), width, 3, padding=1)

    def first(self, front):
        mel, cqt = front[:, None].split([128, 84], 2)
        return self.stem(torch.cat([self.mel(mel).flatten(1, 2), self.cqt(cqt).flatten(1, 2)], 1))

    def frames(self, wave, analysis=None):
        outs = [self.first(self.front_norm(self.front(wave, analysis)))]
        for block in self.blocks: outs.append(block(outs[-1]))
        return outs


@encoders.register('tcn_beside_2d')
class TCNBeside2d(TCN2d):
    "A TCN to whose stem the mean and the maximum over the bands of 2-D convolutions of log-mel are added"
    def __init__(self, sr: int = 22_050, width: int = 128, blocks: int = 6, front_hop: int = 512):
        TCN.__init__(self, sr, width, blocks, front_hop)
        self.mel = picture(16, 32, 64)
        self.side = nn.Conv1d(2 * 64, width, 1)

    def first(self, front):
        maps = self.mel(front[:, None, :128])
        return self.stem(front) + self.side(torch.cat([maps.mean(2), maps.amax(2)], 1))


music = worker_sets['music']
def masked(share): return ','.join(w[:-1] + f', masked={share})' if w.startswith('clip(') else f'frame({w}, masked={share})' for w in music)

of_study = { # changes that the study has made: rows of it
    'as it is': 'tcn, music, equal',
    'without mfcc': 'tcn, music without mfcc, equal',
    'questions about pairs beside (relational)': 'tcn, relational, equal',
    'gradnorm': 'tcn, music, gradnorm',
}
changes = { # settings that differ
    '2-D stem': dict(encoder='tcn2d', epochs=7),
    '2-D convolutions beside': dict(encoder='tcn_beside_2d', epochs=6),
    'half of the frames hidden': dict(workers=masked(.5), epochs=7),
    'contrast of two crops of a track': dict(workers="music,ntxent(view='crops')", epochs=5),
    'a teacher of its own (ema)': dict(workers='music,ema', epochs=6),
    'twice as wide': dict(encoder='tcn', epochs=6),
    'light distortions': dict(distortions='light', epochs=7),
    'contrast of two crops, distorted': dict(workers="music,ntxent(view='crops')", distortions='pase_plus', epochs=4),
}


def pretrained(name, seed, study, folder, out):
    "The run of a change and a seed, made or continued if need be"
    if name in of_study: return folder/'cells'/f'{of_study[name]}, seed {seed}'
    run = out/f'{name}, seed {seed}'
    shared = dict(quiet=True, device='cpu', cbs=[CostCallback(run)])
    if (run/'checkpoints'/'last.pt').exists(): resume(run, **shared)
    else: pretrain(open_music(study, folder), run, **shared, **study.pretrain | dict(encoder='tcn:small', workers='music', seed=seed) | changes[name])
    return run


def judge(name, seed, folder, out):
    "Rows of one change and seed"
    kept = out/f'{name}, seed {seed}.csv'
    if kept.exists(): return pd.read_csv(kept)
    run = pretrained(name, seed, read_study('answer', '.'), folder, out)
    encoder = Encoder.from_pretrained(run, device='cpu')
    cost = dict(change=name, seed=seed, steps=int(pd.read_csv(run/'history.csv')['step'].iloc[-1]), cpu_seconds=round(run_cost(run)['cpu_seconds']))
    rows = [cost | row for n, s in open_sets(folder).items() for row in validated(embed_set(encoder, s, bs=8, quiet=True), n, s)]
    pd.DataFrame(rows).to_csv(kept, index=False)
    return pd.DataFrame(rows)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('study', type=Path, help='folder of the study `answer`')
    parser.add_argument('--out', type=Path, required=True, help='folder for the runs')
    parser.add_argument('--changes', nargs='*', default=[*of_study, *changes], help='some of: ' + '; '.join([*of_study, *changes]))
    parser.add_argument('--seeds', type=int, nargs='*', default=[0, 1])
    parser.add_argument('--csv', type=Path, required=True)
    parser.add_argument('--jobs', type=int, default=2)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    tables = Parallel(args.jobs, backend='multiprocessing')(delayed(alone)(judge, name, seed, args.study, args.out) for seed in args.seeds for name in args.changes)
    pd.concat(tables).round(4).to_csv(args.csv, index=False)
