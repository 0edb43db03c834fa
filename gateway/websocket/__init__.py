"""WebSockets through the gateway: handshake, frames both ways, billing by connection or by message (docs/websockets.md)."""
