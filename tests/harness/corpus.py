"""More than a million real records: who announces which address range of the internet.

An npm package ships them as CSV (RouteViews and DB-IP), pinned by tests/clients/node/package-lock.json
and checked here. A record is a line; its key is the number of the autonomous system.
"""
import functools
import hashlib

from local import SETUP

FOLDER = SETUP / "node/node_modules/@ip-location-db/asn"
FILES = ["asn-ipv4.csv", "asn-ipv6.csv", "asn-ipv4-num.csv", "asn-ipv6-num.csv"]
RECORDS = 1_030_316
SHA256 = "3ad79d94acf60cc0a2e5d376ed01a803aeaff24015454fa7250f12a380777010"


@functools.cache
def lines():
    """Every record, in the order of the files: exactly the bytes of the pinned package."""
    data = b"".join((FOLDER / name).read_bytes() for name in FILES)
    digest = hashlib.sha256(data).hexdigest()
    assert digest == SHA256, f"the corpus is not the pinned one: {digest}"
    found = [line for line in data.split(b"\n") if line]
    assert len(found) == RECORDS, len(found)
    return found


def key(line):
    return line.split(b",", 3)[2]
