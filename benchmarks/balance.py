"""When does balancing matter? Pre-training under several weightings and seeds, probed on synthesised music.

    python benchmarks/balance.py --out runs/balance            # about an hour on one core; continues where it was stopped
    python benchmarks/balance.py --out runs/balance --json nbs/balance.json

One encoder, five frame-level workers, of which the tempogram is learned slowly. Every weighting starts from the same
weights and sees the same crops, three times. `tempogram alone` is the tempogram worker without the others: what the
encoder could learn about tempo if nothing else were asked of it.
"""
import os
for name in 'OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS': os.environ.setdefault(name, '1')

import argparse, json
from dataclasses import asdict
from itertools import product
from pathlib import Path
import numpy as np
import pandas as pd
import torch
from rich.progress import track
from mtssl.music.corpus import Corpus, build_corpus
from mtssl.probing.datasets import synth
from mtssl.encoding.encoder import Encoder
from mtssl.encoding.encoder import encoders
from mtssl.pretraining.run_report import last_cosines
from mtssl.pretraining.runs import pretrain, resume
from mtssl.pretraining.settings import Settings
from mtssl.core.files import versions
from mtssl.probing.baselines import embed_set, handcrafted, random_row, row_titles, untrained
from mtssl.probing.probes import paired_difference, probe_all, scores_table
from mtssl.probing.stored_sets import StoredClips, with_names
from mtssl.studies.study import records
from mtssl.music.synth.mix import synthesise

weightings = ['equal', 'uncertainty', 'gls', 'log_sum', 'dwa', 'rlw', 'gradnorm', 'pcgrad', 'hypervolume']
workers = ['logmel', 'mfcc', 'chroma_cqt', 'spectral_contrast', 'tempogram(rate=40)']
alone = 'tempogram alone'


def data(out, args):
    "The unlabelled corpus and the labelled clips, made once"
    if not (out/'corpus'/'manifest.parquet').exists():
        build_corpus(with_names(w for w, _ in track(synthesise(args.clips, 6., seed=0, jobs=1), 'synthesise', args.clips)), out/'corpus', quiet=True)
    labelled = synth(args.train, args.test, 6., jobs=1, quiet=True)
    if not (out/'labelled'/'manifest.parquet').exists(): build_corpus(with_names(labelled.waves()), out/'labelled', quiet=True)
    labelled.load = StoredClips(Corpus(out/'labelled'))
    return Corpus(out/'corpus'), labelled


def train(out, corpus, args):
    "Every weighting and seed, each in its own run folder; finished ones are left as they are"
    for seed, name in product(range(args.seeds), [*args.weightings, alone]):
        folder = out/'runs'/f'{name}, seed {seed}'
        if (folder/'report.html').exists(): continue
        print(folder.name, flush=True)
        if (folder/'checkpoints'/'last.pt').exists(): resume(folder, device='cpu', quiet=True)
        else: pretrain(corpus, folder, device='cpu', quiet=True, **asdict(settings(name, seed, args)))


def settings(name, seed, args):
    "Of one pre-training"
    asked, weighting = (workers[-1], 'equal') if name == alone else (','.join(workers), name)
    return Settings(encoder=args.encoder, workers=asked, weighting=weighting, epochs=args.epochs, crops_per_epoch=args.crops_per_epoch, seed=seed)


def features(out, corpus, labelled, args):
    "Row of the table -> features of every labelled clip, one matrix a seed"
    clips = [corpus[i] for i in range(min(256, len(corpus)))]
    config = encoders.make(args.encoder, sr=corpus.sr).config
    models = {(random_row(args.seeds), s): untrained(config, clips, seed=s) for s in range(args.seeds)}
    models |= {(n, s): Encoder.from_pretrained(out/'runs'/f'{n}, seed {s}') for n, s in product([*args.weightings, alone], range(args.seeds))}
    embedded, hand = embed_set(models, labelled, bs=8), handcrafted(labelled.waves(), sr=corpus.sr, bs=8)
    rows = {'chance': None} | {label: hand[key] for key, label in row_titles.items()}
    return rows | {n: [embedded[n, s] for s in range(args.seeds)] for n in dict.fromkeys(n for n, _ in models)}


def seeds_table(results):
    "Mean and standard deviation over seeds of every row's accuracy, by task and for the mean over tasks"
    rows = pd.DataFrame([dict(features=r.features, task=r.task, repetition=r.repetition, value=r.score.value) for r in results])
    mean = rows.groupby(['features', 'repetition'], sort=False).value.mean().reset_index().assign(task='mean')
    return pd.concat([rows, mean]).groupby(['features', 'task'], sort=False).value.agg(['mean', 'std']).reset_index()


def curves(out, args):
    "Every worker's loss, R², weight, share and norm by epoch, for every weighting and seed"
    found = []
    for name, seed in product([*args.weightings, alone], range(args.seeds)):
        history = pd.read_csv(out/'runs'/f'{name}, seed {seed}'/'history.csv')
        for w in workers if name != alone else workers[-1:]:
            kinds = {k: history[f'{w}.{k}'].round(4).tolist() for k in ('loss', 'r2', 'weight', 'share', 'norm')}
            found.append(dict(weighting=name, seed=seed, worker=w, step=history.step.tolist(), **kinds))
    return found


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--out', type=Path, required=True, help='folder for data and runs')
    parser.add_argument('--json', type=Path, help='where the result goes; OUT/balance.json by default')
    parser.add_argument('--weightings', type=lambda s: s.split(','), default=weightings, help='names with commas between them')
    parser.add_argument('--encoder', default='tcn(width=128)')
    for name, value in dict(clips=2000, train=300, test=800, seeds=3, epochs=6, crops_per_epoch=1280).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    args = parser.parse_args()
    torch.set_num_threads(1)
    corpus, labelled = data(args.out, args)
    train(args.out, corpus, args)
    rows = features(args.out, corpus, labelled, args)
    results = [r for name, x in track(rows.items(), 'probe') for r in probe_all({name: x}, labelled, quiet=True)]
    of = {name: [r for r in results if r.features == name] for name in rows}
    differences = [dict(features=n, **{k: round(getattr(paired_difference(of[n], of['equal']), k), 5) for k in ('value', 'low', 'high')}) for n in [*args.weightings[1:], alone]]
    plan = {k: v for k, v in vars(args).items() if k not in ('out', 'json')} | dict(workers=workers, bs=16, seconds=6.)
    cosines = [last_cosines(args.out/'runs'/f'equal, seed {s}', workers).values for s in range(args.seeds)]
    report = dict(command='python benchmarks/balance.py --out runs/balance', plan=plan, versions=versions(), scores=records(scores_table(results)),
                  seeds=records(seeds_table(results)), differences=differences, curves=curves(args.out, args), cosines=np.mean(cosines, 0).round(3).tolist())
    path = args.json or args.out/'balance.json'
    path.write_text(json.dumps(report, indent=None, separators=(',', ':')) + '\n')
    print(scores_table(results).pivot(index='features', columns='task', values='value').round(3))
