"""Live updates: STOMP over WebSocket and SockJS."""
