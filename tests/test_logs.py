"""Runs with --log wandb and --log mlflow, without a network: stopped and resumed, they are one log. Each test is skipped where its library is missing."""
import json, os

import pandas as pd
import pytest
import torch
from fastai.basics import Callback

from mtssl.core.files import read_json
from mtssl.music.corpus import build_corpus
from mtssl.music.synth.mix import synthesise
from mtssl.pretraining.runs import pretrain, resume


class Stop(Callback):
    "Stands for Ctrl-C in an epoch, counted from 0"
    def __init__(self, epoch): self.when = epoch
    def before_batch(self):
        if self.training and self.epoch == self.when: raise KeyboardInterrupt


def stopped_and_resumed(folder, log, end):
    "The history of a tiny run with a log, resumed in the same process and, when `end` has been called, as in another; and the log's name"
    torch.set_num_threads(1)
    clips = ((f'clip{i}', wave) for i, (wave, _) in enumerate(synthesise(12, 1.5, seed=5, jobs=1)))
    corpus, run, where = build_corpus(clips, folder/'corpus', quiet=True), folder/'run', dict(device='cpu', quiet=True)
    with pytest.raises(KeyboardInterrupt):
        pretrain(corpus, run, encoder='tcn(width=8, blocks=1)', workers='mfcc,waveform', epochs=3, seconds=1.5, bs=4,
                 crops_per_epoch=8, log=log, cbs=[Stop(1)], **where)
    known = read_json(run/'logs'/'names.json')
    with pytest.raises(KeyboardInterrupt): resume(run, cbs=[Stop(2)], **where)
    end()
    resume(run, **where)
    assert read_json(run/'logs'/'names.json') == known and set(known) == {log}
    return pd.read_csv(run/'history.csv'), known[log]


def test_weights_and_biases_off_line(tmp_path, monkeypatch):
    wandb = pytest.importorskip('wandb', reason='wandb, of the extra of that name, is not installed.')
    monkeypatch.setenv('WANDB_MODE', 'offline')
    history, name = stopped_and_resumed(tmp_path, 'wandb', wandb.finish)
    files = sorted((tmp_path/'run'/'logs'/'wandb').rglob('*.wandb'))
    assert [f.name for f in files] == [f'run-{name}.wandb'] * 2 # one before, one after the end of the process
    sent = b''.join(f.read_bytes() for f in files)
    assert all(word in sent for word in (b'train_loss', b'r2/mfcc', b'cosine/waveform, mfcc'))
    assert all(json.dumps(float(r2)).encode() in sent for r2 in history['mfcc.r2'])
    media = [p.name for p in (tmp_path/'run'/'logs'/'wandb').rglob('media/**/*.*')]
    assert [sum(p.startswith(what) for p in media) for what in ('mfcc', 'curves', 'target')] == [3, 3, 3]


def test_mlflow_with_a_database_of_the_run(tmp_path, monkeypatch):
    mlflow = pytest.importorskip('mlflow', reason='mlflow, of the extra of that name, is not installed.')
    for name in 'MLFLOW_TRACKING_URI', 'MLFLOW_EXPERIMENT_ID': monkeypatch.setenv(name, '') # after the test they are as before
    history, name = stopped_and_resumed(tmp_path, 'mlflow', mlflow.end_run)
    assert not os.environ.get('MLFLOW_TRACKING_URI')
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path/'run'/'logs'/'mlflow.db'}")
    run = client.get_run(name)
    assert (run.info.status, run.info.run_name, run.data.params['workers']) == ('FINISHED', 'run', 'mfcc,waveform')
    sent = [(m.step, m.value) for m in client.get_metric_history(name, 'r2/mfcc')]
    assert sent == list(zip(history['step'], history['mfcc.r2']))
    files = {f.path: len(client.list_artifacts(name, f.path)) for f in client.list_artifacts(name)}
    assert (files['curves'], files['cosines']) == (3, 3) and client.list_artifacts(name, 'waveform/target'), files
