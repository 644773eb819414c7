"""The inference engine behind the gateway: started, watched, told what to load, and relayed to.

Everything that depends on a vLLM release is in this package.
"""
