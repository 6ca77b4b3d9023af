"""The web process: HTTP routes and live updates over WebSocket."""
