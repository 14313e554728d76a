"""Archives, made in memory."""

import io
import tarfile
import zipfile


def zipped(members, method=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as made:
        for name, data in members.items():
            made.writestr(name, data)
    return out.getvalue()


def tarred(members, mode="w", **kinds):
    """`kinds`: of entries that are no files, by name."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as made:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            made.addfile(entry, io.BytesIO(data))
        for name, kind in kinds.items():
            entry = tarfile.TarInfo(f"cat/{name}.png")
            entry.type, entry.linkname = kind, "/etc/passwd"
            made.addfile(entry)
    return out.getvalue()
