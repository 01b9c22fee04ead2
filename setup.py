"""Everything `pyproject.toml` declares dynamic, from `settings.ini`, the one place where the project is described."""
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

root = Path(__file__).parent
parser = ConfigParser(delimiters='=', interpolation=None)
parser.read(root/'settings.ini', encoding='utf-8')
cfg = parser['DEFAULT']
lib, repository = cfg['lib_name'], cfg['git_url']

licences = {'apache2': 'Apache-2.0'}
stages = ['1 - Planning', '2 - Pre-Alpha', '3 - Alpha', '4 - Beta', '5 - Production/Stable', '6 - Mature', '7 - Inactive']
first = tuple(map(int, cfg['min_python'].split('.')))
pythons = [f'3.{minor}' for minor in range(first[1], 14)]
readme = (root/'README.md').read_text(encoding='utf-8')  # the index of packages has no files beside it: links become absolute
for folder, view in ('nbs/images/', 'raw'), ('nbs/', 'blob'): readme = readme.replace(f']({folder}', f"]({repository}/{view}/{cfg['branch']}/{folder}")

setup(
    version=cfg['version'],
    description=cfg['description'],
    long_description=readme,
    long_description_content_type='text/markdown',
    keywords=cfg['keywords'].split(),
    license=licences[cfg['license']],
    license_files=['LICENSE'],
    author=cfg['author'],
    author_email=cfg['author_email'],
    url=repository,
    project_urls={'Documentation': cfg['doc_host'] + cfg['doc_baseurl'], 'Source': repository,
                  'Issues': f'{repository}/issues', 'Changes': f"{repository}/blob/{cfg['branch']}/CHANGELOG.md"},
    classifiers=[f"Development Status :: {stages[int(cfg['status']) - 1]}",
                 f"Intended Audience :: {cfg['audience']}", 'Intended Audience :: Science/Research',
                 f"Natural Language :: {cfg['language']}", 'Operating System :: OS Independent',
                 'Typing :: Typed', 'Topic :: Multimedia :: Sound/Audio :: Analysis', 'Topic :: Scientific/Engineering :: Artificial Intelligence',
                 *(f'Programming Language :: Python :: {v}' for v in ['3', *pythons])],
    packages=find_packages(include=[lib, f'{lib}.*']),
    package_data={lib: ['py.typed', '*.json', 'studies/*.yaml', 'embedding/map.*', 'pretrained/*/*']},
    python_requires=f">={cfg['min_python']}",
    install_requires=cfg['requirements'].split(),
    extras_require={key.removesuffix('_requirements'): cfg[key].split() for key in cfg if key.endswith('_requirements')},
    entry_points={'console_scripts': cfg['console_scripts'].split(), 'nbdev': [f'{lib}={lib}._modidx:d']},
    zip_safe=False,
)
