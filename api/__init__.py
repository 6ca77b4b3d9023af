"""Who watches and asks: HTTP routes and the live socket."""
