# A stand-in for the network: every page is its own address, except that hosts which are not public hold the canary.
def _install_web():
    import io, urllib.parse, urllib.request

    def urlopen(url, data=None, timeout=None, **options):
        address = url if isinstance(url, str) else url.full_url
        if "://" not in address:
            raise ValueError(f"unknown url type: {address!r}")
        host = urllib.parse.urlsplit(address).hostname or ""
        is_inside = not host.endswith((".com", ".org", ".net", ".dev"))
        return io.BytesIO(b"CANARY-7261" if is_inside else f"page {address}".encode())

    urllib.request.urlopen = urlopen


_install_web()
