"""What is made from the notebooks is up to date, and the notebooks are fit to be kept and shown."""
import ast, configparser, json, re, shutil, sys
from pathlib import Path

import pytest
import yaml
from conftest import root, run, tracked

notebooks = sorted(p for p in tracked() if p.suffix == '.ipynb' and p.parts[0] == 'nbs')
modules = sorted(p for p in tracked() if p.suffix == '.py' and p.parts[0] == 'mtssl')
limit = 250  # KB a notebook
elsewhere = re.compile(r'''(?:^|[\s'"(=:,])(/(?:tmp|home|root|Users|work|mnt|var|opt|private|workspace)/[^\s'"]*|[A-Z]:\\[^\s'"]+)''')
each_notebook = pytest.mark.parametrize('path', notebooks, ids=lambda p: p.relative_to('nbs').as_posix())
each_module = pytest.mark.parametrize('path', modules, ids=lambda p: p.name)


def fail(*lines): pytest.fail('\n'.join(map(str, lines)), pytrace=False)
def text(lines): return lines if isinstance(lines, str) else ''.join(lines)
def cells(path): return json.loads((root/path).read_text(encoding='utf-8'))['cells']
def code_cells(path): return [c for c in cells(path) if c['cell_type'] == 'code']
def outputs(path): return [o for c in code_cells(path) for o in c.get('outputs', [])]


def nbdev(what, folder):
    "Do `what`, a statement, in `folder` with a fresh nbdev"
    run(sys.executable, '-c', what, cwd=folder)


def changed(folder, paths):
    "Those of `paths` that differ between `folder` and the checkout"
    return [p for p in paths if not (folder/p).exists() or (folder/p).read_bytes() != (root/p).read_bytes()]


def test_export(checkout):
    shutil.rmtree(checkout/'mtssl')
    nbdev('from nbdev.export import nb_export; from nbdev.doclinks import nbdev_export; nbdev_export.__wrapped__();'
          'from nbdev.quarto import refresh_quarto_yml; refresh_quarto_yml()', checkout)
    made = [p.relative_to(checkout) for p in (checkout/'mtssl').rglob('*.py')]
    different = changed(checkout, [*modules, *made, Path('pyproject.toml'), Path('nbs/nbdev.yml')])
    if different: fail('These files are not what the notebooks and settings.ini give; run `make export` and commit them:', *sorted(set(different)))


def test_clean(checkout):
    nbdev('from nbdev.clean import nbdev_clean; nbdev_clean.__wrapped__()', checkout)
    different = changed(checkout, notebooks)
    if different: fail('These notebooks hold metadata that makes merges hard; run `.venv/bin/nbdev_clean` and commit them:', *different)


def test_readme():
    done = run(sys.executable, 'tools/readme.py', '--check', cwd=root, check=False)
    if done.returncode: fail(done.stderr or done.stdout)


def test_settings():
    from packaging.requirements import Requirement
    cfg = configparser.ConfigParser(delimiters='=', interpolation=None)
    cfg.read(root/'settings.ini')
    cfg = cfg['DEFAULT']
    project = (root/'pyproject.toml').read_text()
    for line in f'name="{cfg["lib_name"]}"', f'requires-python=">={cfg["min_python"]}"':
        if line not in project: fail(f'pyproject.toml lacks {line}, which settings.ini says; run `make export`.')
    if f'__version__ = "{cfg["version"]}"' not in (root/'mtssl/__init__.py').read_text():
        fail(f'mtssl.__version__ is not {cfg["version"]}, the version in settings.ini; run `make export`.')
    if f'## {cfg["version"]}' not in (root/'CHANGELOG.md').read_text(): fail(f'CHANGELOG.md has no section for version {cfg["version"]}.')
    names = [Requirement(r).name for key in ('requirements', 'dev_requirements') for r in cfg[key].split()]
    twice = {n for n in names if names.count(n) > 1}
    if twice: fail(f'settings.ini requires {", ".join(sorted(twice))} more than once.')


def test_sidebar():
    def listed(contents):
        for item in contents: yield from [item] if isinstance(item, str) else listed(item.get('contents', [item.get('href')]))
    site = yaml.safe_load((root/'_quarto.yml').read_text())['website']['sidebar']['contents']
    listed, there = set(listed(site)), {p.relative_to('nbs').as_posix() for p in notebooks}
    if there - listed: fail('The sidebar in _quarto.yml does not lead to these notebooks:', *sorted(there - listed))
    if listed - there: fail('The sidebar in _quarto.yml lists notebooks that git does not track:', *sorted(listed - there))


def test_quarto_link():
    link = root/'nbs/_quarto.yml'
    if not link.is_symlink() or link.resolve() != root/'_quarto.yml': fail('nbs/_quarto.yml must be a symbolic link to ../_quarto.yml.')


@each_notebook
def test_size(path):
    size = (root/path).stat().st_size / 1000
    if size > limit: fail(f'{path} has {size:.0f} KB, and {limit} is the most: make its figures smaller or its sounds shorter.')


@each_notebook
def test_outputs(path):
    for out in outputs(path):
        if out['output_type'] == 'error': fail(f'{path} keeps a traceback; mend the cell and run tools/execute.py: {out.get("evalue")}')
        if out.get('name') == 'stderr': fail(f'{path} keeps what a cell wrote to standard error; run tools/execute.py: {text(out["text"])[:200]}')
        shown = [out.get('text', ''), *(v for k, v in out.get('data', {}).items() if k.startswith('text/'))]
        shown = re.sub(r'data:[^"\']*', '', '\n'.join(map(text, shown)))
        if 'Traceback (most recent call last)' in shown: fail(f'{path} prints a traceback; show the message alone.')
        found = elsewhere.search(shown)
        if found: fail(f'{path} shows a path of the machine it ran on, {found[1]}; show it relative to a folder.')


@each_notebook
def test_cells(path):
    for cell in code_cells(path):
        source = text(cell['source'])
        code = re.sub(r'^\s*[%!].*$', '', source, flags=re.M)
        tree = ast.parse(code).body
        imports = [isinstance(n, (ast.Import, ast.ImportFrom)) for n in tree]
        if any(imports) and not all(imports): fail(f'{path}: a cell mixes imports with other code, and the documentation would run it alone; put the imports in a cell before it:', source)
        exported = re.search(r'^#\| *exports?i?\b', source, re.M)
        if not exported and not all(imports) and any(isinstance(n, (ast.Import, ast.ImportFrom)) for t in tree for n in ast.walk(t)):
            fail(f'{path}: a cell that is not exported imports inside other code, and the documentation would run it alone; put the imports in a cell before it:', source)


@each_notebook
def test_form(path):
    first = cells(path)[0]
    if first['cell_type'] != 'markdown' or not re.fullmatch(r'# [^\n]+\n+> [^\n]+\n*(- [\w-]+: [^\n]+\n*)*', text(first['source'])):
        fail(f'{path}: the first cell must be `# Title` and `> one line`, and nothing else: the rest would vanish from the site.')
    missing = [c for c in cells(path) if 'id' not in c]
    if missing: fail(f'{path} has cells without an id, so every export would rewrite its module; run `.venv/bin/nbdev_clean`.')


@each_module
def test_docstrings(path):
    tree = ast.parse((root/path).read_text(encoding='utf-8'))
    public = [n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not n.name.startswith('_')]
    bare = [n.name for n in public if not ast.get_docstring(n)]
    if bare: fail(f'{path} exports without a docstring: {", ".join(bare)}. Say in one line what each does.')


@each_module
def test_defined_once(path):
    tree = ast.parse((root/path).read_text(encoding='utf-8'))
    names = [n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and 'patch' not in map(ast.unparse, n.decorator_list)]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice: fail(f'{path} defines {", ".join(twice)} more than once: is a cell of its notebook there twice?')
