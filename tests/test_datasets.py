"""The published sets in miniature: every layout that the rooms `probing.*_sets` read goes through `mtssl probe`.

The miniatures are written by the functions `..._tree` of those notebooks, which show each and check its table.
"""
import ast, json

import pandas as pd
import pytest
from conftest import mtssl, root, run
from typer.testing import CliRunner


def notebook_trees():
    "Name of a set -> the notebook's function that writes its miniature below a folder and returns the specification to read it by"
    trees = {}
    for path in sorted((root/'nbs').glob('62_probing.*_sets.ipynb')):
        space = {}
        for cell in json.loads(path.read_text(encoding='utf-8'))['cells']:
            if cell['cell_type'] != 'code': continue
            source = ''.join(cell['source'])
            wanted = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.Assign)
            code = [n for n in ast.parse(source).body if isinstance(n, wanted) and not getattr(n, 'decorator_list', None)]
            if not source.startswith('#| export'): code = [n for n in code if not isinstance(n, ast.Assign)]
            exec(compile(ast.Module(code, []), 'notebook', 'exec'), space)
        trees |= {name.removesuffix('_tree'): function for name, function in space.items() if name.endswith('_tree')}
    return trees


trees = notebook_trees()


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    "A folder for all sets, and the specification of each"
    folder = tmp_path_factory.mktemp('data')
    return folder, {name: tree(folder/name) for name, tree in trees.items()} | dict(synth='synth(train=64, test=20, seconds=1, sr=16000, jobs=1, exact=True)')


@pytest.fixture(scope='module')
def encoder(tmp_path_factory):
    "A saved encoder with random weights"
    from mtssl.encoding.encoder import encoders
    return encoders.make('tcn(width=16, blocks=2)', sr=16_000).save_pretrained(tmp_path_factory.mktemp('encoder')/'random')


def test_every_set_has_a_miniature():
    from mtssl.probing.datasets import sets_table
    assert set(sets_table()['name']) - {'csv', 'folder', 'synth', 'mirdata'} == set(trees)


def test_found(data, installed):
    rows = json.loads(mtssl(installed, 'info', 'datasets', '--json', env={**installed.env, 'MTSSL_DATA': str(data[0])}).stdout)['datasets']
    assert {r['name'] for r in rows if r['found'] == 'yes'} == set(trees) and {r['found'] for r in rows} == {'yes', ''}


@pytest.mark.parametrize('name', [*sorted(trees), 'synth'])
def test_probe(name, data, encoder, tmp_path, monkeypatch):
    from mtssl.app.cli import app
    from mtssl.probing.datasets import labelled_set
    folder, specs = data
    monkeypatch.setenv('MTSSL_DATA', str(folder))
    dataset = labelled_set(specs[name])
    done = CliRunner().invoke(app, ['probe', str(encoder), specs[name], '--out', str(tmp_path/'probes'), '--quiet'], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    scores = pd.read_csv(tmp_path/'probes'/'scores.csv')
    for task in dataset.tasks.values():
        mine = scores[scores['task'] == task.name]
        judged = int((task.labelled(dataset.table) & (dataset.table['split'] == 'test')).sum())
        assert len(mine) == 6 and (mine['metric'] == task.metric).all() and (mine['n'] == judged).all() and mine['value'].notna().all()


def test_missing(data, installed, tmp_path):
    "What the command line says of a set that is not there, and a loader of one that is not all there"
    from mtssl.probing.tagging_sets import gtzan
    done = mtssl(installed, 'probe', 'nowhere', 'nsynth', env={**installed.env, 'MTSSL_DATA': str(tmp_path)}, check=False)
    assert done.returncode == 1 and "there is no 'nsynth-train/examples.json'" in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
    with pytest.raises(ValueError, match='900 of 930 audio files are missing.*Get them from .*, or do without them with partial=True'): gtzan(data[0]/'gtzan')


def test_listing_is_quick(installed):
    "Listing sets, and what can be fetched, needs no torch and no network, and every reader is there as soon as the first room of the wing is"
    code = ("import sys, mtssl.probing.labelled as room, mtssl.probing.datasets as sets, mtssl.probing.fetching as fetching\n"
            "assert {'csv', 'synth', 'gtzan', 'mirdata'} < set(room.datasets) and len(sets.sets_table()) == len(room.datasets)\n"
            "assert len(fetching.fetch_rows()) > 20 and not {'torch', 'pooch', 'requests'} & set(sys.modules)")
    run(installed.python, '-W', 'ignore', '-c', code, env=installed.env)


def test_name_of_a_set_in_the_current_folder(encoder, tmp_path, monkeypatch):
    "A labels.csv that is named without its folder has the folder's name all the same"
    from mtssl.app.cli import app
    from mtssl.probing.datasets import save_set, synth
    save_set(synth(24, 12, 1., 16_000, jobs=1, quiet=True), tmp_path/'takes', 16_000)
    monkeypatch.chdir(tmp_path/'takes')
    done = CliRunner().invoke(app, ['probe', str(encoder), 'labels.csv'], catch_exceptions=False)
    assert done.exit_code == 0 and 'takes: accuracy, with 95 % intervals' in ' '.join(done.output.split()), done.output
