"""Where the benchmarks leave the numbers that the package's tables show: one section per kind of thing in `mtssl/measured.json`.

    from measured import add_option, record
    record('target', {'mfcc': {'cost': 15}}, args.measured)

A run of a few things updates only these; what is no longer registered is removed by `known`.
"""
import json
from pathlib import Path

path = Path(__file__).resolve().parents[1]/'mtssl'/'measured.json'


def add_option(parser):
    "The option `--measured FILE` of a benchmark, the package's own file unless it says another"
    parser.add_argument('--measured', default=path, help='with --json: also update this file, from which tables take what was measured')


def layout(sections):
    "Sections as JSON text, one line per name, so that a change is one line of a diff"
    def lines(section): return ',\n'.join(f'  {json.dumps(name)}: {json.dumps(facts)}' for name, facts in section.items())
    return '{\n' + ',\n'.join(f' {json.dumps(kind)}: {{\n{lines(section)}\n }}' for kind, section in sections.items()) + '\n}\n'


def record(kind, values, file=path, known=None):
    "Update the section `kind` with `values`, a dict from name to facts; names that are not in `known`, if given, leave the section"
    file = Path(file)
    sections = json.loads(file.read_text()) if file.exists() else {}
    section = sections.get(kind, {})
    for name, facts in values.items(): section[name] = section.get(name, {}) | facts
    sections[kind] = {name: facts for name, facts in section.items() if known is None or name in known}
    file.write_text(layout(sections))
