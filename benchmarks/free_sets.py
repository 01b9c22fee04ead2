"""What hand-crafted features, untrained encoders and models score on the three free sets of real recordings.

    python benchmarks/free_sets.py --csv nbs/free_sets.csv    # fetches the sets that are not in the data folder (2.4 GB) and takes a quarter of an hour of one core
    python benchmarks/free_sets.py --csv nbs/real_music.csv --model "pre-trained=runs/free_music"    # with rows for models

With models, the differences of the last of them to every other row, paired by clip, go into a file of the same name with
`_differences`. Drums and notes are judged on all five folds together, so every kit and every instrument is unseen once; soundtracks on its test pieces.
Intervals are over groups: instruments of a kit, instruments, pieces; drums a second time over whole kits. Untrained encoders are
calibrated on the fold's own training clips, three seeds.
"""
import argparse, warnings
from pathlib import Path

import mtssl.encoding  # noqa: F401, whose rooms register theirs
import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from mtssl.core.downloads import fetchables
from mtssl.embedding.embedding import embed_waves
from mtssl.encoding.encoder import Encoder, encoders
from mtssl.probing.baselines import handcrafted, random_row, row_titles, untrained
from mtssl.probing.folds import join_folds
from mtssl.probing.labelled import LeftOut, data_folder, datasets
from mtssl.probing.probes import paired_difference, probe_all, scores_table

warnings.simplefilter('ignore', LeftOut)
torch.set_num_threads(1)
seeds = 3


def shared(function, items, jobs):
    "What a function gives of each item, in several processes"
    def alone(item):
        torch.set_num_threads(1)
        return function(item)
    return Parallel(jobs)(delayed(alone)(item) for item in items)


def describe(dataset, encoder, models, jobs):
    "Of all clips, name -> [n, D]: hand-crafted features and models'; and those of an untrained encoder per seed, calibrated on the training clips"
    config = encoders.make(encoder).config
    training = [w[:6 * 22050].copy() for w in dataset.waves(22050, dataset.rows('train')[:96])]
    twins = [untrained(config, training, seed=seed) for seed in range(seeds)]
    def of(rows):
        hand = handcrafted(dataset.waves(22050, rows))
        hand |= {name: np.stack(list(embed_waves(model, dataset.waves(22050, rows)))) for name, model in models.items()}
        return hand, [np.stack(v) for v in zip(*embed_waves(twins, dataset.waves(22050, rows)))]
    parts = shared(of, np.array_split(np.arange(len(dataset)), jobs), jobs)
    return {k: np.concatenate([hand[k] for hand, _ in parts]) for k in parts[0][0]}, [np.concatenate(v) for v in zip(*(v for _, v in parts))]


def judge_fold(dataset, encoder, models, jobs=1):
    "Results of all rows on one fold"
    hand, random = describe(dataset, encoder, models, jobs)
    rows = {'chance': None} | {title: hand[key] for key, title in row_titles.items()} | {random_row(seeds): random} | {name: hand[name] for name in models}
    return probe_all(rows, dataset)


def judge(name, encoder, models, jobs):
    "Name, groups, results on all folds, and the set; drums by another grouping, too"
    root = data_folder()/name
    if not (root/'labels.csv').exists(): fetchables[name].get(root)
    read = datasets[name]
    if name == 'soundtracks': results = judge_fold(first := read(root), encoder, models, jobs)
    else:
        first = read(root)
        results = join_folds(sum(shared(lambda fold: judge_fold(read(root, fold=fold), encoder, models), range(5), jobs), []))
    yield name, dict(hydrogen_drums='an instrument of a kit', freepats='an instrument', soundtracks='a piece')[name], results, first
    if name == 'hydrogen_drums':
        kits = dict(zip(first.table['path'], first.table['kit']))
        for r in results: r.predictions['group'] = r.predictions['clip'].map(kits)
        yield name, 'a kit', results, first


def compare(results, name, grouping, model):
    "The differences of a model to every other row, per task, on the same clips"
    of = lambda row, task: [r for r in results if (r.features, r.task) == (row, task)]
    rivals = [row for row in dict.fromkeys(r.features for r in results) if row != model]
    return [dict(set=name, task=task, by=grouping, model=model, rival=row, difference=d.value, low=d.low, high=d.high)
            for task in dict.fromkeys(r.task for r in results) for row in rivals
            for d in [paired_difference(of(model, task), of(row, task))]]


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--csv', type=Path, help='file to write')
    parser.add_argument('--encoder', default='tcn', help='architecture of the untrained rows')
    parser.add_argument('--sets', nargs='+', default=['hydrogen_drums', 'freepats', 'soundtracks'])
    parser.add_argument('--jobs', type=int, default=1, help='processes')
    parser.add_argument('--model', action='append', default=[], metavar='NAME=FOLDER', help='a row for a run or saved model; may be given several times')
    args = parser.parse_args()
    models = {name: Encoder.from_pretrained(folder) for name, folder in (text.split('=', 1) for text in args.model)}
    tables, differences = [], []
    for name in args.sets:
        for set_name, grouping, results, _ in judge(name, args.encoder, models, args.jobs):
            differences += compare(results, set_name, grouping, [*models][-1]) if models else []
            groups = {r.task: set() for r in results}
            for r in results: groups[r.task] |= set(r.predictions['group'])
            table = scores_table(results)
            table = table[table['task'] != 'mean'].assign(set=set_name, by=grouping)
            table['groups'] = table['task'].map({task: len(g) for task, g in groups.items()})
            table['half'] = (table['high'] - table['low']) / 2
            tables.append(table[['set', 'task', 'features', 'value', 'low', 'high', 'half', 'n', 'groups', 'by', 'dim']])
    whole = pd.concat(tables, ignore_index=True)
    print(whole.round(3).to_string())
    if args.csv:
        old = pd.read_csv(args.csv) if args.csv.exists() else whole[:0]
        whole = pd.concat([old[~old['set'].isin(args.sets)], whole]) if len(old) else whole
        whole.sort_values(['set', 'task', 'by'], kind='stable').round(4).to_csv(args.csv, index=False)
    if args.csv and differences:
        pd.DataFrame(differences).round(4).to_csv(args.csv.with_stem(f'{args.csv.stem}_differences'), index=False)
