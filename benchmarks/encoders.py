"""What the encoders cost: CPU time of a training step at one thread.

    python benchmarks/encoders.py --pase                             # PASE beside a plain transcription of it, and where each spends its step
    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 python benchmarks/encoders.py --pase    # as on a processor whose vectors are half as long
    python benchmarks/encoders.py --json nbs/encoders_cost.json      # every encoder, and PASE's ratio; also the section "encoder" of mtssl/measured.json

A step is a forward pass in training mode with all layers, a loss that reaches every layer, and the backward pass, front-end included. The steps of
PASE and its plain transcription are interleaved, so that a busy machine slows both alike; the median ratio of neighbouring steps is given.
"""
import os
for name in 'OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS': os.environ.setdefault(name, '1')

import argparse, copy, json, time, warnings
from itertools import accumulate
from statistics import median
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry
from mtssl.encoding.encoder import count_parameters, encoders
from mtssl.core.files import versions

from measured import add_option, record

warnings.filterwarnings('ignore')
torch.set_num_threads(1)


def plain_pase(pase):
    "The same encoder, layer by layer as it stands in the paper"
    twin = copy.deepcopy(pase)
    sinc = twin.blocks[0].conv
    sinc.forward = lambda x: F.conv1d(x, sinc.filters()[:, None], padding=125)
    for block in twin.blocks[1:]:
        c = block.conv
        c.forward = lambda x, c=c: F.conv1d(F.pad(x, (0, c.kernel_size[0] % 2 == 0)), c.weight, c.bias, c.stride, c.padding)
    apply = lambda x, block: block.act(block.norm(block.conv(x)))
    twin.convolve = lambda wave: list(accumulate(twin.blocks, apply, initial=wave[:, None]))[1:]
    return twin


def step(encoder, wave):
    "CPU seconds of one training step"
    encoder.zero_grad()
    start = time.process_time()
    layers = encoder.layers(wave)
    sum(layer.square().mean() for layer in layers).backward()
    return time.process_time() - start


def against_plain(clips, seconds, repeats):
    "PASE's step and its ratio to the plain transcription's; how far outputs differ, and gradients in double precision, where no PReLU changes sides by rounding"
    torch.manual_seed(0)
    ours, wave = encoders.make('pase'), torch.randn(clips, int(16_000 * seconds)) / 10
    plain = plain_pase(ours)
    difference = lambda a, b: ((a - b).abs().max() / b.abs().max()).item()
    with torch.no_grad(): outputs = difference(ours(wave), plain(wave))
    exact = copy.deepcopy(ours).double()
    exact_plain = plain_pase(exact)
    for e in exact, exact_plain: step(e, wave[:2].double())
    gradients = difference(*(torch.cat([p.grad.flatten() for p in e.parameters()]) for e in (exact, exact_plain)))
    for e in ours, plain: step(e, wave)
    found = [(step(plain, wave), step(ours, wave)) for _ in range(repeats)]
    return dict(clips=clips, seconds=seconds, step=round(median(b for _, b in found), 3), plain=round(median(a for a, _ in found), 3),
                ratio=round(median(a / b for a, b in found), 2), outputs=outputs, gradients=gradients, parts=parts(ours, wave), plain_parts=parts(plain, wave))


class Parts(TorchDispatchMode):
    "Within it: CPU seconds in convolutions and matrix products and in all else, their GFLOP, and the GB that all else reads and writes"
    def __init__(self):
        super().__init__()
        self.found = dict(products=0., rest=0., gflop=0., rest_gb=0.)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        start, name = time.process_time(), func.name().partition('::')[2]
        out = func(*args, **(kwargs or {}))
        seconds, count = time.process_time() - start, flop_registry.get(func._overloadpacket)
        if name == '_linear_pointwise': flop = 2 * args[0].numel() * args[1].shape[0]
        else: flop = count(*args, **(kwargs or {}), out_val=out) if count else 0
        self.found['products' if flop else 'rest'] += seconds
        self.found['gflop'] += flop / 1e9
        if not flop and not func.is_view: self.found['rest_gb'] += sum(x.nbytes for x in tree_leaves((args, out)) if isinstance(x, torch.Tensor)) / 1e9
        return out


def parts(encoder, wave):
    "Where a training step spends its time"
    with Parts() as counted: step(encoder, wave)
    return {k: round(v, 2) for k, v in counted.found.items()}


def cost(name, clips, seconds, repeats):
    "Parameters and CPU seconds of a training step of one encoder"
    torch.manual_seed(0)
    encoder = encoders.make(name).train()
    wave = torch.randn(clips, int(encoder.sr * seconds)) / 10
    step(encoder, wave)
    return dict(encoder=name, parameters=count_parameters(encoder), step=round(min(step(encoder, wave) for _ in range(repeats)), 3))


def gflop(name):
    "GFLOP of a forward pass per second of audio, as torch counts them in convolutions and matrix products"
    encoder = encoders.make(name).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter: encoder(torch.zeros(1, 2 * encoder.sr))
    return round(counter.get_total_flops() / 2e9, 2)


def field(name, longest=16):
    "Seconds of sound that one frame depends on, measured on a narrow encoder of the same reach; 'clip' for all of the clip"
    torch.manual_seed(0)
    encoder = encoders.make({'tcn': 'tcn(width=16)', 'tcn2d': 'tcn2d(width=16)'}.get(name, f'{name}:tiny' if 'tiny' in encoders[name].sizes else name))
    seconds = 1
    while (found := encoder.receptive_field(seconds)) > .7 * seconds:
        if seconds >= longest: return 'clip'
        seconds *= 2
    return float(f'{found:.2g}')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--pase', action='store_true', help='only PASE beside its plain transcription')
    parser.add_argument('--encoders', nargs='*', help='names; all by default')
    parser.add_argument('--clips', type=int, default=16, help='clips in the batch')
    parser.add_argument('--seconds', type=float, default=2., help='length of a clip')
    parser.add_argument('--repeats', type=int, default=5, help='steps of each')
    parser.add_argument('--json', help='also write the figures here')
    add_option(parser)
    args = parser.parse_args()
    size = args.clips, args.seconds
    print(f'a training step of {args.clips} clips of {args.seconds:g} s, CPU-seconds, 1 thread')
    pase = against_plain(*size, args.repeats)
    print(f"pase {pase['step']:.2f}, plain transcription {pase['plain']:.2f}: {pase['ratio']:.2f} times; outputs differ by {pase['outputs']:.0e}, gradients by {pase['gradients']:.0e}")
    for key, title in dict(parts='pase', plain_parts='plain').items():
        print(f"{title:6}{{gflop:6.0f}} GFLOP in products in {{products:.2f}} s; the rest {{rest:.2f}} s, moving {{rest_gb:.0f}} GB".format(**pase[key]))
    rows = []
    for name in [] if args.pase else args.encoders or encoders:
        rows.append(cost(name, *size, args.repeats))
        print(f"{name:16}{rows[-1]['parameters']:>12,}{rows[-1]['step']:8.2f}", flush=True)
    if args.json:
        command = f'python benchmarks/encoders.py --json {args.json}'
        with open(args.json, 'w') as file: json.dump(dict(command=command, clips=args.clips, length=args.seconds, versions=versions(), pase=pase, rows=rows), file, indent=1)
        record('encoder', {r['encoder']: dict(field=field(r['encoder']), gflop=gflop(r['encoder']), step=round(r['step'], 2)) for r in rows}, args.measured, encoders)
