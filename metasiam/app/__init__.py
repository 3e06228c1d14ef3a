"""The drawing app: a page in the browser where people draw, and a small server that answers."""
