"""The client of the proxy path: HTTP/1.1 on kept-alive connections, no more than a gateway needs (docs/adr/0015)."""
