"Packaging; every value comes from settings.ini, which nbdev reads too."
import re
import shlex
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
config = ConfigParser(delimiters=['='])
config.read(here/'settings.ini', encoding='utf-8')
cfg = config['DEFAULT']
lib = cfg['lib_path']
extra = '_requirements'                        # the key `dev_requirements` is the extra `dev`
home = cfg['git_url']


def text(name): return (here/name).read_text(encoding='utf-8')


def absolute_links(markdown, home, branch):
    "Links and pictures of a Markdown text in the repository with their full addresses, for pages elsewhere."
    def address(match):
        start, path = match.groups()
        kind = 'raw' if start.startswith('!') else 'blob'                # a page shows the file itself only from raw/
        return f'{start}{home}/{kind}/{branch}/{path}'
    return re.sub(r'(!?\[[^\]]*\]\()(?![a-z]+:|#)([^)\s]+)', address, markdown)


setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    long_description=f"{absolute_links(text('README.md'), home, cfg['branch'])}\n## Notice\n\n```text\n{text('NOTICE')}```\n",      # pocket's data: nobody should miss it
    long_description_content_type='text/markdown',
    author=cfg['author'],
    author_email=cfg['author_email'] or None,
    url=home,
    project_urls={'Documentation': cfg['doc_host'] + cfg['doc_baseurl'], 'Source': home,
                  'Changelog': f"{home}/blob/{cfg['branch']}/CHANGELOG.md", 'Issues': f'{home}/issues'},
    classifiers=cfg['classifiers'].strip().splitlines(),
    keywords=cfg['keywords'].split(),
    license_expression={'apache2': 'Apache-2.0'}[cfg['license']],
    license_files=['LICENSE', 'NOTICE'],
    python_requires=f">={cfg['min_python']}",
    packages=find_packages(include=[lib, f'{lib}.*']),
    package_data={lib: ['py.typed', '__init__.pyi', '*/__init__.pyi', 'resources/**/*']},
    include_package_data=False,
    install_requires=shlex.split(cfg['requirements']),
    extras_require={key.removesuffix(extra): shlex.split(value) for key, value in cfg.items() if key.endswith(extra)},
    entry_points={
        'console_scripts': shlex.split(cfg['console_scripts']),
        'nbdev': [f'{lib}={lib}._modidx:d'],
    },
)
