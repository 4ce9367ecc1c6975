"""A stand-in for the Hugging Face Hub: a real HTTP server on this machine that speaks what an upload needs.

It keeps what it is sent, so that a test can compare: repositories with their files and commits, and every request with its
headers. Files ending in `.parquet` travel by LFS, the others inside the commit, as on the Hub.

    with Hub(token='hf_secret') as hub:
        HfApi(endpoint=hub.url, token='hf_secret').create_repo('me/pets', repo_type='dataset')
        hub.repos['me/pets'].files
"""
import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace


class Hub:
    """The server and what it was sent.

    `answers` overrides: a path (or the start of one) with the status and the body to answer; `broken_uploads` is how many
    uploads of large files fail with 500 before one is taken.
    """

    def __init__(self, token, answers=None, broken_uploads=0):
        self.token, self.answers, self.broken_uploads = token, dict(answers or {}), broken_uploads
        self.repos, self.large, self.requests = {}, {}, []

    def __enter__(self):
        handler = type('Handler', (_Handler,), {'hub': self})
        self.server = ThreadingHTTPServer(('127.0.0.1', 0), handler)
        self.url = f'http://127.0.0.1:{self.server.server_port}'
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()

    def add(self, repo, private):
        self.repos[repo] = SimpleNamespace(private=private, files={}, commits=[])

    # ---- what the Hub does; each returns a status and a body

    def create(self, body):
        repo = f"{body['organization'] or 'me'}/{body['name']}"
        url = {'url': f'{self.url}/datasets/{repo}'}
        if repo in self.repos: return 409, url | {'error': 'You already created this dataset repo'}
        assert body['type'] == 'dataset', body
        self.add(repo, body.get('visibility') == 'private' or body.get('private', False))
        return 200, url

    def info(self, repo):
        found = self.repos[repo]
        return 200, {'id': repo, '_id': '1', 'private': found.private, 'sha': (found.commits or ['0'*40])[-1], 'siblings': [{'rfilename': name} for name in found.files],
                     'downloads': 0, 'likes': 0, 'tags': [], 'disabled': False, 'gated': False}

    def preupload(self, body):
        mode = {True: 'lfs', False: 'regular'}
        return 200, {'files': [{'path': f['path'], 'uploadMode': mode[f['path'].endswith('.parquet')], 'shouldIgnore': False} for f in body['files']]}

    def batch(self, body):
        assert body['operation'] == 'upload' and body['hash_algo'] == 'sha256'
        def actions(oid): return {} if oid in self.large else {'actions': {'upload': {'href': f'{self.url}/storage/{oid}'}, 'verify': {'href': f'{self.url}/verify'}}}
        return 200, {'transfer': 'basic', 'objects': [{'oid': o['oid'], 'size': o['size'], **actions(o['oid'])} for o in body['objects']]}

    def store(self, oid, content):
        if self.broken_uploads:
            self.broken_uploads -= 1
            return 500, {}
        if hashlib.sha256(content).hexdigest() != oid: return 400, {'error': 'the content is not what was announced'}
        self.large[oid] = content
        return 200, {}

    def verify(self, body): return (200, {}) if len(self.large.get(body['oid'], b'')) == body['size'] else (400, {'error': 'not stored'})

    def commit(self, repo, lines):
        found, (header, *operations) = self.repos[repo], [json.loads(line) for line in lines.splitlines()]
        assert header['key'] == 'header' and header['value']['summary']
        for operation in operations:
            value = operation['value']
            if operation['key'] == 'file': found.files[value['path']] = base64.b64decode(value['content'])
            elif operation['key'] == 'lfsFile': found.files[value['path']] = self.large[value['oid']]
            else: raise AssertionError(operation['key'])
        oid = hashlib.sha1(lines).hexdigest()
        found.commits.append(oid)
        return 200, {'commitUrl': f'{self.url}/datasets/{repo}/commit/{oid}', 'commitOid': oid, 'success': True}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *_): pass

    def body(self):
        if 'chunked' not in self.headers.get('Transfer-Encoding', ''): return self.rfile.read(int(self.headers.get('Content-Length') or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b''.join(parts)

    def reply(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {'Content-Type': 'application/json', 'Content-Length': len(data), 'X-Request-Id': 'stand-in'}.items(): self.send_header(name, str(value))
        if 'error' in body: self.send_header('X-Error-Message', ' '.join(str(body['error']).split()))
        self.end_headers()
        self.wfile.write(data)

    def handle_one(self):
        hub, content = self.hub, self.body()
        hub.requests.append(SimpleNamespace(method=self.command, path=self.path, headers=dict(self.headers), body=content))
        for start, answer in hub.answers.items():
            if self.path.startswith(start): return self.reply(*answer)
        path = self.path.split('?')[0]
        if oid := re.fullmatch(r'/storage/(\w+)', path):                          # storage is signed by its address, and never shown the key
            return self.reply(*(hub.store(oid[1], content) if 'Authorization' not in self.headers else (400, {'error': 'a key was sent to the storage'})))
        if self.headers.get('Authorization') != f'Bearer {hub.token}': return self.reply(401, {'error': 'Invalid username or password.'})
        return self.reply(*self.route(path, content))

    def route(self, path, content):
        hub, data = self.hub, None if path.endswith('/commit/main') or not content else json.loads(content)
        if path == '/api/repos/create': return hub.create(data)
        if path == '/api/validate-yaml': return 200, {'errors': [], 'warnings': []}
        if path == '/verify': return hub.verify(data)
        found = re.fullmatch(r'(?:/api)?/datasets/([\w.-]+/[\w-]+)(\.git/info/lfs/objects/batch|/preupload/main|/commit/main|)', path)
        if not found or found[1] not in hub.repos: return 404, {'error': 'Repository not found'}
        if found[2] == '': return hub.info(found[1])
        if found[2] == '/commit/main': return hub.commit(found[1], content)
        return hub.preupload(data) if found[2] == '/preupload/main' else hub.batch(data)

    do_GET = do_POST = do_PUT = do_HEAD = handle_one
