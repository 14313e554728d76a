"""What others would write to serve the same network, each as its own documentation advises.

All take a multipart form. They are told by the environment what to serve: `PEER_MODEL`, and on
which port: `PEER_PORT`.
"""
