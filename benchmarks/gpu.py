"""Pre-training on a GPU: crops per second, where the time of a step goes, the share of the device's peak, memory, and what limits it.

    python benchmarks/gpu.py runs/gpu                  # under 6 minutes on an H100; again, it goes on with what is missing
    python benchmarks/gpu.py runs/gpu --device cpu --quick     # that the script works, in a minute on a CPU

Writes gpu.json, after every measurement, and gpu.md, a table with the device's name, into the folder. Steps are those of the training
loop, taken apart: targets, encoder (forwards and backwards), workers and weighting (forwards and backwards), optimiser. Times between parts are of
events on the device; "busy" is the share of the time in which the profiler saw the device at work, so that the rest is idle, waiting for the host.
`wait` is the time in which the loop waited for its next batch. Operations are counted by torch.utils.flop_counter, which leaves out Fourier transforms.
No GPU has run it yet.
"""
import argparse, json, os, platform, tempfile, time, warnings
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch

warnings.filterwarnings('ignore')

# 10^12 operations per second, dense: bf16 (fp16 where there is no bf16) on tensor cores, fp32 without them; from the makers' data sheets:
# nvidia.com/en-us/data-center/{h100,h200,a100,l4,tesla-t4}, whose numbers "with sparsity" are halved here, and the Ada architecture's white paper (RTX 4090).
# Names are compared in this order.
peaks = {'H200': (989.5, 67.), 'H100 PCIe': (756.5, 51.2), 'H100': (989.5, 67.), 'A100': (312., 19.5), 'L4': (121., 30.3), 'T4': (65., 8.1), 'RTX 4090': (165.2, 82.6)}


def measured_peak(device, dtype, n):
    "10^12 operations per second of a square product of `n` rows"
    a = torch.randn(n, n, device=device, dtype=dtype)
    a @ a
    clock = Clock(device)
    for _ in range(10): a @ a
    return 10 * 2 * n**3 / clock.seconds() / 1e12


def peak_of(device, quick):
    "Name of the device, its peak in fp32 and bf16, and where the numbers are from"
    name = torch.cuda.get_device_name(device) if device.type == 'cuda' else platform.processor() or platform.machine()
    known = next((p for key, p in peaks.items() if set(key.split()) <= set(name.replace('-', ' ').split())), None) if device.type == 'cuda' else None
    if known: return name, dict(bf16=known[0], fp32=known[1]), 'data sheet'
    n = 512 if quick or device.type == 'cpu' else 8192
    return name, dict(bf16=measured_peak(device, torch.bfloat16, n), fp32=measured_peak(device, torch.float32, n)), 'a measured product'


class Clock:
    "Time on the device between `mark`s, by events; on a CPU by the clock"
    def __init__(self, device):
        self.device, self.marks = device, []
        self.begun = self._now()

    def _now(self):
        if self.device.type == 'cpu': return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def mark(self, name): self.marks.append((name, self._now()))

    def parts(self): # -> {name: s}
        if self.device.type == 'cuda': torch.cuda.synchronize()
        between = (lambda a, b: b - a) if self.device.type == 'cpu' else (lambda a, b: a.elapsed_time(b) / 1000)
        out, last = {}, self.begun
        for name, now in self.marks: out[name], last = out.get(name, 0) + between(last, now), now
        return out

    def seconds(self):
        self.mark('all')
        return self.parts()['all']


def step(model, opt, batch, clock, precision, captured=None):
    "One step of training, with a mark after each part"
    from mtssl.pretraining.views import make_batch
    wave, track = batch
    half = (lambda: torch.autocast(wave.device.type, torch.bfloat16)) if precision == 'bf16' else nullcontext
    clock.mark('loader')
    analysis = captured(wave) if captured else analysed(model, wave)
    clock.mark('targets')
    with half():
        batches = {view: make_batch(model.encoder, view, analysis, model.statistics) for view in model.views}
        for b in batches.values(): b.track = track
        cut, copies = model.detach_layers(batches)
    clock.mark('encoder')
    with half(): losses = model.losses_of(copies)
    total = model.weighting(losses, cut)
    total.backward()
    clock.mark('workers')
    given = [(x, leaf.grad) for x, leaf in zip(cut.layers, cut.leaves) if leaf.grad is not None]
    torch.autograd.backward(*zip(*given))
    clock.mark('encoder')
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.)
    opt.step()
    opt.zero_grad()
    clock.mark('optimiser')
    return total


def analysed(model, wave):
    "The analysis of a batch, with every target in its memory"
    from mtssl.pretraining.views import Batch
    analysis = model.encoder.analyse(wave)
    batch = Batch(wave, analysis, [], model.statistics)
    for worker in model.workers.values():
        for target in worker.targets: batch.target(target)
    return analysis


class Captured:
    "The analysis as a CUDA graph: recorded once, then replayed for every batch of the same shape"
    def __init__(self, model, wave):
        self.wave = wave.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3): analysed(model, self.wave)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph): self.analysis = analysed(model, self.wave)

    def __call__(self, wave):
        self.wave.copy_(wave)
        self.graph.replay()
        return self.analysis


def model_and_optimiser(encoder, waves, device):
    from fastai.basics import Adam, params
    from mtssl.pretraining.model import make_model
    torch.manual_seed(0)
    model = make_model([waves], encoder).to(device).train()
    return model, Adam(params(model), lr=1e-4, decouple_wd=True)


def count_flops(model, opt, batch, precision):
    "10^12 operations of products and convolutions in a step"
    from torch.utils.flop_counter import FlopCounterMode
    with FlopCounterMode(display=False) as counter: step(model, opt, batch, Clock(batch[0].device), precision)
    return counter.get_total_flops() / 1e12


def busy_share(model, opt, loader, precision, steps):
    "Share of the time in which the device works, and operations put into its queue per step"
    from torch.profiler import ProfilerActivity, profile
    batches = iter(loader)
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        start = time.perf_counter()
        for _ in range(steps): step(model, opt, next(batches), Clock(torch.device('cuda')), precision)
        torch.cuda.synchronize()
        wall = time.perf_counter() - start
    events = [e for e in seen.key_averages() if e.self_device_time_total > 0]
    return sum(e.self_device_time_total for e in events) / 1e6 / wall, round(sum(e.count for e in events) / steps)


def measure(encoder, bs, precision, corpus, device, seconds, limit):
    "What a table shows of one encoder, batch size and precision"
    from mtssl.music.crops import corpus_dls
    from mtssl.music.device_crops import device_dls
    dls = device_dls(corpus_dls(corpus, seconds=seconds, bs=bs, crops_per_epoch=bs * 1000, device=device))
    batches = iter(dls.train)
    first = next(batches)
    model, opt = model_and_optimiser(encoder, first[0][:32].cpu(), device)
    if device.type == 'cuda': torch.cuda.reset_peak_memory_stats()
    for _ in range(3): step(model, opt, next(batches), Clock(device), precision)
    once = Clock(device)
    step(model, opt, next(batches), Clock(device), precision)
    steps = int(np.clip(limit / max(once.seconds(), 1e-3), 3, 50))
    clock, wait, start = Clock(device), 0., time.perf_counter()
    for _ in range(steps):
        asked = time.perf_counter()
        batch = next(batches)
        wait += time.perf_counter() - asked
        step(model, opt, batch, clock, precision)
    parts = clock.parts()
    wall = time.perf_counter() - start
    row = dict(encoder=encoder, bs=bs, precision=precision, steps=steps, crops_per_second=steps * bs / wall, ms=1000 * wall / steps,
               wait=wait / wall, shares={part: s / sum(parts.values()) for part, s in parts.items()}, tflop=count_flops(model, opt, first, precision))
    if device.type == 'cuda':
        busy, queued = busy_share(model, opt, dls.train, precision, min(steps, 5))
        row |= dict(memory=torch.cuda.max_memory_allocated() / 2**30, busy=busy, queued=queued)
    batches.close()
    return row


def limits(row):
    "What limits a step, in words"
    if row['wait'] > .05: return 'the loader'
    if row.get('busy', 1) < .7: return f"the host, which puts {row['queued']:,} operations per step into the queue"
    shares = row['shares']
    if shares['targets'] > .25: return 'targets'
    if shares['optimiser'] > .25: return 'the optimiser'
    return 'encoder' if shares['encoder'] > shares['workers'] else 'workers'


def loaders(corpus, bs, device, seconds):
    "Crops per second that each way of loading gives, with nothing else to do"
    from mtssl.music.crops import corpus_dls
    from mtssl.music.device_crops import device_dls
    out = {}
    ways = dict(asked=dict(resident=False, ahead=False), ahead=dict(resident=False, ahead=True), resident=dict(resident=True, ahead=False))
    for way, options in ways.items():
        batches = iter(device_dls(corpus_dls(corpus, seconds=seconds, bs=bs, crops_per_epoch=bs * 40, device=device), **options).train)
        for _ in range(3): next(batches)
        clock, n = time.perf_counter(), 0
        for wave, _ in batches:
            n += len(wave)
            if time.perf_counter() - clock > 2: break
        if device.type == 'cuda': torch.cuda.synchronize()
        out[way] = n / (time.perf_counter() - clock)
        batches.close()
    return out


def analyses(corpus, bs, device, seconds, compile):
    "ms of all targets of a batch, and how far off one is: as they are, as a CUDA graph, with `compile` compiled; the reason where one fails"
    from mtssl.music.crops import corpus_dls
    wave = next(iter(corpus_dls(corpus, seconds=seconds, bs=bs, crops_per_epoch=bs, device=device).train))[0]
    model, _ = model_and_optimiser('tcn:tiny', wave[:32].cpu(), device)
    target = next(t for w in model.workers.values() for t in w.targets)
    wanted = analysed(model, wave).memory['normalised', target.name]
    def eager(): return lambda: analysed(model, wave)
    def graph():
        captured = Captured(model, wave)
        return lambda: captured(wave)
    def compiled():
        function = torch.compile(lambda w: analysed(model, w).memory['normalised', target.name])
        function(wave)
        return lambda: function(wave)
    out = {}
    for way, make in dict(eager=eager, graph=graph, compile=compiled).items():
        if way == 'graph' and device.type != 'cuda' or way == 'compile' and not compile: continue
        try:
            run = make()
            for _ in range(2): found = run()
            clock = Clock(device)
            for _ in range(10): found = run()
            out[way] = dict(ms=100 * clock.seconds())
            values = found if torch.is_tensor(found) else found.memory['normalised', target.name]
            out[way] |= dict(off=float((values - wanted).abs().max()))
        except Exception as e: out[way] = dict(failed=f'{type(e).__name__}: {str(e).splitlines()[0][:200]}')
    return out


def loop(encoder, corpus, bs, device, seconds, steps):
    "Crops per second of the training loop as users run it, with recorder, schedule and callbacks"
    from fastai.basics import Callback
    from mtssl.music.crops import corpus_dls
    from mtssl.pretraining.learner import pretrain_learner

    class Timer(Callback):
        order, times = 100, []
        def after_batch(self):
            if self.training and self.iter in (4, self.n_iter - 1):
                if device.type == 'cuda': torch.cuda.synchronize()
                self.times.append(time.perf_counter())

    dls = corpus_dls(corpus, seconds=seconds, bs=bs, crops_per_epoch=bs * steps, valid=.05, device=device)
    learn = pretrain_learner(dls, encoder=encoder, cbs=(timer := Timer()))
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    return bs * (steps - 5) / (timer.times[-1] - timer.times[-2])


def make_corpus(folder, seconds, quick):
    "Tones and noise in the place of music: what they are changes no time"
    from mtssl.music.corpus import build_corpus
    rng, sr = np.random.default_rng(0), 22_050
    length = int(sr * (3 * seconds if quick else 60))
    tone = lambda i: .3 * np.sin(2 * np.pi * (110 + 20 * i) * np.arange(length) / sr) + .05 * rng.standard_normal(length)
    return build_corpus(((f'clip{i}', tone(i).astype(np.float32)) for i in range(6 if quick else 40)), folder, quiet=True)


def table(found):
    "The measurements as Markdown"
    percent = lambda x: '' if x is None else f'{100 * x:.0f} %'
    lines = [f"# {found['device']}", '', f"Peak {found['peak']['bf16']:.3g} TFLOP/s in bf16, {found['peak']['fp32']:.3g} in fp32 ({found['peak_from']}); PyTorch {found['torch']}; "
             f"crops of {found['seconds']:g} s, the workers `music`.", '',
             '| encoder | bs | precision | crops per s | ms per step | targets | encoder | workers | optimiser | wait | busy | of peak | GiB | limited by |',
             '|---|---|---|---|---|---|---|---|---|---|---|---|---|---|']
    for r in found['rows'].values():
        if 'failed' in r: lines.append(f"| {r['encoder']} | {r['bs']} | {r['precision']} | {r['failed']} |" + ' |' * 10); continue
        shares = [percent(x) for x in (*(r['shares'][k] for k in ('targets', 'encoder', 'workers', 'optimiser')), r['wait'], r.get('busy'))]
        memory = f"{r['memory']:.1f}" if 'memory' in r else ''
        lines.append(f"| {r['encoder']} | {r['bs']} | {r['precision']} | {r['crops_per_second']:,.0f} | {r['ms']:.1f} | {' | '.join(shares)} | {r['of_peak']:.1%} | {memory} | {r['limited_by']} |")
    for name in 'loaders', 'analyses', 'loop':
        if name in found: lines += ['', f'{name}: `{json.dumps(found[name])}`']
    return '\n'.join(lines) + '\n'


def main(folder, device, quick, budget, precisions, compile=False):
    started, device, folder = time.perf_counter(), torch.device(device), Path(folder)
    if device.type == 'cuda' and not torch.cuda.is_available(): raise SystemExit('There is no GPU here; --device cpu --quick shows whether the script works.')
    folder.mkdir(parents=True, exist_ok=True)
    path, seconds = folder/'gpu.json', 1. if quick else 6.
    found = json.loads(path.read_text()) if path.exists() else {}
    if found.get('device') not in (None, (name := peak_of(device, True)[0])): raise SystemExit(f"{path} is of {found['device']}, and this is {name}; choose another folder.")
    if not found:
        name, peak, source = peak_of(device, quick)
        found = dict(device=name, peak=peak, peak_from=source, torch=torch.__version__, seconds=seconds, rows={})
    def save():
        path.with_suffix('.part').write_text(json.dumps(found, indent=1) + '\n')
        os.replace(path.with_suffix('.part'), path)
        (folder/'gpu.md').write_text(table(found))
    encoders, sizes = (('tcn:tiny', 'conformer:tiny'), (2, 4)) if quick else (('tcn', 'conformer'), (64, 16, 128, 256, 32, 512))
    with tempfile.TemporaryDirectory() as temporary:
        corpus = make_corpus(Path(temporary)/'corpus', seconds, quick)
        bs = sizes[0]
        for name, work in dict(loaders=lambda: loaders(corpus, bs, device, seconds), analyses=lambda: analyses(corpus, bs, device, seconds, compile),
                               loop=lambda: {e: loop(e, corpus, bs, device, seconds, 12 if quick else 45) for e in encoders}).items():
            if name not in found: found[name] = work(); save(); print(name, json.dumps(found[name]), flush=True)
        for precision in precisions:
            for bs in sizes:
                for encoder in encoders:
                    key = f'{encoder} {bs} {precision}'
                    if key in found['rows']: continue
                    if time.perf_counter() - started > budget: print(f'{budget:.0f} s are over; run again for the rest, from {key} on.'); return
                    try:
                        row = measure(encoder, bs, precision, corpus, device, seconds, .5 if quick else 3.)
                        row |= dict(of_peak=row['tflop'] / (row['ms'] / 1000) / found['peak'][precision], limited_by=limits(row))
                    except torch.cuda.OutOfMemoryError: row = dict(encoder=encoder, bs=bs, precision=precision, failed='out of memory')
                    if device.type == 'cuda': torch.cuda.empty_cache()
                    found['rows'][key] = row
                    save()
                    print(json.dumps(row), flush=True)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', help='where gpu.json and gpu.md go')
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--quick', action='store_true', help='tiny encoders, two batch sizes, crops of 1 s')
    parser.add_argument('--budget', type=float, default=330., help='no measurement is begun after so many s')
    parser.add_argument('--precision', nargs='*', default=['bf16', 'fp32'], choices=['bf16', 'fp32'])
    parser.add_argument('--compile', action='store_true', help='also measure the analysis compiled, which takes minutes the first time')
    given = parser.parse_args()
    main(given.folder, given.device, given.quick, given.budget, given.precision, given.compile)
