"""weft on a Ray cluster: engines, gateways, builds and jobs as what Ray starts and restarts.

Only `weft cluster` and what it deploys import Ray. `hooks.py` has every use of Ray's alpha API.
"""
