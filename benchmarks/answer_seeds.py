"""Add seeds to rows of the stored study `answer`, whose cells are no longer at hand.

    mtssl study answer --root DATA --out runs/answer          # or only the cells that are wanted, from a study file with fewer blocks
    python benchmarks/answer_seeds.py runs/answer             # changes nbs/answer.csv and nbs/answer.json

The stored tables hold every score, but not the draws of clips that intervals come from. So of every stored comparison that names a row with new
seeds, the value is computed anew from the scores of all seeds; the part of its interval that clips cause stays that of the first seed, and the
part that seeds cause falls with their number, by the variance between seeds that all rows together had. How often a row comes first when clips
and seeds are drawn anew (`best` of the ranking) cannot be told without the draws, and stays that of the first seed.
"""
import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from mtssl.studies.comparison import _satterthwaite
from scipy.stats import t as student

tables = dict(summary=lambda r: {r['features']: 1}, differences=lambda r: {r['features']: 1, r['than']: -1},
              points=lambda r: {r['features']: 1}, averages=lambda r: {name(r['workers'], r['weighting']): 1})
signs = dict(together=(1, 0, 0, -1), interaction=(1, -1, -1, 1))


def name(workers, weighting): return f'tcn, {workers}, {weighting}'


def weights_of(table, row, base):
    "A stored comparison as a weighted sum of rows"
    if table != 'effects': return tables[table](row)
    workers, weighting = base
    pairs = (row['workers'], row['weighting']), (row['workers'], weighting), (workers, row['weighting']), base
    return {name(*p): s for p, s in zip(pairs, signs[row['effect']]) if s}


class Scores:
    "The mean score and the number of seeds of every row, task and step"
    def __init__(self, lines, means):
        lines = lines.assign(step=lines['step'].fillna(0))
        every = [lines, *(lines[lines['set'].isin(own)].assign(task=f'mean of {n}') for n, own in means.items()), lines.assign(task='mean')]
        by = pd.concat(every).groupby(['features', 'step', 'task'])
        self.value, self.seeds = by['value'].mean().to_dict(), by['seed'].nunique().to_dict()
        self.last = lines.groupby('features')['step'].max().to_dict()
        self.groups = {task: int(g) for task, g in pd.concat(every).groupby('task')['groups'].min().items()}


def renewed(row, weights, scores, spread, before, free, step=None):
    "A stored comparison with all seeds; `before`: how many seeds its rows had"
    task, at = row['task'], {f: (f, scores.last[f] if step is None else step, row['task']) for f in weights}
    value = sum(a * scores.value[at[f]] for f, a in weights.items())
    if step is not None: spread = {task: row['seeds_sd']**2 * row['seeds']}
    fewer = sum(a**2 * spread[task] * (1 / before[f] - 1 / scores.seeds[at[f]]) for f, a in weights.items() if f in before)
    seeds = np.sqrt(max(0, row['seeds_sd']**2 - fewer))
    deviation = np.hypot(row['clips_sd'], seeds)
    degrees = _satterthwaite([row['clips_sd']**2, seeds**2], [scores.groups[task] - 1, free], deviation**2)
    reach, p = student.ppf(.975, degrees) * deviation, 2 * student.sf(abs(value) / deviation, degrees)
    found = dict(value=value, low=value - reach, high=value + reach, p=p, seeds_sd=seeds)
    return row | {k: round(float(v), 9 if k == 'p' else 6) for k, v in found.items()}


def merge(report, lines, new):
    "The report and the scores with the seeds of new lines"
    before = lines[lines['features'].isin(new['features'])].groupby('features')['seed'].nunique().to_dict()
    lines = pd.concat([lines, new[lines.columns]], ignore_index=True).drop_duplicates(['features', 'seed', 'task', 'step'], keep='first')
    scores, changed = Scores(lines, report['study']['means']), set(before)
    first = [r for r in report['summary'] if r['features'] == name(*(base := tuple(report['study']['baseline'][k] for k in ('workers', 'weighting'))))]
    spread = {r['task']: r['seeds_sd']**2 * r['seeds'] for r in first}
    trained = lines[lines['kind'] == 'pre-trained'].groupby('features')['seed'].nunique()
    free = int((trained - 1).sum())
    for table in (*tables, 'effects'):
        for i, row in enumerate(report[table]):
            if table == 'averages' and row['encoders'] > 1 or row.get('step') == 0 and table == 'points': continue
            if table == 'effects' and row['effect'] not in signs: continue
            weights = weights_of(table, row, base)
            if not changed & set(weights): continue
            report[table][i] = renewed(row, weights, scores, spread, before, free, row.get('step') if table == 'points' else None)
            if 'seeds' in row: report[table][i]['seeds'] = int(scores.seeds[row['features'], scores.last[row['features']], row['task']])
    for row in report['ranking']:
        if row['features'] in changed: row['score'] = round(scores.value[row['features'], scores.last[row['features']], 'mean'], 6)
    tasks = pd.DataFrame([r for r in report['summary'] if r['kind'] == 'pre-trained' and not r['task'].startswith('mean')])
    ranks = tasks.pivot(index='task', columns='features', values='value').rank(axis=1, ascending=False).mean()
    for row in report['ranking']: row['mean_rank'] = round(float(ranks[row['features']]), 6)
    report['ranking'].sort(key=lambda r: -r['score'])
    for place, row in enumerate(report['ranking'], 1): row['rank'] = place
    return report, lines


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('study', type=Path, help='folder with the new cells')
    parser.add_argument('--report', type=Path, default=Path('nbs/answer.json'))
    parser.add_argument('--scores', type=Path, default=Path('nbs/answer.csv'))
    args = parser.parse_args()
    new = pd.concat([pd.read_csv(p) for p in sorted(args.study.glob('cells/*/lines.csv'))])
    report, lines = merge(json.loads(args.report.read_text()), pd.read_csv(args.scores), new)
    args.report.write_text(json.dumps(report, indent=1) + '\n')
    lines.to_csv(args.scores, index=False)
