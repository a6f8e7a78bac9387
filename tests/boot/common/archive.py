# SPDX-License-Identifier: GPL-2.0
"""Makes the packages that scenarios install, and flat archives of packages.

A line of sources.list for one of them is `deb [trusted=yes] file:/srv/archive NAME/`.
"""

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path


def build(folder, name, version, files=None, scripts=None, **fields):
    """Builds package NAME in FOLDER. FILES are path to contents, SCRIPTS those of the maintainer by name.

    A file whose contents begin with #! is executable. FIELDS are more fields of the control file, with _ for -.
    """
    control = {
        "Package": name, "Version": version, "Architecture": "all", "Section": "misc", "Priority": "optional",
        "Maintainer": "dm-bow tests <root@localhost>", "Description": "package of the boot tests",
    }
    control.update({key.replace("_", "-"): value for key, value in fields.items()})
    with tempfile.TemporaryDirectory() as work:
        tree = Path(work, name)
        (tree / "DEBIAN").mkdir(parents=True, mode=0o755)
        tree.chmod(0o755)
        (tree / "DEBIAN/control").write_text("".join(f"{key}: {value}\n" for key, value in control.items()))
        for path, text in {**(files or {}), **{f"DEBIAN/{key}": text for key, text in (scripts or {}).items()}}.items():
            file = tree / path
            file.parent.mkdir(parents=True, exist_ok=True)
            data = text if isinstance(text, bytes) else text.encode()
            file.write_bytes(data)
            file.chmod(0o755 if data.startswith(b"#!") else 0o644)
        for path in tree.rglob("*"):
            if path.is_dir():
                path.chmod(0o755)
        subprocess.run(["dpkg-deb", "-Zgzip", "-z1", "--root-owner-group", "-b", tree, folder], check=True,
                       stdout=subprocess.DEVNULL)


def index(folder):
    """Writes the file Packages of an archive, from the packages that are in FOLDER."""
    lines = []
    for deb in sorted(folder.glob("*.deb")):
        data = deb.read_bytes()
        fields = subprocess.run(["dpkg-deb", "-f", deb], check=True, capture_output=True, text=True).stdout
        lines.append(f"{fields.rstrip()}\nFilename: {folder.name}/{deb.name}\nSize: {len(data)}\n"
                     f"SHA256: {hashlib.sha256(data).hexdigest()}\n\n")
    (folder / "Packages").write_text("".join(lines))


def disk(tree, file):
    """Makes FILE an ext4 file system that holds TREE."""
    used = sum(path.stat().st_blocks for path in tree.rglob("*") if path.is_file()) >> 11
    Path(file).unlink(missing_ok=True)
    subprocess.run(["truncate", "-s", f"{used + used // 16 + 16}M", file], check=True)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-L", "archive", "-m", "0", "-O", "^has_journal",
                    "-E", "root_owner=0:0", "-d", tree, file], check=True)


def copy(debs, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for deb in debs:
        shutil.copy(deb, folder)
