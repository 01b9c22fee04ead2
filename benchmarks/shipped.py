"""Judge the models of the package on public tasks, beside what they must beat.

    mtssl study answer --root DATA --out runs/answer    # decodes the sets; its cells are not needed, Ctrl-C ends it
    python benchmarks/shipped.py runs/answer --csv nbs/shipped.csv
    python benchmarks/shipped.py runs/answer --curve runs/base runs/long runs/seed_0 runs/seed_1 runs/seed_2 --csv nbs/shipped_curve.csv

Rows: chance, hand-crafted features, each model, and its architecture random-initialised three times, calibrated on the study's
music; so is `tcn`, whose random weights are better than those of the models' own architecture. Tasks: those of the study's sets; sets
with folds are judged on all clips, each by a probe that did not hear its group. Two amounts of labels: all, and 10 per class, drawn
three times. The paired differences of each model to every other row go into a file of the same name with `_differences`, with intervals
over groups and seeds. `--curve` judges the encoders that runs kept after their epochs, on the clips that are not for tests, in five
folds by group.
"""
import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from mtssl.core.shipped import shipped_models
from mtssl.encoding.encoder import Encoder, encoders
from mtssl.probing.baselines import embed_set, handcrafted, row_titles, untrained
from mtssl.probing.folds import probe_folds
from mtssl.probing.probe_models import group_folds
from mtssl.probing.probes import mean_score
from mtssl.studies.comparison import Comparison
from mtssl.studies.jobs import open_music, open_sets, probe_cell
from mtssl.studies.plan import read_study

torch.set_num_threads(1)
amounts = ['10 per class', 1.]


def alone(function, *args):
    torch.set_num_threads(1)
    return function(*args)


def calibrated(config, seed, study, corpus):
    "The architecture that a config describes, random-initialised"
    waves = [corpus[i][:round(study.settings.seconds * corpus.sr)].copy() for i in range(min(256, len(corpus)))]
    return untrained(config, waves, seed=seed)


def probed(study, sets, features, title, kind, seeds):
    "Lines and draws of one row, with few labels and with all; draws of few labels are seeds, and features that do not vary get all labels once"
    amounts_of = lambda seed: amounts if seed == 0 or kind == 'random' else amounts[:1]
    return [probe_cell(replace(study, amounts=amounts_of(seed)), dict(features=title, kind=kind, seed=seed), features, sets)[:2] for seed in seeds]


def judge_hand(study, folder):
    "Rows of hand-crafted features"
    sets = open_sets(folder)
    every = {n: handcrafted(s.waves(), sr=s.load.sr, bs=8) for n, s in sets.items()}
    rows = [probed(study, sets, {n: x[key] for n, x in every.items()}, title, 'baseline', range(3)) for key, title in row_titles.items()]
    chance = probe_cell(replace(study, amounts=[1.]), dict(features='chance', kind='baseline', seed=0), dict.fromkeys(sets), sets)[:2]
    return [chance, *(line for row in rows for line in row)]


def judge_model(name, seed, study, folder):
    "The row of a model of the package (seed: None), or of its architecture or an encoder's, random-initialised"
    sets = open_sets(folder)
    encoder = encoders.make(name) if name in encoders else Encoder.from_pretrained(name, device='cpu')
    if seed is not None: encoder = calibrated(encoder.config, seed, study, open_music(study, folder))
    features = {n: embed_set(encoder, s, bs=8, quiet=True) for n, s in sets.items()}
    if seed is None: return probed(study, sets, features, name, 'pre-trained', range(3))
    return probed(study, sets, features, f'{name}, random-initialised', 'random', [seed])


def table_of(judged):
    "A `Comparison` of all rows; few labels are rows of their own"
    lines, draws = pd.concat([l for l, _ in judged], ignore_index=True), np.concatenate([d for _, d in judged])
    few = lines['amount'] != 'all'
    lines['features'] = lines['features'].where(~few, lines['features'] + ', ' + lines['amount'])
    lines['kind'] = lines['kind'].where(~few, 'few labels') # whose draws are seeds, too
    return Comparison(lines, draws, dict(real=set(lines.loc[lines['set'] != 'synth', 'task'])))


def judge_models(names, study, folder, jobs):
    "Lines and draws of all rows"
    work = [(judge_hand, study, folder), *((judge_model, name, None, study, folder) for name in names),
            *((judge_model, name, seed, study, folder) for name in (*names, 'tcn') for seed in range(3))]
    return [row for rows in Parallel(jobs)(delayed(alone)(*w) for w in work) for row in rows]


def tables(judged, names):
    "Summary of all rows, and the models' differences from the others"
    compared = table_of(judged)
    same = lambda a, b: a.endswith(amounts[0]) == b.endswith(amounts[0]) or b in row_titles.values()
    rivals = {m: [f for f in compared.rows if same(m, f)] for m in compared.rows if m.removesuffix(f', {amounts[0]}') in names}
    summary, differences = compared.summary(), compared.differences_table(rivals)
    few = summary['features'].str.endswith(amounts[0])
    summary = summary.assign(probe='linear', amount=np.where(few, amounts[0], 'all'), features=summary['features'].str.removesuffix(f', {amounts[0]}'))
    shown = ['task', 'metric', 'value', 'low', 'high']
    return summary[['features', 'kind', 'seeds', 'probe', 'amount', *shown]].round(4), differences[['features', 'than', 'task', *shown[2:], 'p']].round(4)


def curve(run, folder, jobs):
    "Score on every task of the encoders that a run kept, on clips that are not for tests"
    steps = pd.read_csv(run/'history.csv').set_index('epoch')['step']
    kept = {int(steps[int(p.stem[-4:])]): p for p in sorted((run/'checkpoints').glob('epoch_*.safetensors'))}
    def of_set(name):
        models = {step: Encoder.from_pretrained(run, f'checkpoints/{p.name}', device='cpu') for step, p in kept.items()}
        dataset = open_sets(folder)[name]
        return [dict(step=step, **row) for step, X in embed_set(models, dataset, bs=8, quiet=True).items() for row in validated(X, name, dataset)]
    rows = [row for rows in Parallel(jobs)(delayed(alone)(of_set, name) for name in open_sets(folder)) for row in rows]
    return pd.DataFrame(rows).sort_values(['step', 'task']).round(4).assign(run=run.name)


def validated(vectors, name, dataset):
    "Scores on a set's clips that are not for tests, in five folds by group"
    rows = np.flatnonzero((dataset.table['split'] != 'test').to_numpy())
    table = dataset.table.iloc[rows].reset_index(drop=True)
    for task in dataset.tasks.values():
        table['fold'] = 0
        for k, (_, judged) in enumerate(group_folds(table[task.column].astype(str).to_numpy(), table['group'].to_numpy(object), 5)): table.loc[judged, 'fold'] = k
        score = mean_score(probe_folds({'encoder': vectors[rows]}, table, [task])[0])
        yield dict(task=f'{name}: {task.name}', value=score.value, low=score.low, high=score.high)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('study', type=Path, help='folder of the study `answer`')
    parser.add_argument('--models', nargs='*', default=list(shipped_models()), help='of the package; by default all')
    parser.add_argument('--curve', type=Path, nargs='*', help='runs that kept their encoders')
    parser.add_argument('--csv', type=Path, required=True)
    parser.add_argument('--jobs', type=int, default=2)
    args = parser.parse_args()
    study = replace(read_study('answer', '.'), amounts=amounts)
    if args.curve: pd.concat([curve(run, args.study, args.jobs) for run in args.curve]).to_csv(args.csv, index=False)
    else:
        summary, differences = tables(judge_models(args.models, study, args.study, args.jobs), args.models)
        summary.to_csv(args.csv, index=False)
        differences.to_csv(args.csv.with_name(f'{args.csv.stem}_differences.csv'), index=False)
