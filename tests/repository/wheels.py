"""Little wheels that hold one shell script each, for tests of installing that need no network."""

import base64
import hashlib
import stat
import zipfile
from pathlib import Path


def write_wheel(folder: Path, *, package: str, version: str, program: str, script: str) -> str:
    """Write a wheel that installs ``script`` as ``program``; return its line for a requirements file, with its hash."""
    stem = f"{package.replace('-', '_')}-{version}"
    files = {
        f"{stem}.data/scripts/{program}": script,
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n",
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{stem}.dist-info/RECORD"] = "".join(_record(name, text) for name, text in files.items())
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (stat.S_IFREG | 0o755) << 16
            archive.writestr(entry, text)
    return f"{package}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


def _record(name: str, text: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(text.encode())}\n"
