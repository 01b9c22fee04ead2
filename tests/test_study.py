"""`mtssl study` of the installed wheel: killed in the middle of a cell and continued, a cell that fails, the plan, wrong files."""
import json, time

import pandas as pd
import pytest
from conftest import begun, mtssl, run

text = '''
question: Does it go on?
encoders: {small: "tcn(width=16, blocks=2)"}
weightings: [equal, uncertainty]
workers: {one: "mfcc", two: "mfcc,chroma_cqt"}
corpus: synth(clips=24, seconds=2)
sets:
  - synth(train=60, test=24, seconds=2)
pretrain: {epochs: 4, crops_per_epoch: 32, seconds: 2, bs: 4}
random: 1
'''


def study(installed, folder, *words, **kw): return mtssl(installed, 'study', *words, '--quiet', cwd=folder, **kw)


def scores(folder): return pd.read_csv(folder/'scores.csv').drop(columns=['cpu_seconds', 'seconds'])


def test_killed_and_continued(installed, tmp_path):
    (tmp_path/'tiny.yaml').write_text(text.replace('[equal, uncertainty]', '[equal, uncertainty, dwa]').replace(', two: "mfcc,chroma_cqt"', ''))
    study(installed, tmp_path, 'tiny.yaml', '--out', 'whole', '--jobs', 2)
    process = begun(installed, 'study', 'tiny.yaml', '--out', 'killed', '--jobs', 1, '--quiet', cwd=tmp_path)
    cells, end = tmp_path/'killed'/'cells', time.time() + 600
    at_work = lambda: [p.parent.parent for p in cells.glob('*/checkpoints/last.pt') if not (p.parent.parent/'report.html').exists()]
    while not (list(cells.glob('*/lines.csv')) and at_work()):
        assert process.is_alive() and time.time() < end, 'the study ended, or made no progress, before it could be killed'
        time.sleep(.005)
    process.kill()
    process.join()
    finished = {p: p.stat().st_mtime_ns for p in cells.glob('*/lines.csv')}
    assert 0 < len(finished) < 3, 'the study was killed too late to test anything'
    time.sleep(2)
    stopped = {p: p.stat().st_mtime_ns for p in cells.rglob('*') if p.is_file()}
    time.sleep(1)
    assert stopped == {p: p.stat().st_mtime_ns for p in cells.rglob('*') if p.is_file()}, 'a cell went on without its parent'
    study(installed, tmp_path, 'tiny.yaml', '--out', 'killed', '--jobs', 2)
    assert all(p.stat().st_mtime_ns == t for p, t in finished.items()), 'a finished cell was run again'
    pd.testing.assert_frame_equal(scores(tmp_path/'killed'), scores(tmp_path/'whole'))
    for history in (tmp_path/'whole'/'cells').glob('*/history.csv'): assert history.read_text() == (cells/history.parent.name/'history.csv').read_text()
    assert not list(cells.rglob('*.part'))


def test_a_cell_that_fails(installed, tmp_path):
    (tmp_path/'odd.yaml').write_text(text.replace('[equal, uncertainty]', '{equal: equal, odd: "manual(chroma_cqt=2.)"}').replace('epochs: 4', 'epochs: 1')
                                     .replace('{one: "mfcc", two: "mfcc,chroma_cqt"}', '{two: "mfcc,chroma_cqt", one: "mfcc"}'))
    done = run(installed.mtssl, 'study', 'odd.yaml', '--out', 'odd', '--quiet', env=installed.env, cwd=tmp_path, check=False)
    assert done.returncode == 1 and '1 of the jobs failed, such as small, one, odd, seed 0' in done.stderr and 'Traceback' not in done.stderr, done.stderr
    report = json.loads((tmp_path/'odd'/'report.json').read_text())
    assert list(report['failed']) == ['small, one, odd, seed 0'] and 'chroma_cqt' in report['failed']['small, one, odd, seed 0']
    rows = set(pd.DataFrame(report['summary']).features)
    assert {'small, two, equal', 'small, two, odd', 'small, one, equal', 'chance', 'hand-crafted features together', 'small, random-initialised'} <= rows and 'small, one, odd' not in rows
    page = (tmp_path/'odd'/'report.html').read_text()
    assert 'small, one, odd, seed 0 failed' in page and page.count('data:image/png;base64,') == 4 and 'http://' not in page
    assert page.count('>mtssl study odd.yaml --out odd</pre>') == 5
    with (tmp_path/'odd.yaml').open('a') as file: file.write('baseline: {workers: one}\n')  # a cell of the baseline's set failed, so that an effect is missing
    (tmp_path/'odd'/'report.html').unlink()
    done = study(installed, tmp_path, 'odd.yaml', '--out', 'odd', check=False)
    assert done.returncode == 1 and '1 of the jobs failed, such as small, one, odd, seed 0' in done.stderr and 'Traceback' not in done.stderr, done.stderr
    assert (tmp_path/'odd'/'report.html').exists()


def test_earlier_version(installed, tmp_path):
    "A study whose files an earlier version wrote goes on and runs nothing again; one it cannot go on with names the version"
    (tmp_path/'tiny.yaml').write_text(text.replace('epochs: 4', 'epochs: 1').replace('[equal, uncertainty]', '[equal]').replace(', two: "mfcc,chroma_cqt"', ''))
    study(installed, tmp_path, 'tiny.yaml', '--out', 'old')
    before, path = scores(tmp_path/'old'), tmp_path/'old'/'study.json'
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in facts.items() if k not in ('mtssl', 'amounts')} | dict(labels=facts['amounts'])))
    for lines in (tmp_path/'old').rglob('lines.csv'): pd.read_csv(lines).rename(columns=dict(amount='labels')).to_csv(lines, index=False)
    finished = {p: p.stat().st_mtime_ns for p in (tmp_path/'old').rglob('lines.csv')}
    study(installed, tmp_path, 'tiny.yaml', '--out', 'old')
    assert finished == {p: p.stat().st_mtime_ns for p in (tmp_path/'old').rglob('lines.csv')}
    pd.testing.assert_frame_equal(scores(tmp_path/'old'), before)
    path.write_text(json.dumps({k: v for k, v in facts.items() if k != 'points'} | dict(mtssl='0.0.9')))
    done = study(installed, tmp_path, 'tiny.yaml', '--out', 'old', check=False)
    assert done.returncode == 1 and 'begun by mtssl 0.0.9, which noted no points' in done.stderr and 'Traceback' not in done.stderr, done.stderr


def test_plan(installed, tmp_path):
    (tmp_path/'tiny.yaml').write_text(text)
    done = study(installed, tmp_path, 'tiny.yaml', '--out', 'plan', '--dry-run', '--jobs', 2)
    assert '1 encoder x 2 weightings x 2 worker sets x 1 seed = 4 cells' in done.stdout and 'timing steps' in done.stdout, done.stdout
    assert not (tmp_path/'plan').exists(), 'a plan must write nothing'


@pytest.mark.parametrize('change, message', [
    (('encoders:', 'encoder:'), "no key 'encoder'"), (('mfcc,chroma_cqt', 'mffc'), 'no worker named'), (('epochs: 4', 'epoch: 4'), "no key 'epoch'"),
    (('text', 'text'), 'There is no study'), (('encoders:', 'encoders: ['), 'is not YAML')])
def test_wrong_files(change, message, installed, tmp_path):
    wrong = text.replace(*change)
    if 'no study' not in message: (tmp_path/'wrong.yaml').write_text(wrong)
    done = study(installed, tmp_path, 'wrong.yaml', check=False)
    assert done.returncode == 1 and message in done.stderr and 'Traceback' not in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
