"""What a report holds, unpacked."""

import base64
import gzip
import json
import re


def data_of(page):
    """The data of a report.html, as the page itself reads them."""
    packed = re.search(r'id="data">([0-9A-Za-z+/=]*)</script>', page).group(1)
    return json.loads(gzip.decompress(base64.b64decode(packed)))
