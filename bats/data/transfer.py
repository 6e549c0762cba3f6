"""One HTTP request for a file, written to disk as it comes, from the start or from where an earlier one stopped."""

import errno
import os

import requests
import urllib3
from tqdm import tqdm

CONNECT_SECONDS = 3.0  # for the name look-up and the connection to one host together
READ_SECONDS = 20.0  # of silence in the middle of a transfer
NO_CONNECTION = (requests.exceptions.ConnectTimeout, requests.exceptions.ProxyError, requests.exceptions.SSLError)
_BLOCK = 1 << 18


class MirrorFailed(Exception):
    """This mirror will not deliver: go to the next."""


class Interrupted(Exception):
    """This transfer stopped half-way or could not start for now: the same mirror deserves another attempt."""


def transfer(url, part, offset, size, progress):
    """One request, its body written to `part` from `offset`; True if it went on from earlier bytes."""
    if size and offset == size:
        return True  # complete already: the checksum decides
    # identity: the bytes of the file itself are wanted, not a compressed transfer of them
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
    try:
        response = requests.get(url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS))
    except NO_CONNECTION:
        raise
    except requests.exceptions.ReadTimeout as failure:
        raise Interrupted(f"no answer within {READ_SECONDS:g} s") from failure
    except requests.exceptions.ConnectionError as failure:  # accepted, then dropped before an answer came
        raise Interrupted(f"the connection broke off: {short(failure)}") from failure
    with response:
        status = response.status_code
        if status == 416:  # nothing after offset: complete, or longer than the file is there
            if _total_size(response) == offset:
                return True
            with writing(part, "remove the unusable download"):
                part.unlink()
            raise Interrupted(f"the {offset} bytes of an earlier download do not fit the file there")
        if status == 429 or status >= 500:
            raise Interrupted(f"HTTP {status} {response.reason}")
        if status not in (200, 206):
            raise MirrorFailed(f"HTTP {status} {response.reason}")
        resumed = status == 206 and offset > 0
        if resumed and _range_start(response) != offset:
            with writing(part, "remove the unusable download"):
                part.unlink()
            raise Interrupted(f"asked for the bytes from {offset}, received {response.headers.get('Content-Range')!r}")
        start = offset if resumed else 0  # a server that ignores Range sends everything again
        total = _total_size(response)
        if size is not None and total is not None and total != size:
            raise MirrorFailed(f"expected a file of {size} bytes, there it has {total}")
        _write(response, part, start, size if size is not None else total, progress)
    return resumed


def _write(response, part, start, total, progress):
    name = part.name.removesuffix(".part")
    bar = tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=name, disable=not progress)
    written = start
    with bar, writing(part, "write", lambda: f" ({written} bytes arrived and are kept)"):
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
        raise Interrupted(f"the transfer stopped after {written} of {total} bytes")


def _blocks(response):
    """Blocks of the raw body; a network failure becomes Interrupted, so that only the disk raises OSError."""
    try:
        yield from response.raw.stream(_BLOCK, decode_content=False)
    except (urllib3.exceptions.HTTPError, OSError) as failure:
        raise Interrupted(f"the transfer broke off: {short(failure)}") from failure


class writing:
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


def short(failure):
    text = " ".join(str(failure).split())
    return text if len(text) <= 200 else text[:197] + "..."
