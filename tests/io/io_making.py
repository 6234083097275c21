"""Files for the tests of `restora.io`, made by other means than the room's own writers."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

ADOBE = (0.60974, 0.31111, 0.01947, 0.20528, 0.62567, 0.06087, 0.14919, 0.06322, 0.74457)
P3 = (0.51512, 0.24120, -0.00105, 0.29198, 0.69225, 0.04189, 0.15710, 0.06657, 0.78407)
PROPHOTO = (0.79767, 0.28804, 0.0, 0.13519, 0.71188, 0.0, 0.03134, 0.00009, 0.82491)
SRGB = (0.43607, 0.22249, 0.01392, 0.38515, 0.71687, 0.09708, 0.14307, 0.06061, 0.7141)
SRGB_PARA = (3, (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))

XMP = (
    b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description tiff:Orientation="%d" '
    b'dc:title="A boat"/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


def noise(height=24, width=33, channels=3, dtype=np.uint8, seed=0, top=None):
    rng = np.random.default_rng(seed)
    shape = (height, width, channels) if channels else (height, width)
    if np.dtype(dtype).kind == "f":
        return rng.normal(0.5, 0.5, shape).astype(dtype)
    return rng.integers(0, (top or np.iinfo(dtype).max) + 1, shape).astype(dtype)


def smooth(height=48, width=64, channels=3):
    y, x = np.mgrid[0:height, 0:width]
    planes = [128 + 90 * np.sin(x / (9 + i) + i) * np.cos(y / (11 - i)) for i in range(channels)]
    return np.stack(planes, -1).round().astype(np.uint8)


def exif(orientation=1, thumbnail=False, order="<"):
    """A block with maker note, camera, size tags, and perhaps a thumbnail at the end."""
    make, note = b"Restora Optical\0", b"\x01maker\xffnote\x00\x02\x03"

    def directory(records, at, following=0):
        body, values = b"", b""
        place = at + 2 + 12 * len(records) + 4
        for tag, kind, value in records:
            if kind == 3:
                body += struct.pack(order + "HHIHH", tag, 3, 1, value, 0)
            elif kind == 4:
                body += struct.pack(order + "HHII", tag, 4, 1, value)
            else:
                body += struct.pack(order + "HHII", tag, kind, len(value), place + len(values))
                values += value + b"\0" * (len(value) % 2)
        return struct.pack(order + "H", len(records)) + body + struct.pack(order + "I", following) + values

    root = [(271, 2, make), (274, 3, orientation), (34665, 4, 0)]
    length = len(directory(root, 8))
    photo = [(0x9003, 2, b"1999:12:31 23:59:59\0"), (0x927C, 7, note), (0xA002, 4, 33), (0xA003, 3, 24)]
    branch = directory(photo, 8 + length)
    root[2] = (34665, 4, 8 + length)
    end = 8 + length + len(branch)
    block = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    block += directory(root, 8, end if thumbnail else 0) + branch
    if thumbnail:
        picture = jpeg(smooth(8, 8))
        small = directory([(513, 4, end + 30), (514, 4, len(picture))], end)
        assert len(small) == 30
        block += small + picture
    return block


def profile(colorants=ADOBE, curve=(2.19921875,), name="Test RGB", version=2):
    """A matrix profile: `curve` is a gamma, a tuple of table entries (0..65535), or (kind, parameters) of a 'para'."""

    def number(v):
        return struct.pack(">i", round(v * 65536))

    if len(curve) == 2 and isinstance(curve[1], tuple):
        trc = b"para\0\0\0\0" + struct.pack(">HH", curve[0], 0) + b"".join(map(number, curve[1]))
    elif len(curve) == 1:
        trc = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(curve[0] * 256)) + b"\0\0"
    else:
        trc = b"curv\0\0\0\0" + struct.pack(f">I{len(curve)}H", len(curve), *curve)
        trc += b"\0" * (-len(trc) % 4)
    text = name.encode() + b"\0"
    if version == 2:
        desc = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + b"\0" * 78
    else:
        wide = name.encode("utf-16-be")
        desc = b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(wide), 28) + wide
    desc += b"\0" * (-len(desc) % 4)
    xyz = [b"XYZ \0\0\0\0" + b"".join(map(number, colorants[i : i + 3])) for i in (0, 3, 6)]
    white = b"XYZ \0\0\0\0" + b"".join(map(number, (0.9642, 1.0, 0.8249)))
    tags = [(b"desc", desc), (b"cprt", desc), (b"wtpt", white), (b"rXYZ", xyz[0]), (b"gXYZ", xyz[1]), (b"bXYZ", xyz[2])]
    tags += [(b"rTRC", trc), (b"gTRC", trc), (b"bTRC", trc)]
    return _profile(tags, b"mntr", b"RGB ", b"XYZ ", version)


def _profile(tags, kind, space, pcs, version=2):
    place, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for tag, data in tags:
        table += struct.pack(">4sII", tag, place + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", place + len(body), b"lcms", version << 24, kind, space, pcs)
    head += struct.pack(">6H4s", 2020, 1, 1, 0, 0, 0, b"acsp") + bytes(24)
    head += struct.pack(">I3i", 0, 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def cmyk_profile():
    """Inks to Lab through a table of two points an axis; no ink is white, and its cyan is a wild one."""
    nodes = b""
    for c, m, y, k in np.ndindex(2, 2, 2, 2):
        light = 255 - 190 * k - 20 * (c + m + y)
        nodes += bytes([max(0, light), 128 - 60 * c + 40 * m, 128 - 40 * c + 60 * y])
    ramp = bytes(range(256))
    lut = (
        b"mft1\0\0\0\0"
        + bytes([4, 3, 2, 0])
        + b"".join(struct.pack(">i", v) for v in np.eye(3, dtype=int).ravel() * 65536)
    )
    lut += ramp * 4 + nodes + ramp * 3
    lut += b"\0" * (-len(lut) % 4)
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"inks\0" + b"\0" * 79
    tags = [(b"desc", text), (b"cprt", text), (b"wtpt", white), (b"A2B0", lut), (b"A2B1", lut)]
    return _profile(tags, b"prtr", b"CMYK", b"Lab ")


def pil(array, format, **options):
    file = io.BytesIO()
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image.save(file, format, **options)
    return file.getvalue()


def jpeg(array, **options):
    return pil(array, "JPEG", **{"quality": 95, "subsampling": 0} | options)


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(array, kind, depth=8, extra=b"", rows=None, size=None):
    """A PNG by hand, every row unfiltered. `rows` gives packed bytes for depths below 8."""
    height, width = size or array.shape[:2]
    if rows is None:
        rows = [row.astype(">u2" if depth == 16 else "u1").tobytes() for row in array]
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def text_chunk(key, value):
    return chunk(b"tEXt", key.encode() + b"\0" + value.encode())


def turned(array, orientation):
    """What a camera would have stored so that it shows `array` with this orientation."""
    return {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation](array).copy()
