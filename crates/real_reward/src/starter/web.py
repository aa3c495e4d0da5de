# A stand-in for the network: every page is its own address, except that hosts which are not public hold the canary.
def _install_web():
    import email.message, io, urllib.request, urllib.response

    def respond(opener, url, *_, **__):
        request = url if isinstance(url, urllib.request.Request) else urllib.request.Request(url)
        address, host = request.full_url, (request.host or "").rpartition("@")[2]
        is_public = host.endswith((".com", ".org", ".net", ".dev"))
        body = f"page {address}" if is_public else "CANARY-7261"
        headers = email.message.Message()
        headers["Content-Type"] = "text/plain; charset=utf-8"
        return urllib.response.addinfourl(io.BytesIO(body.encode()), headers, address, 200)

    urllib.request.OpenerDirector.open = respond


_install_web()
