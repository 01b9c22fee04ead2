"""The command line of the installed wheel: one voice for all commands, a folder of any music, broken files, power cuts, the demo."""
import inspect, json, os, pty, re, select, signal, subprocess, time
from typing import get_args

import numpy as np
import pytest
from conftest import begun, broken, mtssl, run
from mtssl import __version__
from mtssl.app.cli import app
from mtssl.app.console import examples
from typer.main import get_command
from typer.testing import CliRunner

tiny = ['--encoder', 'tcn(width=16, blocks=2)', '--workers', 'mfcc,chroma_cqt,clip(mfcc)', '--seconds', '2', '--bs', '4', '--device', 'cpu', '--quiet']
commands = {(): get_command(app)}
for names, command in list(commands.items()) + [(('corpus',), commands[()].commands['corpus'])]: commands |= {(*names, name): c for name, c in command.commands.items()}
leaves = [names for names, command in commands.items() if not hasattr(command, 'commands')]


def as_json(text): return json.loads(text, parse_constant=lambda word: pytest.fail(f'{word} is no JSON'))


def test_own_music(installed, music, tmp_path):
    done = run(installed.mtssl, 'pretrain', music, '--out', 'run', '--epochs', 2, '--keep-every', 1, *[t for t in tiny if t != '--quiet'], '--jobs', 2, '--json', env=installed.env, cwd=tmp_path)
    assert as_json(done.stdout)['epochs'] == 2, 'a library, or a process of its own, printed beside the one object'
    for name, reason in broken.items():
        lines = [l for l in done.stderr.splitlines() if name in l]
        assert lines and reason.lower() in lines[0].lower(), f'{name} should be left out because it is {reason}; it said: {lines or done.stderr}'
    assert '5 files were left out' in done.stderr, done.stderr
    wanted = {'config.json', 'config.yaml', 'model.safetensors', 'statistics.safetensors', 'history.csv', 'cosines.csv', 'times.csv', 'pictures.safetensors', 'report.html', 'checkpoints', 'corpus'}
    assert wanted == {p.name for p in (tmp_path/'run').iterdir()}
    assert {p.name for p in (tmp_path/'run'/'checkpoints').iterdir()} == {'epoch_0001.safetensors', 'epoch_0002.safetensors', 'last.pt'}

    manifest = (tmp_path/'run'/'corpus'/'manifest.parquet').read_bytes()
    done = mtssl(installed, 'pretrain', music/'artist0', '--out', 'run', *tiny, cwd=tmp_path, check=False)
    assert done.returncode == 1 and 'already holds a run' in done.stderr, done.stderr
    assert (tmp_path/'run'/'corpus'/'manifest.parquet').read_bytes() == manifest, 'a refused run changed the corpus of the one that is there'

    done = mtssl(installed, 'embed', 'run', music, '--out', 'all.npz', '--quiet', cwd=tmp_path)
    found = np.load(tmp_path/'all.npz')
    assert all(name in done.stderr for name in broken if name != 'silent.wav'), done.stderr
    paths = found['paths'].tolist()
    assert paths == sorted(paths) and {'short.wav', 'surround.flac', 'artist0/album0/00.wav'} <= set(paths) and not set(paths) & (set(broken) - {'silent.wav'})
    assert found['embeddings'].shape[0] == len(paths) >= 27 and found['embeddings'].dtype == np.float32 and np.isfinite(found['embeddings']).all()

    mtssl(installed, 'embed', 'run', music/'artist0', '--out', 'part.npz', '--quiet', cwd=tmp_path)
    part = np.load(tmp_path/'part.npz')
    rows = [paths.index(f'artist0/{p}') for p in part['paths']]
    assert np.allclose(part['embeddings'], found['embeddings'][rows], atol=1e-5), 'embeddings depend on the other files in the folder'


def test_killed_and_resumed(installed, music, tmp_path):
    words = ['pretrain', music, '--epochs', 6, '--crops-per-epoch', 24, *tiny, '--out']
    mtssl(installed, *words, 'whole', cwd=tmp_path)
    process = begun(installed, *words, 'killed', cwd=tmp_path)
    history, end = tmp_path/'killed'/'history.csv', time.time() + 120
    while not (history.exists() and len(history.read_text().splitlines()) > 2):
        assert process.is_alive() and time.time() < end, 'the run ended, or made no progress, before it could be killed'
        time.sleep(.01)
    process.kill()
    process.join()
    epochs = len(history.read_text().splitlines()) - 1
    assert epochs < 6, 'the run was killed too late to test anything'
    mtssl(installed, 'pretrain', '--resume', '--out', 'killed', '--quiet', '--device', 'cpu', cwd=tmp_path)
    assert history.read_text() == (tmp_path/'whole'/'history.csv').read_text(), 'a resumed run is not the run it would have been'
    assert history.with_name('model.safetensors').read_bytes() == (tmp_path/'whole'/'model.safetensors').read_bytes()
    assert not list((tmp_path/'killed').rglob('*.part'))


def test_demo(installed, tmp_path):
    done = mtssl(installed, 'demo', '--quick', '--out', 'demo', cwd=tmp_path)
    report, lines = json.loads((tmp_path/'demo'/'report.json').read_text()), done.stdout.strip().splitlines()
    assert lines[-1].strip() == os.path.join('demo', 'report.html')
    rows = list(dict.fromkeys(s['features'] for s in report['scores']))
    assert len(rows) == 7 and {'chance', 'MFCC statistics', 'log-mel statistics', 'hand-crafted features together'} < set(rows)
    assert {s['task'] for s in report['scores']} == {'instrument', 'style', 'tempo', 'key', 'mean'}
    assert all(0 <= s['low'] <= s['value'] <= s['high'] <= 1 for s in report['scores'])
    page = (tmp_path/'demo'/'report.html').read_text()
    assert page.count('data:image/png;base64,') >= 4 and 'http://' not in page and '<script' not in page
    assert done.stderr == '' and '\x1b' not in done.stdout, done.stderr


def test_probe_own_labels(installed, tmp_path):
    mtssl(installed, 'synth', '--out', 'music', '--train', 40, '--test', 20, '--seconds', 2, '--quiet', cwd=tmp_path)
    mtssl(installed, 'pretrain', 'music', '--out', 'run', '--epochs', 1, *tiny, cwd=tmp_path)
    done = mtssl(installed, 'probe', 'run', 'music/labels.csv', '--out', 'probes', '--quiet', cwd=tmp_path)
    assert all(name in done.stdout for name in ('chance', 'instrument', 'mean')), done.stdout
    assert len((tmp_path/'probes/scores.csv').read_text().splitlines()) == 1 + 6 * 5


def plain_environment(installed): return {k: v for k, v in installed.env.items() if k not in ('GITHUB_ACTIONS', 'FORCE_COLOR', 'PY_COLORS', 'NO_COLOR')}


def parsed(words):
    "The command that `words` call, and its context; fails where they are not understood"
    command = commands[()]
    while hasattr(command, 'commands'):
        assert words[0] in command.commands, f'there is no command {words[0]!r}'
        command, words = command.commands[words[0]], words[1:]
    return command, command.make_context(command.name, list(words))


@pytest.mark.parametrize('names', commands, ids=lambda names: ' '.join(names) or 'mtssl')
def test_help(names, installed):
    done = run(installed.mtssl, *names, '--help', env={**plain_environment(installed), 'COLUMNS': '80'})
    assert '\x1b' not in done.stdout and not done.stderr and max(map(len, done.stdout.splitlines())) <= 80
    lines, shown = [' '.join(('mtssl', *words)) for words in examples(commands[names])], done.stdout[done.stdout.index(' Examples'):]
    assert 1 <= len(lines) <= 4 and len(re.findall(r'^ +\$ mtssl ', shown, re.M)) == len(lines), shown
    if names in leaves: assert all(option in done.stdout for option in ('--json', '--quiet', '--debug', 'What is printed'))
    for words in examples(commands[names]): parsed([w for w in words if w != '>'][:-1] if '>' in words else words)


def test_same_option_same_meaning():
    "An option of several commands has one type and, but for what is written or drawn, one sentence"
    found = {}
    for names in leaves:
        for option in commands[names].params:
            if option.opts[0] not in ('--help', '--install-completion', '--show-completion') and option.opts[0].startswith('--'): found.setdefault(option.opts[0], {})[names] = option
    kind = lambda names, option: get_args(inspect.signature(commands[names].callback).parameters[option.name].annotation)[0]
    for name, by_command in found.items():
        types, sentences = {str(kind(n, o)).replace('typing.Optional[', '').replace("<class '", '').rstrip("]'>") for n, o in by_command.items()}, {o.help for o in by_command.values()}
        assert len(types) == 1, f'{name} has types {types}'
        assert len(sentences) == 1 or name in ('--out', '--seed', '--seconds', '--quick', '--workers'), f'{name} is explained by {sentences}'
    assert all({'--json', '--quiet', '--debug'} <= {o.opts[0] for o in commands[names].params} for names in leaves)


def test_json(music, tmp_path, monkeypatch):
    "Under --json nothing but one object is on standard output; on `pretrain`, see `test_own_music`"
    monkeypatch.chdir(tmp_path)

    def call(*words, code=0):
        done = CliRunner().invoke(app, [*map(str, words), '--json'])
        assert done.exit_code == code, done.output
        return as_json(done.stdout)
    made = call('synth', '--out', 'music', '--train', 4, '--test', 2, '--seconds', 1, '--jobs', 1)
    assert (tmp_path/made['labels']).is_file() and made['train'] == 4
    built = call('corpus', 'build', music, '--out', 'store', '--jobs', 1)
    assert built['tracks'] > 20 and set(broken) == set(built['left_out'])
    checked = call('corpus', 'check', 'store')
    assert checked['tracks'] == built['tracks'] and checked['damaged'] == {}
    with open(tmp_path/'store'/'shard-00000.i16', 'r+b') as f: f.write(b'?!')
    assert len(call('corpus', 'check', 'store', code=1)['damaged']) == 1
    findings = call('doctor')['findings']
    assert {'part', 'state', 'found', 'advice'} == set(findings[0])
    assert {'Python', 'versions', 'imports', 'device', 'processor', 'memory', 'audio', 'this folder'} <= {f['part'] for f in findings}
    (tmp_path/'plan.yaml').write_text('encoders: {small: "tcn(width=16, blocks=2)"}\nweightings: [equal]\nworkers: [mfcc]\ncorpus: synth(clips=8, seconds=2)\n'
                                      'sets: ["synth(train=20, test=10, seconds=2)"]\npretrain: {epochs: 1, crops_per_epoch: 8, seconds: 1.5, bs: 4}\n')
    assert call('study', 'plan.yaml', '--dry-run')['cells'][0]['cells'] == 1


def test_version(installed, tmp_path):
    "`mtssl --version` and `python -m mtssl` answer at once, and with the version of the package"
    for words in [installed.mtssl], [installed.python, '-m', 'mtssl']:
        done = run(*words, '--version', env=installed.env, cwd=tmp_path)
        assert done.stdout == f'mtssl {__version__}\n' and not done.stderr


def test_last_options():
    "--seed, --device and --jobs end a command's own options, in this order, and --quiet ends all"
    for names in leaves:
        options = [o.opts[0] for o in commands[names].params if o.opts[0].startswith('--')]
        own = [o for o in options if o not in ('--json', '--debug', '--quiet')]
        last = [o for o in ('--seed', '--device', '--jobs') if o in own]
        assert own[len(own) - len(last):] == last and options[-1] == '--quiet', f"{' '.join(names)}: {options}"


def test_codes(installed, tmp_path):
    "0 done, 1 a wrong input, 2 a command line that is not understood; a traceback only where it was asked for"
    call = lambda *words: run(installed.mtssl, *words, env=installed.env, cwd=tmp_path, check=False)
    assert [call(*words).returncode for words in (['info', 'studies'], ['info', 'flavours'], ['info', '--flavour'], ['inform'], ['synth', '--out', 'x', '--jobs', '0'])] == [0, 1, 2, 2, 2]
    asked = call('info', 'flavours', '--debug')
    assert asked.returncode == 1 and 'Traceback' in asked.stderr and asked.stderr.strip().splitlines()[-1].startswith('mtssl: There is no list of')
    silent = call('info', 'flavours', '--json')
    assert (silent.returncode, silent.stdout) == (1, '') and 'Traceback' not in silent.stderr


def test_ctrl_c(installed, music, tmp_path):
    words = [installed.mtssl, 'pretrain', music, '--out', 'run', '--epochs', '2000', '--jobs', '2', *tiny]
    process = subprocess.Popen(words, env=installed.env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    try:
        end = time.time() + 120
        while not (tmp_path/'run'/'checkpoints'/'last.pt').exists():
            assert process.poll() is None and time.time() < end, 'the run ended, or made no progress, before it could be stopped'
            time.sleep(.05)
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=120)[1]
    finally: process.kill()
    assert process.returncode == 130 and 'mtssl pretrain --resume --out run' in said.splitlines()[-1] and 'Traceback' not in said, said


def test_terminal(installed, tmp_path):
    "A bar in a terminal, without colours under NO_COLOR; in the pipes of the other tests there is neither"
    words = [installed.mtssl, 'synth', '--train', '2', '--test', '1', '--seconds', '1', '--jobs', '1', '--out', 'music']
    master, slave = pty.openpty()
    process = subprocess.Popen(words, env={**plain_environment(installed), 'TERM': 'xterm-256color', 'COLUMNS': '80', 'NO_COLOR': '1'}, cwd=tmp_path, stdout=subprocess.PIPE, stderr=slave)
    os.close(slave)
    seen = b''
    while select.select([master], [], [], 60)[0]:
        try: part = os.read(master, 65536)
        except OSError: break
        if not part: break
        seen += part
    process.communicate()
    os.close(master)
    assert 'synthesise train clips' in seen.decode() and not re.search(r'\x1b\[[0-9;]*3[0-9][0-9;]*m', seen.decode())


@pytest.mark.parametrize('line, wanted', [
    ('mtssl pretrain --encoder short', ['shortchunk']), ('mtssl pretrain --workers mfcc,chroma_c', ['mfcc,chroma_cens', 'mfcc,chroma_cqt']), ('mtssl pretrain --weighting pcg', ['pcgrad']),
    ('mtssl pretrain --distortions pol', ['polarity']), ('mtssl study wei', ['weighting']), ('mtssl probe run gt', ['gtzan']), ('mtssl info enc', ['encoders']),
    ('mtssl embed run music --device c', ['cpu', 'cuda']), ('mtssl corpus build --jo', ['--jobs']), ('mtssl doc', ['doctor'])])
def test_completion(line, wanted, installed):
    "What bash gets when it asks"
    done = run(installed.mtssl, env={**installed.env, '_MTSSL_COMPLETE': 'complete_bash', 'COMP_WORDS': line, 'COMP_CWORD': str(line.count(' '))})
    assert done.stdout.split() == wanted


@pytest.mark.parametrize('shell, asks', [('bash', {'COMP_WORDS': 'mtssl info enc', 'COMP_CWORD': '2'}), ('zsh', {'_TYPER_COMPLETE_ARGS': 'mtssl info enc'}),
                                         ('fish', {'_TYPER_COMPLETE_ARGS': 'mtssl info enc', '_TYPER_COMPLETE_FISH_ACTION': 'get-args'})])
def test_shells(shell, asks, installed):
    script = run(installed.mtssl, '--show-completion', shell, env={**installed.env, '_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION': '1'}).stdout
    assert '_MTSSL_COMPLETE' in script and f'complete_{shell}' in script
    assert 'encoders' in run(installed.mtssl, env={**installed.env, '_MTSSL_COMPLETE': f'complete_{shell}', **asks}).stdout


def test_fast(installed):
    "Help and completion import none of the libraries that take seconds"
    slow = 'torch', 'fastai', 'librosa', 'pandas', 'numpy', 'soundfile', 'matplotlib', 'sklearn'
    for words, more in (['--help'], {}), ([], {'_MTSSL_COMPLETE': 'complete_bash', 'COMP_WORDS': 'mtssl pretrain --workers m', 'COMP_CWORD': '3'}):
        done = run(installed.python, '-X', 'importtime', installed.mtssl, *words, env={**installed.env, **more})
        loaded = {line.split('|')[-1].strip() for line in done.stderr.splitlines() if line.startswith('import time:')}
        assert 'mtssl.app.console' in loaded and not loaded & set(slow), loaded & set(slow)


@pytest.mark.parametrize('words, message', [
    (['pretrain'], 'Name a folder'), (['pretrain', 'nowhere'], 'nowhere'), (['embed', '../nowhere', '.'], 'There is no folder'),
    (['info', 'flavours'], 'there are targets'), (['pretrain', '.', '--out', 'run'], 'no audio file'),
    (['pretrain', '--resume', '--out', 'nowhere'], 'is not a run')])
def test_wrong_input(words, message, installed, tmp_path):
    done = mtssl(installed, *words, cwd=tmp_path, check=False)
    assert done.returncode == 1 and message in done.stderr and 'Traceback' not in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_wrong_names(installed, music, tmp_path):
    for option, name, message in ('--encoder', 'resnet', 'no encoder named'), ('--workers', 'mffc', 'no worker named'), ('--weighting', 'fair', 'no weighting named'):
        done = mtssl(installed, 'pretrain', music, '--out', 'run', option, name, '--quiet', cwd=tmp_path, check=False)
        assert done.returncode == 1 and message in done.stderr and 'Traceback' not in done.stderr, done.stderr
