"""Which single change to the recipe of the package's models makes a better encoder? On clips that are not for tests.

    mtssl study answer --root DATA --out runs/answer    # mixes the music and decodes the sets; its cells are not needed, Ctrl-C ends it
    python benchmarks/recipe.py runs/answer --out runs/recipe --csv nbs/recipe.csv

One thing at a time is moved from the study's own settings (tcn:small, workers `music`, equal weights, 1,000 steps), with the number of
epochs that makes the CPU time about equal. Every run is judged on the clips of all sets that are not for tests, by a linear probe in five
folds by group. Runs are kept in `--out`, and go on where they were stopped.
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


@encoders.register('tcn2d')
class TCN2d(TCN):
    "A TCN whose stem begins with two 2-D convolutions over log-mel, and two over log-CQT"
    def __init__(self, sr: int = 22_050, width: int = 128, blocks: int = 6, front_hop: int = 512):
        super().__init__(sr, width, blocks, front_hop)
        channels = 16
        def picture():
            return nn.Sequential(nn.Conv2d(1, channels, 5, (2, 1), 2), nn.BatchNorm2d(channels), nn.GELU(),
                                 nn.Conv2d(channels, channels, 3, (2, 1), 1), nn.BatchNorm2d(channels), nn.GELU())
        self.mel, self.cqt = picture(), picture()
        self.stem = nn.Conv1d(channels * (32 + 21), width, 3, stride=2, padding=1)

    def frames(self, wave, analysis=None):
        mel, cqt = self.front_norm(self.front(wave, analysis))[:, None].split([128, 84], 2)
        outs = [self.stem(torch.cat([self.mel(mel).flatten(1, 2), self.cqt(cqt).flatten(1, 2)], 1))]
        for block in self.blocks: outs.append(block(outs[-1]))
        return outs


music = worker_sets['music']
def masked(share): return ','.join(w[:-1] + f', masked={share})' if w.startswith('clip(') else f'frame({w}, masked={share})' for w in music)

changes = { # name -> settings that differ
    'as it is': {},
    'without mfcc': dict(workers=','.join(w for w in music if 'mfcc' not in w), epochs=10),
    'half of the frames hidden': dict(workers=masked(.5), epochs=7),
    'a teacher of its own (ema)': dict(workers='music,ema', epochs=6),
    'contrast of two crops of a track': dict(workers="music,ntxent(view='crops')", epochs=5),
    'contrast of two crops, distorted': dict(workers="music,ntxent(view='crops')", distortions='pase_plus', epochs=4),
    'light distortions': dict(distortions='light', epochs=7),
    '2-D stem': dict(encoder='tcn2d', epochs=5),
    'twice as wide': dict(encoder='tcn', epochs=6),
}


def judge(name, seed, folder, out):
    "Rows of one change and seed"
    study, run = read_study('answer', '.'), out/f'{name}, seed {seed}'
    kept = run/'validated.csv'
    if kept.exists(): return pd.read_csv(kept)
    shared = dict(quiet=True, device='cpu', cbs=[CostCallback(run)])
    if (run/'checkpoints'/'last.pt').exists(): resume(run, **shared)
    else: pretrain(open_music(study, folder), run, **shared, **study.pretrain | dict(encoder='tcn:small', workers='music', seed=seed) | changes[name])
    encoder = Encoder.from_pretrained(run, device='cpu')
    cost = dict(change=name, seed=seed, steps=int(pd.read_csv(run/'history.csv')['step'].iloc[-1]), cpu_seconds=round(run_cost(run)['cpu_seconds']))
    rows = [cost | row for n, s in open_sets(folder).items() for row in validated(embed_set(encoder, s, bs=8, quiet=True), n, s)]
    pd.DataFrame(rows).to_csv(kept, index=False)
    return pd.DataFrame(rows)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('study', type=Path, help='folder of the study `answer`')
    parser.add_argument('--out', type=Path, required=True, help='folder for the runs')
    parser.add_argument('--changes', nargs='*', default=list(changes), help='some of: ' + '; '.join(changes))
    parser.add_argument('--seeds', type=int, nargs='*', default=[0, 1])
    parser.add_argument('--csv', type=Path, required=True)
    parser.add_argument('--jobs', type=int, default=2)
    args = parser.parse_args()
    tables = Parallel(args.jobs)(delayed(alone)(judge, name, seed, args.study, args.out) for seed in args.seeds for name in args.changes)
    pd.concat(tables).round(4).to_csv(args.csv, index=False)
