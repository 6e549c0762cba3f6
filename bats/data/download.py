"""Downloads of single files: mirrors in order, resumed, checked, and moved into place only when complete."""

import errno
import hashlib
import os
import socket
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import requests
import urllib3
from tqdm import tqdm

from bats.data.catalogue import RemoteFile

CONNECT_SECONDS = 3.0  # for the name look-up and the connection to one host together
READ_SECONDS = 20.0  # of silence in the middle of a transfer
ATTEMPTS = 3  # transfers from one mirror before the next is tried; each goes on where the last one stopped
PAUSE_SECONDS = 0.5  # before a second attempt, doubled each time
_BLOCK = 1 << 18
_NO_CONNECTION = (requests.exceptions.ConnectTimeout, requests.exceptions.ProxyError, requests.exceptions.SSLError)


class DownloadError(OSError):
    """No mirror delivered the file; the message gives the reason of each and the way to proceed without a network.

    reasons: [(url, reason)], one per mirror, for a shorter message.
    """

    def __init__(self, message, reasons=()):
        super().__init__(message)
        self.reasons = list(reasons)


class _MirrorFailed(Exception):
    """This mirror will not deliver: go to the next."""


class _Interrupted(Exception):
    """This transfer stopped half-way or could not start for now: the same mirror deserves another attempt."""


def sha256_of(path):
    """Lower-case hexadecimal SHA-256 of a file; OSError if it cannot be read."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def fetch(urls, destination, sha256, size=None, progress=True, unreachable=None, force=False):
    """Downloads one file and returns its path (pathlib.Path).

    urls         mirrors of the same file, tried in order (a single string is one mirror).
    destination  the file to make; its folder is created. If it exists with the right checksum nothing is done; with a
                 wrong one it is replaced, once the new file is complete.
    sha256       expected checksum, 64 hexadecimal digits. The file gets its name only after it matched.
    size         expected bytes, if known: a mirror that announces another size is not read.
    progress     show a progress bar on stderr.
    unreachable  a set of host names that did not answer before; they are skipped, and those found now are added.
    force        True downloads a destination again that exists with the right checksum.

    An incomplete transfer stays beside the destination as `<name>.part` and is resumed by the next call.
    Raises DownloadError (an OSError) if every mirror failed, OSError (PermissionError, ...) if the file cannot be
    written, ValueError for a malformed checksum or an empty list of mirrors.
    """
    urls = [urls] if isinstance(urls, str) else list(urls)
    sha256 = str(sha256).lower()
    if not urls:
        raise ValueError("fetch: expected at least one URL, received none")
    if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        raise ValueError(f"fetch: expected a SHA-256 of 64 hexadecimal digits, received {sha256!r}")
    destination = Path(destination)
    unreachable = set() if unreachable is None else unreachable
    if not force and destination.is_file() and sha256_of(destination) == sha256:
        return destination
    with _writing(destination.parent, "create the folder"):
        destination.parent.mkdir(parents=True, exist_ok=True)
    part = destination.with_name(destination.name + ".part")
    reasons = []
    for url in urls:
        try:
            _from_mirror(url, part, sha256, size, progress, unreachable)
        except _MirrorFailed as failure:
            reasons.append((url, str(failure)))
            continue
        with _writing(destination, "put the finished download in place as"):
            os.replace(part, destination)
        return destination
    wanted = RemoteFile(destination.name, sha256, size, tuple(urls))
    raise DownloadError(advice(destination.name, [wanted], destination.parent, reasons), reasons)


def advice(title, files, folder, reasons):
    """Message of a DownloadError: what failed, and how to go on without a network.

    title    how to call what could not be had.
    files    objects with .name, .sha256 and .urls (bats.data.catalogue.RemoteFile), all of which are needed.
    folder   where they belong.
    reasons  [(url, reason)].
    """
    lines = [f"{title} could not be downloaded:"]
    lines += [f"  {url}\n      {reason}" for url, reason in reasons]
    lines += ["To go on without a network on this machine, download on another one"]
    lines += [f"  {file.urls[0]}\n      (sha256 {file.sha256})" for file in files]
    lines += [f"and put it into the folder {Path(folder).absolute()},"]
    lines += ["or into any other folder and set the environment variable BATS_DATA to that folder."]
    return "\n".join(lines)


def _from_mirror(url, part, sha256, size, progress, unreachable):
    """Leaves the complete, checked file in `part`, or raises _MirrorFailed with the reason."""
    host = urlsplit(url).hostname or ""
    if host in unreachable:
        raise _MirrorFailed(f"{host} did not answer before")
    reason = _unreachable_reason(url)
    if reason:
        unreachable.add(host)
        raise _MirrorFailed(reason)
    attempt, last = 0, ""
    while attempt < ATTEMPTS:
        if attempt:
            time.sleep(PAUSE_SECONDS * 2 ** (attempt - 1))
        attempt += 1
        offset = _resume_offset(part, size)
        try:
            resumed = _transfer(url, part, offset, size, progress)
        except _Interrupted as failure:
            last = str(failure)
            continue
        except _NO_CONNECTION as failure:
            unreachable.add(host)
            raise _MirrorFailed(f"no connection: {_short(failure)}") from failure
        except requests.exceptions.RequestException as failure:
            raise _MirrorFailed(f"{type(failure).__name__}: {_short(failure)}") from failure
        found = sha256_of(part)
        if found == sha256:
            return
        last = f"wrong checksum: expected sha256 {sha256}, received {found} ({part.stat().st_size} bytes)"
        with _writing(part, "remove the incomplete download"):
            part.unlink()
        if not resumed:  # the mirror itself delivers something else; a bad .part would be worth another attempt
            raise _MirrorFailed(last)
    raise _MirrorFailed(f"{last} (after {ATTEMPTS} attempts)")


def _resume_offset(part, size):
    """Bytes of an earlier transfer that can be kept."""
    if not part.is_file():
        return 0
    offset = part.stat().st_size
    return 0 if size is not None and offset > size else offset


def _transfer(url, part, offset, size, progress):
    """One request, its body written to `part` from `offset`; True if it went on from earlier bytes."""
    if size is not None and offset == size:
        return True  # complete already: the checksum decides
    # identity: the bytes of the file itself are wanted, not a compressed transfer of them
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
    try:
        response = requests.get(url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS))
    except _NO_CONNECTION:
        raise
    except requests.exceptions.ReadTimeout as failure:
        raise _Interrupted(f"no answer within {READ_SECONDS:g} s") from failure
    except requests.exceptions.ConnectionError as failure:  # accepted, then dropped before an answer came
        raise _Interrupted(f"the connection broke off: {_short(failure)}") from failure
    with response:
        status = response.status_code
        if status == 416:  # nothing after offset: complete, or longer than the file is there
            if _total_size(response) == offset:
                return True
            with _writing(part, "remove the unusable download"):
                part.unlink()
            raise _Interrupted(f"the {offset} bytes of an earlier download do not fit the file there")
        if status == 429 or status >= 500:
            raise _Interrupted(f"HTTP {status} {response.reason}")
        if status not in (200, 206):
            raise _MirrorFailed(f"HTTP {status} {response.reason}")
        resumed = status == 206 and offset > 0
        if resumed and _range_start(response) != offset:
            with _writing(part, "remove the unusable download"):
                part.unlink()
            raise _Interrupted(f"asked for the bytes from {offset}, received {response.headers.get('Content-Range')!r}")
        start = offset if resumed else 0  # a server that ignores Range sends everything again
        total = _total_size(response)
        if size is not None and total is not None and total != size:
            raise _MirrorFailed(f"expected a file of {size} bytes, there it has {total}")
        _write(response, part, start, size if size is not None else total, progress)
    return resumed


def _write(response, part, start, total, progress):
    name = part.name.removesuffix(".part")
    bar = tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=name, disable=not progress)
    written = start
    with bar, _writing(part, "write", lambda: f" ({written} bytes arrived and are kept)"):
        with open(part, "r+b" if start else "wb") as file:
            file.seek(start)
            for block in _blocks(response):
                file.write(block)
                written += len(block)
                bar.update(len(block))
                if total is not None and written > total:
                    break
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
    if total is not None and written < total:
        raise _Interrupted(f"the transfer stopped after {written} of {total} bytes")


def _blocks(response):
    """Blocks of the raw body; a network failure becomes _Interrupted, so that only the disk raises OSError."""
    try:
        yield from response.raw.stream(_BLOCK, decode_content=False)
    except (urllib3.exceptions.HTTPError, OSError) as failure:
        raise _Interrupted(f"the transfer broke off: {_short(failure)}") from failure


class _writing:
    """Turns an OSError inside into one of the same kind whose message names the file, the cause and the remedy."""

    def __init__(self, path, action, suffix=lambda: ""):
        self.path, self.action, self.suffix = path, action, suffix

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if not isinstance(error, OSError) or isinstance(error, requests.exceptions.RequestException):
            return False
        remedy = "choose another folder with BATS_DATA or --out"
        if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
            remedy = f"free some space and repeat the download, or {remedy}"
        text = f"cannot {self.action} {self.path}: {error.strerror or error}{self.suffix()}; {remedy}"
        raise OSError(error.errno or errno.EIO, text) from error


def _range_start(response):
    unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
    first = rest.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdigit() else None


def _total_size(response):
    """Bytes of the whole file according to the server, or None."""
    if response.status_code in (206, 416):
        text = response.headers.get("Content-Range", "").rpartition("/")[2]
    else:
        text = response.headers.get("Content-Length", "")
    return int(text) if text.isdigit() else None


def _unreachable_reason(url):
    """None if the host of `url` accepts a connection within CONNECT_SECONDS, otherwise why not.

    A look-up of names has no time limit of its own and a large host has many addresses, each with its own; without this
    check a machine behind a closed firewall would wait for minutes. Behind a proxy there is nothing to check.
    """
    if requests.utils.get_environ_proxies(url):
        return None
    parts = urlsplit(url)
    if not parts.hostname:
        return f"not a URL with a host: {url!r}"
    outcome = [f"no connection to {parts.hostname} within {CONNECT_SECONDS:g} s"]

    def connect():
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((parts.hostname, port), timeout=CONNECT_SECONDS / 2).close()
            outcome[0] = None
        except OSError as failure:
            outcome[0] = f"no connection to {parts.hostname}: {failure.strerror or failure}"

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS)
    return outcome[0]


def _short(failure):
    text = " ".join(str(failure).split())
    return text if len(text) <= 200 else text[:197] + "..."
