"""Print what CHANGELOG.md says of a version: `python tests/tools/changelog_entry.py v0.1.0`.

The release workflow takes it for the notes of a release. The version has to be that of settings.ini, so that a tag on the wrong
commit publishes nothing; `--any` prints older ones too.
"""
import argparse
import re
import sys
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAD = re.compile(r'(?m)^## \[([^\]\n]+)\].*$')


def entries(text):
    "What a changelog says of each version, by version, without the links at its end."
    text = re.sub(r'(?m)^\[[^\]\n]+\]: .*\n?', '', text)
    parts = HEAD.split(text)
    return {version: said.strip() for version, said in zip(parts[1::2], parts[2::2])}


def entry(text, version):
    "What a changelog says of a version; ValueError where that is nothing."
    found = entries(text)
    if found.get(version): return found[version]
    what = 'has no text below' if version in found else 'has no heading'
    raise ValueError(f'CHANGELOG.md {what} ## [{version}]; it has {", ".join(found)}')


def current(settings):
    "The version in the text of settings.ini."
    config = ConfigParser(delimiters=['='])
    config.read_string(settings)
    return config['DEFAULT']['version']


def release_notes(tag, changelog, settings, any_version=False):
    "The notes for a tag such as v0.1.0; ValueError where it is no tag of a version, or of another one."
    if not re.fullmatch(r'v?\d+(\.\d+)*([a-z]+\d+)?', tag): raise ValueError(f'{tag!r} is no version: give one such as v0.1.0')
    version = tag.removeprefix('v')
    if not any_version and version != current(settings):
        raise ValueError(f'settings.ini has the version {current(settings)}, not {version}: change one of them')
    return entry(changelog, version)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('tag')
    parser.add_argument('--any', action='store_true', dest='any_version', help='also a version that is not the present one')
    asked = parser.parse_args(arguments)
    texts = [(ROOT/name).read_text(encoding='utf-8') for name in ('CHANGELOG.md', 'settings.ini')]
    try: notes = release_notes(asked.tag, *texts, asked.any_version)
    except ValueError as error: sys.exit(str(error))
    sys.stdout.reconfigure(encoding='utf-8')
    print(notes)


if __name__ == '__main__': main()
