"""Downloads of single files: mirrors in order, resumed, checked, and moved into place only when complete."""

import hashlib
import os
import socket
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import requests

from bats.data.catalogue import RemoteFile
from bats.data.transfer import CONNECT_SECONDS, NO_CONNECTION, Interrupted, MirrorFailed, short, transfer, writing

ATTEMPTS = 3  # transfers from one mirror before the next is tried; each goes on where the last one stopped
PAUSE_SECONDS = 0.5  # before a second attempt, doubled each time
_BLOCK = 1 << 18


class DownloadError(OSError):
    """No mirror delivered the file; the message gives the reason of each and the way to proceed without a network.

    reasons: [(url, reason)], one per mirror, for a shorter message.
    """

    def __init__(self, message, reasons=()):
        super().__init__(message)
        self.reasons = list(reasons)


def sha256_of(path):
    """Lower-case hexadecimal SHA-256 of a file; OSError if it cannot be read."""
    return _digest(path, hashlib.sha256())


def checksum_like(path, checksum):
    """The checksum of a file, of the kind of another one: SHA-256 for 64 hexadecimal digits, MD5 for 32."""
    return sha256_of(path) if len(checksum) == 64 else _digest(path, hashlib.md5(usedforsecurity=False))


def _digest(path, digest):
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _kind(checksum):
    return "sha256" if len(checksum) == 64 else "md5"


def fetch(urls, destination, checksum, size=None, progress=True, unreachable=None, force=False):
    """Downloads one file and returns its path (pathlib.Path).

    urls         mirrors of the same file, tried in order (a single string is one mirror).
    destination  the file to make; its folder is created. If it exists with the right checksum nothing is done; with a
                 wrong one it is replaced, once the new file is complete.
    checksum     the one expected: 64 hexadecimal digits, SHA-256, or 32, MD5 (where nothing else was published). The
                 file gets its name only after it matched.
    size         expected bytes, if known: a mirror that announces another size is not read.
    progress     show a progress bar on stderr.
    unreachable  a set of hosts (host:port as in the URL) that did not answer before; they are skipped, and those found
                 now are added.
    force        True downloads a destination again that exists with the right checksum.

    An incomplete transfer stays beside the destination as `<name>.part` and is resumed by the next call.
    Raises DownloadError (an OSError) if every mirror failed, OSError (PermissionError, ...) if the file cannot be
    written, ValueError for a malformed checksum or an empty list of mirrors.
    """
    urls = [urls] if isinstance(urls, str) else list(urls)
    checksum = str(checksum).lower()
    if not urls:
        raise ValueError("fetch: expected at least one URL, received none")
    if len(checksum) not in (32, 64) or set(checksum) - set("0123456789abcdef"):
        raise ValueError(f"fetch: expected an MD5 of 32 or a SHA-256 of 64 hexadecimal digits, received {checksum!r}")
    destination = Path(destination)
    unreachable = set() if unreachable is None else unreachable
    if not force and destination.is_file() and checksum_like(destination, checksum) == checksum:
        return destination
    with writing(destination.parent, "create the folder"):
        destination.parent.mkdir(parents=True, exist_ok=True)
    part = destination.with_name(destination.name + ".part")
    reasons = []
    for url in urls:
        try:
            _from_mirror(url, part, checksum, size, progress, unreachable)
        except MirrorFailed as failure:
            reasons.append((url, str(failure)))
            continue
        with writing(destination, "put the finished download in place as"):
            os.replace(part, destination)
        return destination
    sums = (checksum, None) if _kind(checksum) == "sha256" else (None, checksum)
    wanted = RemoteFile(destination.name, sums[0], size, tuple(urls), sums[1])
    raise DownloadError(advice(destination.name, [wanted], destination.parent, reasons), reasons)


def advice(title, files, folder, reasons, then=None):
    """Message of a DownloadError: what failed, and how to go on without a network.

    title    how to call what could not be had.
    files    bats.data.catalogue.RemoteFile objects, all of which are needed.
    folder   where they belong.
    reasons  [(url, reason)].
    then     what else is to be done once they are there; None: nothing, and any folder of BATS_DATA will do as well.
    """
    lines = [f"{title} could not be downloaded:"]
    lines += [f"  {url}\n      {reason}" for url, reason in reasons]
    lines += ["To go on without a network on this machine, download on another one"]
    for file in files:
        renamed = "" if file.urls[0].endswith(f"/{file.name}") else f"as {file.name}, "
        lines += [f"  {file.urls[0]}\n      ({renamed}{_kind(file.checksum)} {file.checksum})"]
    lines += [f"and put it into the folder {Path(folder).absolute()},"]
    lines += [then or "or into any other folder and set the environment variable BATS_DATA to that folder."]
    return "\n".join(lines)


def _from_mirror(url, part, checksum, size, progress, unreachable):
    """Leaves the complete, checked file in `part`, or raises MirrorFailed with the reason."""
    host = urlsplit(url).netloc
    if host in unreachable:
        raise MirrorFailed(f"{host} did not answer before")
    reason = _unreachable_reason(url)
    if reason:
        unreachable.add(host)
        raise MirrorFailed(reason)
    attempt, last = 0, ""
    while attempt < ATTEMPTS:
        if attempt:
            time.sleep(PAUSE_SECONDS * 2 ** (attempt - 1))
        attempt += 1
        offset = _resume_offset(part, size)
        try:
            resumed = transfer(url, part, offset, size, progress)
        except Interrupted as failure:
            last = str(failure)
            continue
        except NO_CONNECTION as failure:
            unreachable.add(host)
            raise MirrorFailed(f"no connection: {short(failure)}") from failure
        except requests.exceptions.RequestException as failure:
            raise MirrorFailed(f"{type(failure).__name__}: {short(failure)}") from failure
        found = checksum_like(part, checksum)
        if found == checksum:
            return
        last = f"wrong checksum: expected {_kind(checksum)} {checksum}, received {found} ({part.stat().st_size} bytes)"
        with writing(part, "remove the incomplete download"):
            part.unlink()
        if not resumed:  # the mirror itself delivers something else; a bad .part would be worth another attempt
            raise MirrorFailed(last)
    raise MirrorFailed(f"{last} (after {ATTEMPTS} attempts)")


def _resume_offset(part, size):
    """Bytes of an earlier transfer that can be kept."""
    if not part.is_file():
        return 0
    offset = part.stat().st_size
    return 0 if size is not None and offset > size else offset


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
